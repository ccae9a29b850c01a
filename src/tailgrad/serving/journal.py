"""The log: one JSON line per request on the standard error, without prompts unless asked for."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from tailgrad.serving.answers import Answer
from tailgrad.serving.errors import ApiError


class Journal:
    """Writes what happened.

    Args:
        prompts: Whether prompts, winners and the reasons of failures, which may quote them, are written.
    """

    def __init__(self, prompts: bool) -> None:
        self._prompts = prompts

    def write(self, event: str, **fields: Any) -> None:
        """Write a line.

        Args:
            event: What happened, one word.
            **fields: What belongs to it, as JSON types.
        """
        line = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "event": event, **fields}
        print(json.dumps(line, default=str), file=sys.stderr, flush=True)

    def of_error(self, error: ApiError | None) -> dict[str, Any]:
        """What a line says of an error.

        Args:
            error: The error; None where there is none.
        """
        if error is None:
            return {}
        said = {"error": error.code or error.param}
        return said | ({"message": error.message} if self._prompts else {})

    def of_answer(self, answer: Answer | None) -> dict[str, Any]:
        """What a line says of an answer.

        Args:
            answer: The answer; None where there is none.
        """
        if answer is None:
            return {}
        said = {**answer.numbers, "usage": answer.usage}
        if self._prompts:
            said |= {
                "reasons": answer.best.reasons,
                "prompt": answer.request.prompt_to_sample,
                "winner": answer.best.winner.text,
            }
        return said
