"""The tail of a prompt's rewards as a stopping rule sees it: the fitted shape, and how sure the fit is."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from tailgrad.tails.constants import gaussian_tail
from tailgrad.tails.shapes import FittedTail, tail_shape
from tailgrad.tails.statistics import tail_size

TAIL_FRACTION = 0.25
"""The share of a prompt's rewards that makes its tail."""
FEWEST = {"gaussian": 16, "exponential": 4}
"""A tail holds at least this many rewards, where there are so many: a whole normal sample tells its tail, too."""


class TailEstimate(NamedTuple):
    """A location-scale shape fitted to the top of each prompt's rewards; NaN where nothing is scored.

    If the true spread were s, the location would be normal about centre - below s, with variance s^2 / location_weight.
    """

    centre: Float[Tensor, " P"]
    below: Float[Tensor, " P"]
    spread: Float[Tensor, " P"]
    """0 where it cannot be told: one reward, or equal ones."""
    spread_weight: Float[Tensor, " P"]
    """Degrees of freedom of the spread; 0 of one reward."""
    location_weight: Float[Tensor, " P"]


def tail_estimate(rewards: Float[Tensor, "P M"], tail: str) -> TailEstimate:
    """Fit a shape to the top of each prompt's rewards: a quarter of them, but at least `FEWEST`.

    Args:
        rewards: Rewards in float64; NaN where not drawn or not scored.
        tail: A key of `tailgrad.tails.TAIL_SHAPES`.

    Returns:
        One estimate per prompt.

    Raises:
        ValueError: If the shape is unknown.
    """
    tail_shape(tail)
    if tail not in FEWEST:
        raise ValueError(f"tail = {tail!r} has no stopping rule: choose one of {', '.join(FEWEST)}")
    scored = (~torch.isnan(rewards)).sum(dim=1)
    found = torch.full((5, len(rewards)), torch.nan, dtype=torch.float64)
    for count in scored.unique().tolist():
        if count:
            rows = scored == count
            found[:, rows] = _of_equal_size(rewards[rows], int(count), tail)
    return TailEstimate(*found)


def tail_share(count: int, tail: str) -> float:
    """The share of so many rewards that makes their tail.

    Args:
        count: Rewards of a prompt.
        tail: A key of `FEWEST`.

    Examples:
        >>> tail_share(8, "gaussian"), tail_share(32, "gaussian"), tail_share(128, "gaussian")
        (1.0, 0.5, 0.25)
    """
    return max(TAIL_FRACTION, min(1.0, FEWEST[tail] / count))


def _of_equal_size(rewards: Float[Tensor, "P M"], count: int, tail: str) -> Float[Tensor, "5 P"]:
    fraction = tail_share(count, tail)
    if count == 1:  # no spread of its own; the one reward is where it lies
        only = rewards.nan_to_num(nan=-torch.inf).amax(dim=1, keepdim=True)
        nothing, one = torch.zeros_like(only), torch.ones_like(only, dtype=torch.int64)
        fitted = FittedTail(only, nothing, nothing, one, one)
    else:
        fitted = tail_shape(tail).fit(rewards, tail_fraction=fraction)
    parts = _ESTIMATES[tail](fitted, fraction, tail_size(count, fraction), count)
    return torch.cat([part.expand_as(fitted.threshold) for part in parts], dim=1).T


def _gaussian(fitted: FittedTail, fraction: float, size: int, count: int) -> tuple[Tensor, ...]:
    """The tail's mean is held, and the normal distribution's lies the tail's lambda below it.

    The k rewards of a tail tell less of the spread than k of a whole sample: 0.55 (k - 1) degrees of freedom for a
    quarter of a normal sample, 0.66 (k - 1) for half of it. The variance of a tail's mean is near s^2 / (n sqrt alpha).
    """
    constants = gaussian_tail(fraction)
    weight = (size - 1) * (1.0 if fraction == 1 else 0.45 + 0.42 * fraction)
    spread = fitted.scale * (size / max(size - 1, 1)) ** 0.5 / constants.std
    numbers = (fitted.scale.new_tensor([[value]]) for value in (constants.mean, weight, count * fraction**0.5))
    below, spread_weight, location_weight = numbers
    return fitted.threshold + fitted.location, below, spread, spread_weight, location_weight


def _exponential(fitted: FittedTail, fraction: float, size: int, count: int) -> tuple[Tensor, ...]:
    """The threshold is held: the k-th largest of n exponentials lies s (H_n - H_(k-1)) over where they begin."""
    place = fitted.scale.new_tensor([[float(size)], [float(count + 1)]])
    below = torch.digamma(place[1:]) - torch.digamma(place[:1])
    noise = torch.polygamma(1, place[:1]) - torch.polygamma(1, place[1:])
    return fitted.threshold, below, fitted.scale, fitted.scale.new_tensor([[(size - 1) / 2]]), 1 / noise


_ESTIMATES = {"gaussian": _gaussian, "exponential": _exponential}
