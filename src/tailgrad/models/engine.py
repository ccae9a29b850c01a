"""What samples responses where tailgrad does not run the model itself: one interface for servers and vLLM."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Response:
    """One response, as far as an engine tells.

    Attributes:
        text: The text without special tokens.
        finished: Whether it ended by itself.
        num_tokens: Its tokens without the end token; None if not known, as all below.
        logprob: Sum of the log-probabilities of its tokens, in nats, end token included.
        token_ids: Its tokens, end token included.
    """

    text: str
    finished: bool
    num_tokens: int | None = None
    logprob: float | None = None
    token_ids: list[int] | None = None


class Engine(Protocol):
    """Samples n responses to each prompt of a data set."""

    def responses(self, parts: Sequence[range]) -> Iterator[tuple[int, list[Response]]]:
        """Sample the prompts in these rows of the data set.

        Args:
            parts: The rows, a few at a time, in the order in which they are wanted.

        Yields:
            A row and n responses to the prompt in it, in any order. An error comes after all that was finished.
        """
