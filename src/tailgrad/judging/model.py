"""A language model as the judge, behind a server with an OpenAI-compatible API; each pair is shown in both orders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import takewhile
from typing import Any, Final

from tailgrad.identity import sha256_of
from tailgrad.judging.answers import Match
from tailgrad.judging.config import JudgeConfig
from tailgrad.judging.judgement import Asked, Judgement
from tailgrad.judging.prompt import filled, question_of, read_template, verdict_of
from tailgrad.models.engine import Response
from tailgrad.models.openai_engine import OpenAIEngine, RefusedPromptError
from tailgrad.models.openai_requests import request_settings
from tailgrad.rollouts.chats import prompts_of_texts
from tailgrad.rollouts.engines import openai_server

_CHARACTERS_PER_TOKEN: Final = 4
"""About, of English in the tokenizers of today; the judge's own is not known here."""

_SCORES: Final = {"A": 0.0, "B": 1.0, "C": 0.5}
"""What a verdict is worth to the answer that stands second."""

_REFUSALS: Final = 3
"""After the refusals of so many prompts, and no answer, it is not the pairs that a server refuses."""


class ModelJudge:
    """Asks a language model, and reads one letter of its reply.

    Args:
        config: Names the server, the model and its prompt.
        match: What is judged.

    Raises:
        FileNotFoundError: There is no such file of a prompt.
        ValueError: It cannot be one.
    """

    orders = (0, 1)

    def __init__(self, config: JudgeConfig, match: Match) -> None:
        self._config, self._match, self._template = config, match, read_template(config.judge_prompt)
        self._questions = [question_of(prompt) for prompt in prompts_of_texts([pair.prompt for pair in match.pairs])]
        self.name = str(config.judge_model)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The model, its prompt and what shapes its replies; a server may move."""
        return {
            "judge": self.name,
            "judge_prompt": sha256_of(self._template),
            "temperature": self._config.temperature,
            "max_completion_length": self._config.max_completion_length,
        }

    @property
    def about(self) -> dict[str, Any]:
        """The prompt in full."""
        return {"judge_prompt": self._template}

    def cost(self, asked: Sequence[Asked]) -> str:
        """Say how many requests and tokens there are; see `Judge`."""
        tokens = sum(len(self._text(one)) for one in asked) // _CHARACTERS_PER_TOKEN
        most = len(asked) * self._config.max_completion_length
        return (
            f"{len(asked)} requests to {self._config.base_url} for {self.name}: about {tokens} prompt tokens (at "
            f"{_CHARACTERS_PER_TOKEN} characters per token), about {len(asked)} completion tokens if it replies with "
            f"one letter, and at most {most}"
        )

    def shown(self, asked: Asked) -> str:
        """The prompt; see `Judge`."""
        return self._text(asked)

    def judged(self, asked: Sequence[Asked], *, has_judged: bool) -> Iterator[Judgement]:
        """Ask the server; see `Judge`.

        A pair that it refuses, as one that is too long for the judge, is a judgement that cannot be read, once the
        server has answered to another one. Until then its refusals may be those of all pairs: after a few nothing more
        is asked, and what is on its way decides.
        """
        engine, refusals = self._engine(asked), list[RefusedPromptError]()
        left = dict.fromkeys(range(len(asked)))
        while left:
            rows = takewhile(lambda _: self._prompts_of(asked, refusals) < _REFUSALS, list(left))
            for row, reply in engine.replies(rows):
                del left[row]
                if isinstance(reply, RefusedPromptError):
                    refusals.append(reply)
                else:
                    has_judged = True
                    yield self._judgement(asked[row], reply)
                while has_judged and refusals:
                    refusal = refusals.pop(0)
                    yield Judgement(*asked[refusal.row], None, {"refused": refusal.reason})
            if not has_judged:
                raise refusals[0]

    def _prompts_of(self, asked: Sequence[Asked], refusals: Sequence[RefusedPromptError]) -> int:
        return len({self._match.pairs[asked[one.row][0]].prompt_id for one in refusals})

    def _engine(self, asked: Sequence[Asked]) -> OpenAIEngine:
        config = self._config
        shaping = {"temperature": config.temperature, "top_p": 1.0, "top_k": 0}
        return OpenAIEngine(
            openai_server(str(config.base_url), timeout=config.request_timeout, connections=config.concurrency),
            self.name,
            [[{"role": "user", "content": self._text(one)}] for one in asked],
            n=1,
            settings=request_settings(shaping | {"max_new_tokens": config.max_completion_length}),
            concurrency=config.concurrency,
            logprobs=False,
            name_of=lambda row: f"the two answers to prompt {self._match.pairs[asked[row][0]].prompt_id}",
        )

    def _judgement(self, asked: Asked, response: Response) -> Judgement:
        pair, order = asked
        verdict = verdict_of(response.text, finished=response.finished)
        return Judgement(pair, order, None if verdict is None else _score(verdict, order), response.text)

    def _text(self, asked: Asked) -> str:
        pair, order = asked
        first, second = (str(self._match.pairs[pair].answers[place]) for place in ((0, 1), (1, 0))[order])
        return filled(self._template, self._questions[pair], first, second)


def _score(verdict: str, order: int) -> float:
    """What a verdict is worth to the second table's answer."""
    of_second = _SCORES[verdict]
    return of_second if order == 0 else 1.0 - of_second
