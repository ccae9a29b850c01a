"""Forecasts of V_N beyond the responses that are there, with an interval, or the reason why there is none."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tailgrad.tails.levels import level_forecast, levels_of
from tailgrad.tails.pareto import ParetoTail, forecast_of_pareto_tail, pareto_tail, root_fraction
from tailgrad.types import Rewards, check_rewards

FEWEST = 16
"""Scored responses of a prompt below which nothing is forecast."""

FARTHEST = 32
"""Times the scored responses per prompt up to which N may go: what the coverage was measured for."""

HEAVIEST = 0.5
"""From this shape on a tail has no finite variance, and its noise cannot be read from halves."""

_SPLITS = 16
"""Into halves, from which the noise of a forecast is read."""


class CalibratedForecast(NamedTuple):
    """The mean of V_N over these prompts at K values of N, with 95% intervals."""

    deploy_n: tuple[int, ...]
    """The values of N."""
    per_prompt: Float[np.ndarray, "P K"]
    """The forecast of each prompt; NaN where refused, or where the prompt has too few scored responses."""
    mean: Float[np.ndarray, " K"]
    """Their mean over the prompts."""
    low: Float[np.ndarray, " K"]
    """Lower end of the interval for these very prompts; NaN where refused."""
    high: Float[np.ndarray, " K"]
    """Upper end, likewise."""
    refused: tuple[str, ...]
    """Why there is no forecast at this N; empty where there is one."""
    family: str
    """`pareto`, or `levels` where the rewards take few values."""


class _Found(NamedTuple):
    """Forecasts of each prompt, the ends of the intervals of their mean, and why none may be trusted."""

    per_prompt: Float[Tensor, "P K"]
    low: Float[Tensor, " K"]
    high: Float[Tensor, " K"]
    why_not: str


def calibrated_forecast(rewards: Rewards, deploy_n: Sequence[int], *, seed: int = 0) -> CalibratedForecast:
    """Forecast the mean of V_N over the prompts, for N above the n responses per prompt, with an interval.

    Rewards of at most ten values are forecast by `level_forecast`, others by `pareto_tail_forecast` from the sqrt(n)
    largest rewards of each prompt. The interval of the latter is

        V_n + gain exp(-+ h / gain),    h = 2 sqrt(noise^2 + gap^2),    gain = forecast - V_n,

    with V_n the mean of the largest rewards. The noise is that of the responses: the difference of the forecasts from
    two halves of them, squared, divided by 4 and averaged over 16 random halvings. The gap is what the assumed shape
    may be wrong by. Where a generalised Pareto tail has not begun at the sqrt(n) largest rewards, it has begun even
    less at twice as many: it is the difference of the two forecasts. The interval is wider upward, as a gain is
    positive and its error grows with it; where h is above the gain, the ends are forecast + 1.72 h and - 0.63 h.

    There is no forecast of a prompt with fewer than 16 scored responses, for N above 32 times their median number,
    where no prompt's tail has spread, and where the shape is 0.5 or more. Elsewhere the intervals hold the truth in 9
    of 10 cases or more, as far as was tried (docs/forecasts.md).

    Args:
        rewards: Rewards `[P, n]`; NaN where a response could not be scored.
        deploy_n: Values of N, each above n.
        seed: Seed of the halvings.

    Returns:
        Forecasts with intervals for these prompts, in the units of the rewards. What prompts differ in is not part of
        the interval: `mean_interval` of `per_prompt` tells it.

    Raises:
        TypeError: If `rewards` is not a real tensor.
        ValueError: If the rewards are malformed, or an N is not above n: V_N is exact there.

    Examples:
        >>> rewards = torch.randn(32, 256, generator=torch.manual_seed(0), dtype=torch.float64)
        >>> forecast = calibrated_forecast(rewards, [2048])  # the truth is 3.4355
        >>> bool(forecast.low[0] < 3.4355 < forecast.high[0]), forecast.refused
        (True, ('',))

    Reference:
        Hosking and Wallis (1987) for the fit; the interval is ours.
    """
    check_rewards(rewards)
    budgets = tuple(int(n) for n in deploy_n)
    if not budgets or min(budgets) <= rewards.shape[1]:
        raise ValueError(
            f"forecasts are for N above the {rewards.shape[1]} responses per prompt, got "
            f"{', '.join(map(str, budgets))}: up to there V_N is exact (best_of_n)"
        )
    values = rewards.detach().to(torch.float64)
    scored = (~torch.isnan(values)).sum(dim=1)
    enough = scored >= FEWEST
    few = len(levels_of(values[enough])) > 1
    refused = tuple(_why_not(scored, n) for n in budgets)
    per_prompt = torch.full((len(values), len(budgets)), math.nan, dtype=torch.float64)
    low, high = torch.full((2, len(budgets)), math.nan, dtype=torch.float64)
    if not all(refused):
        found = _by_levels(values[enough], budgets) if few else _by_pareto(values[enough], budgets, seed)
        refused = tuple(reason or found.why_not for reason in refused)
        per_prompt[enough.cpu()], low, high = (part.cpu() for part in found[:3])
    given = torch.tensor([not reason for reason in refused])
    per_prompt, mean, low, high = (
        part.where(given, math.nan) for part in (per_prompt, per_prompt.nanmean(dim=0), low, high)
    )
    family = "levels" if few else "pareto"
    return CalibratedForecast(budgets, per_prompt.numpy(), mean.numpy(), low.numpy(), high.numpy(), refused, family)


def _by_levels(values: Rewards, budgets: tuple[int, ...]) -> _Found:
    found = [level_forecast(values, deploy_n=n) for n in budgets]
    per_prompt = torch.from_numpy(np.stack([one.per_prompt for one in found], axis=1))
    low, high = (torch.tensor([getattr(one, end) for one in found], dtype=torch.float64) for end in ("low", "high"))
    return _Found(per_prompt, low, high, "")


def _by_pareto(values: Rewards, budgets: tuple[int, ...], seed: int) -> _Found:
    share = root_fraction(values)
    tail = pareto_tail(values, tail_fraction=share)
    forecasts = _at(tail, budgets)
    mean = forecasts.nanmean(dim=0)
    if math.isnan(tail.shape):
        return _Found(forecasts, mean, mean, "the tail of no prompt has spread: its best rewards are all the same")
    if tail.shape >= HEAVIEST:
        why_not = f"the tail is too heavy (shape {tail.shape:.2f}, and from {HEAVIEST} on no interval is to be had)"
        return _Found(forecasts, mean, mean, why_not)
    gap = _mean_difference(forecasts, _with_share(values, budgets, 2 * share))
    half = 2 * (_noise(values, budgets, share, seed) + gap**2).sqrt()
    largest = values.nan_to_num(nan=-math.inf).amax(dim=1).where(~torch.isnan(tail.threshold), math.nan).nanmean()
    ratio = (half / (mean - largest).clamp(min=0)).nan_to_num(nan=1.0).clamp(1e-9, 1)
    down, up = (half * torch.expm1(sign * ratio) / ratio for sign in (-1, 1))
    return _Found(forecasts, mean + down, mean + up, "")


def _noise(values: Rewards, budgets: tuple[int, ...], share: float, seed: int) -> Float[Tensor, " K"]:
    """Variance of the mean forecast, from halves of the responses."""
    generator, n = torch.Generator().manual_seed(seed), values.shape[1]
    order = torch.rand(values.shape, generator=generator).argsort(dim=1)  # the table may be sorted by reward
    shuffled = values.gather(1, order.to(values.device))
    differences = []
    for _ in range(_SPLITS):
        places = torch.randperm(n, generator=generator).to(values.device)
        halves = [shuffled[:, part] for part in (places[: n // 2], places[n // 2 : n // 2 * 2])]
        differences.append(_mean_difference(*(_with_share(half, budgets, share) for half in halves)))
    return torch.stack(differences).square().mean(dim=0) / 4


def _with_share(values: Rewards, budgets: tuple[int, ...], share: float) -> Float[Tensor, "P K"]:
    """Forecasts from a tail of this share of the responses, of half of them at most."""
    return _at(pareto_tail(values, tail_fraction=min(share, 0.5)), budgets)


def _mean_difference(first: Float[Tensor, "P K"], second: Float[Tensor, "P K"]) -> Float[Tensor, " K"]:
    """Mean over the prompts that have both forecasts."""
    return (first - second).nanmean(dim=0)


def _at(tail: ParetoTail, budgets: tuple[int, ...]) -> Float[Tensor, "P K"]:
    return torch.stack([forecast_of_pareto_tail(tail, n) for n in budgets], dim=1)


def _why_not(scored: Int[Tensor, " P"], deploy_n: int) -> str:
    """Why nothing is forecast from so few responses, or so far."""
    if int(scored.max()) < FEWEST:
        return f"{int(scored.max())} scored responses per prompt are too few: a forecast needs {FEWEST}"
    n = int(scored[scored >= FEWEST].median())
    if deploy_n > FARTHEST * n:
        return f"more than {FARTHEST} times the {n} scored responses per prompt, and no forecast was checked so far out"
    return ""
