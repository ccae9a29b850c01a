"""Answers as OpenAI's API gives them, at once or as a stream."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tailgrad.serving.best import Best, Candidate
from tailgrad.serving.requests import ChatRequest, Request


@dataclass(frozen=True)
class Answer:
    """The answer to a request.

    Attributes:
        request: What was asked.
        best: The best of its samples.
        budget: The most samples that were allowed.
        outlook: What the rewards foretell, from `outlook`; empty where candidates are not returned.
        created: When, in seconds since 1970.
        number: What is unique in its id.
    """

    request: Request
    best: Best
    budget: int
    outlook: dict[str, Any] = field(default_factory=dict)
    created: int = field(default_factory=lambda: int(time.time()))
    number: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def _is_chat(self) -> bool:
        return isinstance(self.request, ChatRequest)

    @property
    def content(self) -> dict[str, Any]:
        """The body of an answer that comes at once."""
        text, end = self.best.winner.text, _reason(self.best.winner)
        said: dict[str, Any] = {"message": {"role": "assistant", "content": text}} if self._is_chat else {"text": text}
        choice = {"index": 0, **said, "logprobs": None, "finish_reason": end}
        kind = "chat.completion" if self._is_chat else "text_completion"
        return {**self._head(kind), "choices": [choice], "usage": self.usage, "tailgrad": self.extras}

    def events(self) -> Iterator[bytes]:
        """The same as server-sent events: the winner in pieces; usage and extras with the last."""
        kind = "chat.completion.chunk" if self._is_chat else "text_completion"
        head, pieces = self._head(kind), re.findall(r"\s*\S+|\s+", self.best.winner.text)
        if self._is_chat:
            yield _event({**head, "choices": [self._piece({"role": "assistant", "content": ""})]})
        for piece in pieces:
            yield _event({**head, "choices": [self._piece({"content": piece} if self._is_chat else piece)]})
        last = self._piece({} if self._is_chat else "", _reason(self.best.winner))
        yield _event({**head, "choices": [last], "tailgrad": self.extras})
        if self.request.stream_options is not None and self.request.stream_options.include_usage:
            yield _event({**head, "choices": [], "usage": self.usage})
        yield b"data: [DONE]\n\n"

    @property
    def usage(self) -> dict[str, int] | None:
        """Tokens of all samples, not of the winner alone; None where the policy's server does not count them."""
        prompt, completion = self.best.prompt_tokens, self.best.completion_tokens
        if prompt is None or completion is None:
            return None
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    @property
    def numbers(self) -> dict[str, Any]:
        """How many samples there were, and what the winner's reward is."""
        best = self.best
        return {
            "best_of_n": self.budget,
            "asked": best.asked,
            "scored": best.scored,
            "unscored": best.unscored,
            "failed": best.failed,
            "reward": best.winner.reward,
        }

    @property
    def extras(self) -> dict[str, Any]:
        """What OpenAI's API has no field for."""
        said = {**self.numbers, "reasons": list(self.best.reasons), "notes": list(self.best.notes)}
        if not self.request.return_candidates:
            return said
        candidates = [
            {"text": one.text, "reward": one.reward, "finish_reason": _reason(one)} for one in self.best.candidates
        ]
        return {**said, "candidates": candidates, **self.outlook}

    def _head(self, kind: str) -> dict[str, Any]:
        prefix = "chatcmpl" if self._is_chat else "cmpl"
        return {
            "id": f"{prefix}-{self.number}",
            "object": kind,
            "created": self.created,
            "model": self.request.model,
        }

    def _piece(self, said: Any, end: str | None = None) -> dict[str, Any]:
        return {"index": 0, "delta" if self._is_chat else "text": said, "logprobs": None, "finish_reason": end}


def _reason(candidate: Candidate) -> str:
    return "stop" if candidate.finished else "length"


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content, ensure_ascii=False).encode() + b"\n\n"
