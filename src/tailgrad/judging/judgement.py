"""What a judge is: it says of two answers which one is better, in one order of presentation or in both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Asked = tuple[int, int]
"""The place of a pair, and an order: 0 where the reference's answer stands first, 1 where the other's does."""


@dataclass(frozen=True)
class Judgement:
    """What a judge said of one pair in one order.

    Attributes:
        pair: The place of the pair.
        order: 0 where the reference's answer stood first, 1 where the other's did.
        score: 1 where the other's answer is better, 0 where the reference's is, 1/2 for a tie; None where what the
            judge said cannot be read.
        said: It: the reply of a language model, or the rewards of the two answers; `{"refused": why}` where a server
            would not take the pair.
    """

    pair: int
    order: int
    score: float | None
    said: Any

    @property
    def is_refused(self) -> bool:
        """Whether a server would not take it."""
        return isinstance(self.said, dict) and "refused" in self.said


class Judge(Protocol):
    """Judges pairs of answers."""

    @property
    def name(self) -> str:
        """What reports call it."""

    @property
    def orders(self) -> tuple[int, ...]:
        """The orders in which each pair is shown to it."""

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides what it says; JSON types only."""

    @property
    def about(self) -> dict[str, Any]:
        """What a reader of its judgements may want to know besides."""

    def cost(self, asked: Sequence[Asked]) -> str:
        """Say what it costs to ask all this.

        Args:
            asked: What is to be judged.
        """

    def shown(self, asked: Asked) -> str:
        """Give what it would be shown.

        Args:
            asked: What is to be judged.
        """

    def judged(self, asked: Sequence[Asked], *, has_judged: bool) -> Iterator[Judgement]:
        """Judge.

        Args:
            asked: What is to be judged.
            has_judged: Whether it has judged other pairs before, so that one that is refused is refused for itself.

        Yields:
            A judgement of each, in any order. An error comes after all that was finished.
        """
