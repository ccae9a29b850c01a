"""What rewards of other prompts tell about those of the next one, before it has many of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.special import polygamma, psi
from torch import Tensor

from tailgrad.serving.tail_fit import tail_estimate
from tailgrad.tails.levels import levels_of, log_chance_of_none
from tailgrad.types import Rewards, check_rewards

_MOST_WEIGHT = 24.0
"""A prior counts as this many responses at most: prompts whose rewards agree in bulk may differ in the tail."""
_GROUP = 16
"""Responses whose spread is estimated at once: about as many as a rule sees when the prior still counts."""
_ALIKE = 1e-6
"""Rewards that differ by no more than this share of the spread are one level: they may be rounded to float32."""
_TRIALS = tuple(sorted({*range(33), *(round(2 ** (step / 8)) for step in range(40, 161))}))
"""The lengths of series of failures that a prior of levels keeps the chance of; up to 2^20."""


@dataclass(frozen=True)
class SpreadPrior:
    """What is known of graded rewards: where prompts lie, and how wide their rewards spread.

    The square of a prompt's spread is scaled inverse chi squared distributed, with the weight as degrees of freedom.

    Attributes:
        location: Mean of the prompts' locations.
        location_weight: As many responses of a prompt say as much of its location as this prior; 0 says nothing.
        spread: Typical spread, in the units of the rewards: the standard deviation, or an exponential tail's scale.
        spread_weight: As many responses of a prompt say as much of its spread as this prior.
    """

    location: float
    location_weight: float
    spread: float
    spread_weight: float


@dataclass(frozen=True)
class LevelPrior:
    """What is known of rewards that take few values.

    Attributes:
        levels: The values, ascending.
        trials: Values of n, ascending from 0.
        none: For each level but the lowest, the logarithm of the chance that n responses of a prompt all stay below it.
    """

    levels: tuple[float, ...]
    trials: tuple[int, ...]
    none: tuple[tuple[float, ...], ...]

    @property
    def spread(self) -> float:
        """From the lowest level to the highest."""
        return self.levels[-1] - self.levels[0]

    def describes(self, rewards: Rewards) -> Bool[Tensor, " P"]:
        """Whether half of a prompt's rewards, or more, are levels: a rare one need not stand in the table.

        Args:
            rewards: Rewards `[P, M]`; NaN where not drawn or not scored.
        """
        levels = torch.tensor(self.levels, dtype=torch.float64)
        apart = (rewards.to(torch.float64)[..., None] - levels).abs().amin(dim=-1)
        return (apart <= _ALIKE * self.spread).sum(dim=1) >= (apart > _ALIKE * self.spread).sum(dim=1)

    def gain(self, best: float, seen: int, draws: int) -> float:
        """Expected gain of a prompt's next responses.

        Args:
            best: The largest of its rewards so far.
            seen: How many it has.
            draws: How many come next.
        """
        at = np.log1p([seen, seen + draws])
        total, reached = 0.0, best
        for level, none in zip(self.levels[1:], self.none, strict=True):
            if level > best:
                before, after = np.interp(at, np.log1p(self.trials), none)
                total += (level - reached) * -math.expm1(after - before)
                reached = level
        return total


def prior_of(rewards: Rewards, *, tail: str = "gaussian") -> SpreadPrior | LevelPrior:
    """Learn from the rewards of other prompts, of the same policy and reward.

    Rewards of at most ten values, each taken twice or more on average, give the chance of each by the Beta priors of
    `tailgrad.tails.level_forecast`. Others give a prior of the spread, by the moments of the logarithms of its
    estimates in groups of 16 responses: they vary within a prompt by their noise, and what they vary more is the
    prompts' (after Smyth 2004).

    Args:
        rewards: Rewards `[P, M]` of at least two prompts; NaN where a response could not be scored.
        tail: A key of `tailgrad.tails.TAIL_SHAPES`, the one that the rule takes.

    Returns:
        A prior for `TailStopping` and `allocate`.

    Raises:
        TypeError: If `rewards` is not a real tensor.
        ValueError: If the shape is unknown, or fewer than two prompts have a spread.

    Examples:
        >>> prior = prior_of(torch.arange(14.0).repeat(4, 1) * torch.tensor([[1.0], [1.0], [2.0], [4.0]]))
        >>> round(prior.spread, 2), round(prior.spread_weight, 2)
        (5.52, 2.04)
        >>> prior_of(torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])).levels
        (0.0, 1.0)

    Reference:
        Smyth (2004), Linear models and empirical Bayes methods for assessing differential expression in microarray
        experiments, Statistical Applications in Genetics and Molecular Biology 3(1).
    """
    check_rewards(rewards)
    levels = levels_of(rewards)
    if 1 < len(levels) <= (~torch.isnan(rewards)).sum() / 2:  # a few graded rewards take few values too, each once
        logs = log_chance_of_none(rewards, trials=_TRIALS)
        return LevelPrior(tuple(levels), _TRIALS, tuple(tuple(row) for row in logs.tolist()))
    return _spread_prior(rewards.to(torch.float64), tail)


def _spread_prior(rewards: Float[Tensor, "P M"], tail: str) -> SpreadPrior:
    """From groups of at most 16 responses, as a rule first sees them: between prompts, less what groups vary."""
    size = min(rewards.shape[1], _GROUP)
    groups = rewards[:, : rewards.shape[1] // size * size].reshape(-1, size)
    found = tail_estimate(groups, tail)
    usable = (found.spread > 0) & (found.spread_weight > 0)
    half = found.spread_weight / 2
    logs = 2 * found.spread.log() - torch.digamma(half) + half.log()  # expected: the logarithm of the squared spread
    logs, places = (
        part.where(usable, torch.nan).reshape(len(rewards), -1)
        for part in (logs, found.centre - found.below * found.spread)
    )
    if (~torch.isnan(logs)).any(dim=1).sum() < 2:
        raise ValueError("a prior takes the rewards of two prompts or more that have at least two different rewards")
    squared_mean, squared_varies = _components(logs, float(torch.polygamma(1, half[usable]).mean()))
    location, between = _components(places, math.exp(squared_mean) / size)
    spread_weight = 2 * _inverse_trigamma(squared_varies)
    squared = math.exp(squared_mean + float(psi(spread_weight / 2)) - math.log(spread_weight / 2))
    location_weight = min(squared / between, _MOST_WEIGHT) if between > 0 else _MOST_WEIGHT
    return SpreadPrior(location, location_weight, math.sqrt(squared), spread_weight)


def _components(values: Float[Tensor, "P G"], noise: float) -> tuple[float, float]:
    """Mean over the prompts, and variance between them beyond that of their groups' means; `noise` if one has one."""
    known = ~torch.isnan(values)
    count = known.sum(dim=1)
    means = values.nanmean(dim=1)
    if int((count - 1).clamp(min=0).sum()):
        noise = float((values - means[:, None]).square().nansum() / (count - 1).clamp(min=0).sum())
    means, count = means[count > 0], count[count > 0]
    return float(means.mean()), float(means.var() - (noise / count).mean())


def _inverse_trigamma(value: float) -> float:
    """The x at which trigamma is `value`, at most half of `_MOST_WEIGHT`, by bisection of its logarithm."""
    low, high = math.log(1e-2), math.log(_MOST_WEIGHT / 2)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if float(polygamma(1, math.exp(middle))) > value else (low, middle)
    return math.exp((low + high) / 2)
