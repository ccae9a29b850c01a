"""What samples responses to one prompt at a time, and can be told to stop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tailgrad.models.engine import Response
from tailgrad.rollouts.chats import Prompt


@dataclass(frozen=True)
class Wish:
    """What is asked of a policy.

    Attributes:
        prompt: The prompt: a string, or a chat.
        shaping: What shapes a response, by transformers' names, where it is not as the policy's default.
        seed: Of the random numbers; None: whatever they are.
        stop: Texts that end a response, and do not stand in it.
    """

    prompt: Prompt
    shaping: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Draw:
    """Responses to one prompt.

    Attributes:
        responses: Those that were given, as many as asked for or fewer.
        completions: The same as rewards see them.
        reasons: Why others are missing, each reason once.
        prompt_tokens: Tokens read, as the one who ran the model counts them; None where it does not.
        completion_tokens: Tokens sampled, end tokens included; None likewise.
        notes: What else there is to know of the responses.
    """

    responses: list[Response]
    completions: list[Any]
    reasons: tuple[str, ...] = ()
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    notes: tuple[str, ...] = ()


class Policy(Protocol):
    """Samples responses to a prompt."""

    name: str

    async def draw(self, wish: Wish, count: int, first: int) -> Draw:
        """Sample some responses. When the task is cancelled, so are the samples.

        Args:
            wish: What is asked.
            count: How many responses.
            first: How many were drawn before, so that a seed gives others.

        Returns:
            The responses; what failed is missing.

        Raises:
            ValueError: The wish itself cannot be met, by any try.
        """

    async def aclose(self) -> None:
        """Give back what is held in this loop."""


def known_total(counts: Iterable[int | None]) -> int | None:
    """Return the sum of counts; None where one of them is not known.

    Args:
        counts: The counts.
    """
    total = 0
    for count in counts:
        if count is None:
            return None
        total += count
    return total
