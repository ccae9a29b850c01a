"""When to stop sampling a prompt: what a stopping rule is, and the plainest one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Float
from torch import Tensor


class StoppingRule(Protocol):
    """Says after each batch of a prompt's samples how many more to draw; it sees no reward before that is paid for."""

    def more(self, rewards: Float[Tensor, " M"]) -> int:
        """Return how many samples to draw next; 0 stops.

        Args:
            rewards: Those of all samples of the prompt so far, in the order in which they were drawn; none at first.
                NaN for one that failed or was not scored: it was paid for.
        """


@dataclass(frozen=True)
class FixedBudget:
    """N samples per prompt, all at once.

    Attributes:
        n: The samples.
    """

    n: int

    def more(self, rewards: Float[Tensor, " M"]) -> int:
        """Return what is missing of N: all of them at first.

        Args:
            rewards: Those of the samples so far.
        """
        return max(0, self.n - len(rewards))
