"""Choose one of several estimators and m by the value of a step, and say what is level with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from tailgrad.estimators import find_estimator, parse_estimator
from tailgrad.statistics.intervals import Interval
from tailgrad.statistics.jackknife import jackknife_interval

MARGIN: Final = 0.05
"""Share of the largest value that counts as no difference: the model is not better than that."""


class Choice(NamedTuple):
    """What to train with.

    Attributes:
        chosen: Place of the estimator and m to take.
        best: Place of the largest value.
        level: Which are level with the best: the interval of the difference reaches 0, or it is within 5%.
        difference: Each value less the chosen one's.
    """

    chosen: int
    best: int
    level: Bool[np.ndarray, " C"]
    difference: Interval


def choose(groups: Sequence[tuple[str, int]], value: Float[np.ndarray, "C R"], *, seed: int = 0) -> Choice:
    """Choose the largest value, but the mean's estimator if it is level with it, and of one estimator a small m.

    Of the chosen estimator it takes the smallest m whose value is within 5% of the largest of its own: as many prompts
    per step as cost nothing.

    Args:
        groups: Estimators and their m.
        value: Expected cosine of a step, of all prompts, then without each; NaN where unknown.
        seed: Seed of the bootstrap.

    Returns:
        The choice.

    Raises:
        ValueError: No value is known.

    Examples:
        >>> values = np.array([[0.3], [0.5], [0.51]]) + np.array([0.0, 0.01, -0.01, 0.02, -0.02])
        >>> found = choose([("grpo", 8), ("tea", 8), ("tea", 16)], values)
        >>> found.chosen, found.best, found.level.tolist()
        (1, 2, [False, True, True])
    """
    known = np.isfinite(value).all(axis=1)
    if not known.any():
        raise ValueError(
            "the pool shows no gradient of V_N: its halves contradict each other. Sample more responses per prompt, or "
            "plan for a smaller N."
        )
    centre = np.where(known, value[:, 0], -np.inf)
    best = int(centre.argmax())
    to_best = _differences(value, best, seed)
    level = known & ((to_best.high >= 0) | (centre >= (1 - MARGIN) * centre[best]))
    names = [name for name, _ in groups]
    plain = [name for name in dict.fromkeys(names) if find_estimator(parse_estimator(name)[0]).follows_mean]
    means = [name for name in plain if any(level[place] for place, one in enumerate(names) if one == name)]
    name = means[0] if means else names[best]
    own = [place for place, one in enumerate(names) if one == name and known[place]]
    enough = (1 - MARGIN) * max(centre[place] for place in own)
    chosen = min((place for place in own if centre[place] >= enough), key=lambda place: groups[place][1])
    return Choice(chosen, best, level, _differences(value, chosen, seed))


def _differences(value: Float[np.ndarray, "C R"], reference: int, seed: int) -> Interval:
    gap = value - value[reference]
    return jackknife_interval(gap[:, 0], gap[:, 1:].T, seed=seed)
