"""Forecasts of V_N where rewards take few values, 0 and 1 above all: Beta priors over the prompts' success rates."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.special import betaln, logsumexp, ndtri

from tailgrad.types import Rewards, check_rewards

MOST_LEVELS = 10
"""Rewards with more values than this count as graded, and their tail as continuous."""

_HOPELESS = np.array([0.0, 0.1, 0.25, 0.5, 0.75, 0.9]).reshape(-1, 1, 1, 1)
_A = np.exp2(np.arange(-6, 6.5, 0.5)).reshape(-1, 1, 1)
_B = np.exp2(np.arange(-3, 12.5, 0.5)).reshape(-1, 1)
"""Share of prompts that never succeed, and the a and b of the others' Beta prior: every one with every other."""

_LOG_PRIOR = np.log(np.where(_HOPELESS == 0, 0.5, 0.5 / (len(_HOPELESS) - 1)))
"""That no prompt is hopeless counts as much as all shares of them together."""

_CHANCES = (np.arange(2000) + 0.5) / 2000


class LevelForecast(NamedTuple):
    """V_N of prompts whose rewards take few values."""

    per_prompt: Float[np.ndarray, " P"]
    """The posterior mean of each prompt's V_N; NaN where nothing is scored."""
    low: float
    """Where the central 95% of the posterior of their mean begins."""
    high: float
    """Where it ends."""


def levels_of(rewards: Rewards) -> list[float]:
    """The values that the rewards take, ascending; empty where there are more than `MOST_LEVELS`, or none.

    Args:
        rewards: Rewards `[P, M]`; NaN where a rollout could not be scored.

    Returns:
        At most `MOST_LEVELS` numbers.

    Examples:
        >>> levels_of(torch.tensor([[0.0, 1.0, 1.0], [0.0, 0.5, math.nan]]))
        [0.0, 0.5, 1.0]
    """
    values = torch.unique(rewards[~torch.isnan(rewards)])
    return values.tolist() if len(values) <= MOST_LEVELS else []


def level_forecast(rewards: Rewards, *, deploy_n: int) -> LevelForecast:
    """Forecast V_N of prompts whose rewards take few values t_0 < t_1 < ..., by Beta priors at each of them.

        V_N = t_0 + sum_j (t_j - t_(j-1)) (1 - P(r < t_j)^N)

    At each level the success rates p = P(r >= t_j) of the prompts are taken to be 0 for a share h of the prompts and
    Beta(a, b) distributed for the others. After n rollouts with s successes the mean of (1 - p)^N under Beta(a, b) is
    B(a + s, b + n - s + N) / B(a + s, b + n - s), with the Beta function B. It is averaged over 4,650 priors, from
    h = 0 (half of their weight at first) to 0.9, a = 1/64 to 64 and b = 1/8 to 4,096, each weighted with the
    probability that it has given the successes of all prompts. The interval holds what is left open of the rates and of
    the prior. Intervals of the levels are added, as the levels hang together.

    Args:
        rewards: Rewards `[P, M]` with 2 to `MOST_LEVELS` values; NaN where a rollout could not be scored.
        deploy_n: N, a whole number.

    Returns:
        A forecast per prompt, and the interval of their mean for these very prompts.

    Raises:
        TypeError: If `rewards` is not a real tensor.
        ValueError: If the rewards are malformed or take more values.

    Examples:
        >>> rewards = torch.tensor([[0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 1.0]])
        >>> level_forecast(rewards, deploy_n=64).per_prompt.round(2)
        array([0.99, 0.62, 1.  ])

    Reference:
        arXiv 2510.05197 (beta-binomial forecasts of pass@k).
    """
    check_rewards(rewards)
    levels = levels_of(rewards)
    if not levels:
        raise ValueError(f"level_forecast takes rewards of at most {MOST_LEVELS} values: these are graded, or unscored")
    scored = (~torch.isnan(rewards)).sum(dim=1).cpu().numpy()
    known = scored > 0
    value, ends = np.where(known, levels[0], math.nan), np.full(2, levels[0])
    for lower, upper in pairwise(levels):
        successes = (rewards >= upper).sum(dim=1).cpu().numpy()
        chance, of_mean = _chance_of_one(successes[known], scored[known], deploy_n)
        value[known] += (upper - lower) * chance
        ends += (upper - lower) * of_mean
    return LevelForecast(value, *ends.tolist())


def log_chance_of_none(rewards: Rewards, *, trials: Sequence[int]) -> Float[np.ndarray, "L N"]:
    """Chance that the first n responses of one more prompt all stay below a level, by the priors of `level_forecast`.

    Args:
        rewards: Rewards `[P, M]` of other prompts, with 2 to `MOST_LEVELS` values; NaN where one could not be scored.
        trials: Values of n.

    Returns:
        Its logarithm: one row for each level but the lowest, one column for each n.

    Raises:
        TypeError: If `rewards` is not a real tensor.
        ValueError: If the rewards are malformed, take more values, or one alone.

    Examples:
        >>> rewards = torch.tensor([[0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
        >>> np.exp(log_chance_of_none(rewards, trials=(0, 1, 2))).round(2)
        array([[1.  , 0.87, 0.8 ]])
    """
    check_rewards(rewards)
    levels = levels_of(rewards)
    if len(levels) < 2:
        raise ValueError(f"a prior of levels takes rewards of 2 to {MOST_LEVELS} values: these are graded, or equal")
    scored = (~torch.isnan(rewards)).sum(dim=1).cpu().numpy()
    failures = _log_none_of(0, np.zeros(len(trials), dtype=int), np.asarray(trials))
    rows = []
    for level in levels[1:]:
        successes = (rewards >= level).sum(dim=1).cpu().numpy()
        outcomes, times = np.unique(np.stack([successes, scored]), axis=1, return_counts=True)
        weight = _log_weight_of(_log_none_of(0, *outcomes), times)
        rows.append(logsumexp(weight[..., None] + failures, axis=(0, 1, 2)))
    return np.array(rows)


def _chance_of_one(
    successes: Int[np.ndarray, " P"], trials: Int[np.ndarray, " P"], deploy_n: int
) -> tuple[Float[np.ndarray, " P"], Float[np.ndarray, " 2"]]:
    """Chance that one of N succeeds, per prompt, and the central 95% of its mean over the prompts."""
    outcomes, kind, times = np.unique(np.stack([successes, trials]), axis=1, return_inverse=True, return_counts=True)
    of_outcome, none, none_twice = (_log_none_of(n, *outcomes) for n in (0, deploy_n, 2 * deploy_n))
    weight = np.exp(_log_weight_of(of_outcome, times))
    none, none_twice = np.exp(none - of_outcome), np.exp(none_twice - of_outcome)
    mean = 1 - none @ times / len(trials)
    deviation = np.sqrt(np.maximum(none_twice - none**2, 0.0) @ times) / len(trials)
    per_outcome = 1 - np.tensordot(weight, none, weight.ndim)
    return per_outcome[kind.reshape(-1)], _central(weight.ravel(), mean.ravel(), deviation.ravel())


def _log_weight_of(
    of_outcome: Float[np.ndarray, "H A B O"], times: Int[np.ndarray, " O"]
) -> Float[np.ndarray, "H A B"]:
    """Weight of each prior, from the chance that it gives to each outcome and how many prompts had that; logarithms."""
    weight = of_outcome @ times + _LOG_PRIOR[..., 0]
    found: np.ndarray = weight - logsumexp(weight)
    return found


def _log_none_of(deploy_n: int, successes: np.ndarray, trials: np.ndarray) -> Float[np.ndarray, "H A B O"]:
    """Under each prior, the chance of each outcome with N more failures after it, but for the binomial coefficient.

    It is a logarithm: of a prompt with hundreds of successes the chance itself is below all floating-point numbers.
    """
    beta = betaln(_A + successes, _B + trials - successes + deploy_n) - betaln(_A, _B)
    with np.errstate(divide="ignore"):  # a chance of 0
        hopeless = np.log(_HOPELESS * (successes == 0))
    found: np.ndarray = np.logaddexp(hopeless, np.log1p(-_HOPELESS) + beta)
    return found


def _central(weight: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> Float[np.ndarray, " 2"]:
    """The central 95% of a mixture of normal distributions, within [0, 1], from an even draw of each."""
    likely = weight > 1e-9
    draws = mean[likely, None] + deviation[likely, None] * ndtri(_CHANCES)
    order = draws.ravel().argsort()
    share = np.repeat(weight[likely] / len(_CHANCES), len(_CHANCES))[order].cumsum()
    ends: np.ndarray = draws.ravel()[order][np.searchsorted(share / share[-1], [0.025, 0.975])]
    return ends.clip(0.0, 1.0)
