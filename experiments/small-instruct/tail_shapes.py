"""The verifier's reward bent to other upper tails.

Both functions rise with the reward of `constraints.py`, so they put the responses to a prompt in the same order and the
best of N is the same response; only the distances differ. `heavy` is exp(score - 5), a tail like that of a lognormal
variable; `light` is -exp(5 - score), which ends at 0. Each is a reward function for `tailgrad`.
"""

from collections.abc import Sequence

import numpy as np
from constraints import score
from numpy.typing import ArrayLike

Completion = str | list[dict[str, str]]
CENTRE = 5.0
"""Near the mean score of the starting policies."""


def bent_up(scores: ArrayLike) -> np.ndarray:
    """exp(score - 5)."""
    return np.exp(np.asarray(scores) - CENTRE)


def bent_down(scores: ArrayLike) -> np.ndarray:
    """-exp(5 - score)."""
    return -np.exp(CENTRE - np.asarray(scores))


def heavy(completions: Sequence[Completion], checks: Sequence[str], **_: object) -> list[float]:
    """Rewards of a batch with a heavy upper tail."""
    return bent_up(score(completions, checks)).tolist()


def light(completions: Sequence[Completion], checks: Sequence[str], **_: object) -> list[float]:
    """Rewards of a batch with a light upper tail."""
    return bent_down(score(completions, checks)).tolist()
