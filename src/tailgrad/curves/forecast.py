"""V_N of a method beyond its responses: forecasts with the error of the forecast and that of the choice of prompts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Real

from tailgrad.curves.rollouts import Rollouts
from tailgrad.statistics.intervals import Interval, mean_interval
from tailgrad.tails import calibrated_forecast


@dataclass(frozen=True, eq=False)
class CurveForecast:
    """V_N of one method at N above the responses per prompt.

    Attributes:
        deploy_n: The K values of N.
        v_n: Forecasts with intervals over prompts and seeds that hold the error of the forecast too; NaN where refused.
        low: Lower end of the interval for these very prompts and seeds, `[K]`: the error of the forecast alone.
        high: Upper end, likewise.
        refused: Why there is no forecast at this N; empty where there is one.
    """

    deploy_n: tuple[int, ...]
    v_n: Interval
    low: Float[np.ndarray, " K"]
    high: Float[np.ndarray, " K"]
    refused: tuple[str, ...]


def forecast_curve(runs: Sequence[Rollouts], deploy_n: Sequence[int], *, seed: int = 0) -> CurveForecast:
    """Forecast V_N of a method at N above the responses per prompt.

    See `tailgrad.tails.calibrated_forecast` for the forecast, its error and when it is refused. The error of several
    seeds is the mean of theirs: what the assumed shape is wrong by, they have in common. The interval over prompts is
    that of `mean_interval`; the two errors are added in squares. Where rewards take few values, no interval goes beyond
    the largest and the smallest.

    Args:
        runs: The method's training seeds, on the same prompts.
        deploy_n: Values of N, each above the responses per prompt.
        seed: Seed of the bootstrap and of the forecast's halvings.

    Returns:
        Forecasts in the unit of the reward.

    Raises:
        ValueError: If an N is not above the responses per prompt, or another reward picks the best.

    Examples:
        >>> rewards = np.random.default_rng(0).normal(size=(32, 256))
        >>> forecast = forecast_curve([Rollouts(rewards)], [2048])  # the truth is 3.4355
        >>> bool(forecast.low[0] < 3.4355 < forecast.high[0])
        True
    """
    if any(run.selection_rewards is not None for run in runs):
        raise ValueError(
            f"{runs[0].name!r}: V_N cannot be forecast where another reward picks the best: leave out --forecast_n"
        )
    budgets = tuple(sorted(set(deploy_n)))
    found = [calibrated_forecast(_at_least_two(run.rewards), budgets, seed=seed) for run in runs]
    refused = tuple(next(filter(None, reasons), "") for reasons in zip(*(one.refused for one in found), strict=True))
    over_prompts = mean_interval(np.stack([one.per_prompt for one in found]), seed=seed)
    below, above = (
        np.mean(ends, axis=0)
        for ends in ([one.mean - one.low for one in found], [one.high - one.mean for one in found])
    )
    mean = over_prompts.mean
    low = mean - np.hypot(mean - over_prompts.low, below)
    high = mean + np.hypot(over_prompts.high - mean, above)
    if all(one.family == "levels" for one in found):
        every = np.concatenate([run.rewards.ravel() for run in runs])
        low, high = (end.clip(np.nanmin(every), np.nanmax(every)) for end in (low, high))
    prompts, counted = len(runs[0].rewards), over_prompts.prompts
    few = (counted > 0) & (2 * counted < prompts)
    reasons = [
        f"only {count} of {prompts} prompts have enough scored responses" if one else reason
        for one, count, reason in zip(few.tolist(), counted.tolist(), refused, strict=True)
    ]
    mean, low, high, below, above = (np.where(few, np.nan, part) for part in (mean, low, high, below, above))
    v_n = Interval(mean, low, high, np.where(few, 0, counted))
    return CurveForecast(budgets, v_n, mean - below, mean + above, tuple(reasons))


def _at_least_two(rewards: Real[np.ndarray, "P n"]) -> Real[torch.Tensor, "P M"]:
    """One response per prompt is a group with one that is not there: its forecast is refused with the reason."""
    missing = ((0, 0), (0, max(0, 2 - rewards.shape[1])))
    return torch.from_numpy(np.pad(rewards.astype(float), missing, constant_values=np.nan))
