"""The candidates of one prompt, and the best of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from tailgrad.models.engine import Response
from tailgrad.serving.policy import Draw, known_total


class NoWinnerError(RuntimeError):
    """No sample was given, or none of them was scored.

    Args:
        message: Why.
        timed_out: Whether a reward took too long.
    """

    def __init__(self, message: str, *, timed_out: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out


@dataclass(frozen=True)
class Candidate:
    """One sample.

    Attributes:
        text: The response.
        reward: Its reward; None where it was not scored, and then it never wins.
        finished: Whether it ended by itself.
        num_tokens: Its tokens without the end token; None if not known.
    """

    text: str
    reward: float | None
    finished: bool
    num_tokens: int | None


@dataclass(frozen=True)
class Best:
    """The best of N, and what it took.

    Attributes:
        winner: The sample with the largest reward; of equal ones the first.
        candidates: All samples that were given, in the order in which they were drawn.
        asked: Samples asked for.
        reasons: Why some were not given or not scored, each reason once.
        prompt_tokens: Tokens read for all samples, as the one who ran the model counts them; None where it does not.
        completion_tokens: Tokens of all samples, end tokens included; None likewise.
        notes: What else there is to know of the samples, each note once.
    """

    winner: Candidate
    candidates: tuple[Candidate, ...]
    asked: int
    reasons: tuple[str, ...] = ()
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The winner's text."""
        return self.winner.text

    @property
    def failed(self) -> int:
        """Samples that the policy did not give."""
        return self.asked - len(self.candidates)

    @property
    def unscored(self) -> int:
        """Samples that were given and not scored."""
        return sum(one.reward is None for one in self.candidates)

    @property
    def scored(self) -> int:
        """Samples that the winner is the best of."""
        return len(self.candidates) - self.unscored


class Spent(NamedTuple):
    """What some samples took, whatever comes of them."""

    scored: int
    unscored: int
    """Given, and not scored."""
    failed: int
    """Not given."""
    prompt_tokens: int | None
    """As those of `Draw`."""
    completion_tokens: int | None


@dataclass
class Group:
    """The samples of one prompt so far.

    Attributes:
        spent: Is told of each draw what it took.
        asked: Samples asked for.
    """

    spent: Callable[[Spent], None] | None = None
    asked: int = 0
    _candidates: list[Candidate] = field(default_factory=list)
    _rewards: list[float | None] = field(default_factory=list)
    _reasons: list[str] = field(default_factory=list)
    _tokens: list[tuple[int | None, int | None]] = field(default_factory=list)
    _notes: list[str] = field(default_factory=list)

    def add(self, count: int, draw: Draw, rewards: Sequence[float | None], reason: str | None) -> None:
        """Take in a draw, and say what it took.

        Args:
            count: Samples that were asked for.
            draw: What was given.
            rewards: One per response.
            reason: Why none was scored, if so.
        """
        self.asked += count
        self._candidates += map(_candidate, draw.responses, rewards)
        self._rewards += [*rewards, *[None] * (count - len(rewards))]
        self._reasons += [*draw.reasons, *([] if reason is None else [reason])]
        self._notes += draw.notes
        self._tokens.append((draw.prompt_tokens, draw.completion_tokens))
        if self.spent is not None:
            unscored = sum(reward is None for reward in rewards)
            tokens = (draw.prompt_tokens, draw.completion_tokens)
            self.spent(Spent(len(rewards) - unscored, unscored, count - len(rewards), *tokens))

    @property
    def is_empty(self) -> bool:
        """Whether there is no sample with a reward."""
        return all(reward is None for reward in self._rewards)

    @property
    def rewards(self) -> Float[Tensor, " M"]:
        """What a stopping rule is shown: a reward per sample asked for, NaN for one that failed or was not scored."""
        shown = [math.nan if reward is None else reward for reward in self._rewards]
        return torch.tensor(shown, dtype=torch.float64)

    def best(self) -> Best:
        """Return the best.

        Raises:
            NoWinnerError: There is none.
        """
        reasons = tuple(dict.fromkeys(self._reasons))
        scored = [(one.reward, one) for one in self._candidates if one.reward is not None]
        if not scored:
            why = "; ".join(reasons) or "the reward scored none (None or NaN for each)"
            raise NoWinnerError(f"{len(self._candidates)} of {self.asked} samples were given and none is scored: {why}")
        prompt_tokens, completion_tokens = zip(*self._tokens, strict=True)
        return Best(
            winner=max(scored, key=lambda pair: pair[0])[1],
            candidates=tuple(self._candidates),
            asked=self.asked,
            reasons=reasons,
            prompt_tokens=known_total(prompt_tokens),
            completion_tokens=known_total(completion_tokens),
            notes=tuple(dict.fromkeys(self._notes)),
        )


def _candidate(response: Response, reward: float | None) -> Candidate:
    return Candidate(response.text, reward, response.finished, response.num_tokens)
