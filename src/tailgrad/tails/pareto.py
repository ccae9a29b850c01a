"""The generalised Pareto shape of the upper tail: one number that tells a bounded, an exponential and a heavy tail."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tailgrad.tails.constants import check_budget, check_tail_fraction
from tailgrad.tails.leave_one_out import leave_one_out_error
from tailgrad.tails.statistics import tail_size
from tailgrad.types import Rewards, check_rewards

_LEAST_UNIT = 0.1
"""The unit of a prompt is at least this share of its mean excess, so that no prompt decides the pooled shape alone."""


_NEAR_0 = 1e-6
"""A shape nearer to 0 than this is taken as this, so that nothing is divided by 0."""


class ParetoTail(NamedTuple):
    """The generalised Pareto distribution fitted to the k largest of n rewards of each prompt.

    The excesses e over the threshold have P(e > x) = (1 + xi x / scale)^(-1 / xi), exp(-x / scale) for xi = 0.
    """

    shape: float
    """xi, pooled over prompts: -1 is uniform, 0 exponential, above 0 heavier; NaN where no prompt's tail has spread."""
    shape_error: float
    """Its standard error, from leaving out one prompt at a time; of one prompt alone, its `prompt_shape_error`."""
    threshold: Float[Tensor, " P"]
    """u, the (k+1)-th largest reward, which is not part of the tail; NaN where k < 2, as all below."""
    mean_excess: Float[Tensor, " P"]
    """Mean of the k rewards above it, minus u; 0 where all equal it."""
    scale: Float[Tensor, " P"]
    """mean_excess (1 - shape), the scale that goes with the pooled shape."""
    prompt_shape: Float[Tensor, " P"]
    """xi of each prompt alone; NaN also where its excesses are equal."""
    prompt_shape_error: Float[Tensor, " P"]
    """Its standard error, from leaving out one excess at a time; NaN also where k < 3."""
    size: Int[Tensor, " P"]
    """k."""
    scored: Int[Tensor, " P"]
    """n."""


def pareto_tail(rewards: Rewards, *, tail_fraction: float = 0.25) -> ParetoTail:
    """Fit a generalised Pareto distribution to the upper tail of each prompt, with one shape for all of them.

    Far enough up, the excesses of nearly every distribution over a threshold are generalised Pareto (Pickands). The
    threshold is the (k+1)-th largest reward, with k = ceil(alpha n) and at most n - 1. With the mean excess b0 and
    b1 = E[e F(e)] (unbiased, from the ranks), lambda = 2 b1 - b0 is half the mean difference of two excesses, and

        xi = 2 - b0 / lambda.

    The pooled shape divides the sum of b0 over prompts by that of lambda, each in units of its prompt's spread below
    the threshold, u - median of the rewards that are not in the tail. Given u this spread is independent of the
    excesses, so that both sums are right on average, whatever k is. With 64 prompts the bias is below 0.01 for xi
    from -1 to 0.3, at n = 32 and alpha = 0.25 (0.12 at xi = -1 and -0.08 at 0.3 if each prompt is divided by its mean
    excess). The shape of one prompt is biased: at k = 8 by -0.1 to -0.2, at k = 32 by -0.02 to -0.06. The t interval
    with k - 1 degrees of freedom from its standard error covers in 93% to 98%.

    The moments are finite for xi < 1 and the errors for xi < 1/2; a heavier tail is estimated too low. Ties in the tail
    make it look shorter or longer than it is. With alpha = 1 no reward lies below, and the mean excess is the unit.

    Args:
        rewards: Rewards `[P, M]`; NaN where a rollout could not be scored.
        tail_fraction: alpha in (0, 1], the share of the group in the tail.

    Returns:
        Two floats, then tensors `[P]`, in float64.

    Raises:
        TypeError: If `rewards` is not a real tensor.
        ValueError: If the rewards are malformed, or `tail_fraction` lies outside (0, 1].

    Examples:
        >>> exponential = torch.empty(64, 256, dtype=torch.float64).exponential_(generator=torch.manual_seed(0))
        >>> fit = pareto_tail(exponential)
        >>> abs(fit.shape) < 0.05, fit.shape_error < 0.03, fit.size[0].item()
        (True, True, 64)

    Reference:
        Hosking and Wallis (1987), Parameter and quantile estimation for the generalized Pareto distribution,
        Technometrics 29(3): probability-weighted moments.
    """
    check_rewards(rewards)
    check_tail_fraction(tail_fraction)
    values = rewards.detach().to(torch.float64)
    scored = (~torch.isnan(values)).sum(dim=1, keepdim=True)
    size = torch.minimum(tail_size(scored, tail_fraction), scored - 1).clamp(min=0)
    descending = values.nan_to_num(nan=-math.inf).sort(dim=1, descending=True).values
    threshold = descending.gather(1, size).where(size >= 2, math.nan)
    longest = max(1, int(size.max())) if size.numel() else 1
    inside = torch.arange(longest, device=values.device) < size
    excess = (descending[:, :longest] - threshold).where(inside, 0.0)
    mean, half_difference = _moments(excess, size)
    prompt_shape = _shape(mean, half_difference)
    error = _error_over_rollouts(excess, size, inside)
    unit = torch.maximum(_spread_below(descending, threshold, size, scored), _LEAST_UNIT * mean)
    shape, shape_error = _pooled(mean / unit, half_difference / unit, half_difference > 0)
    if int((half_difference > 0).sum()) == 1:
        shape_error = float(error[half_difference > 0])
    columns = (threshold, mean, mean * (1 - shape), prompt_shape, error, size, scored)
    return ParetoTail(shape, shape_error, *(column.squeeze(1) for column in columns))


def pareto_tail_forecast(
    rewards: Rewards, *, deploy_n: int | float | Tensor, tail_fraction: float | None = None
) -> Float[Tensor, " P"]:
    """Forecast V_N of each prompt by a generalised Pareto tail: one shape for all prompts, a scale for each.

    `pareto_tail` fits it, and `forecast_of_pareto_tail` extrapolates it. No other forecast here assumes so little: the
    tail may be bounded, exponential or heavy, and the rewards decide which.

    Args:
        rewards: Rewards `[P, M]` of prompts whose tails share a shape; NaN where a rollout could not be scored.
        deploy_n: N, the responses per prompt at deployment; a number or a tensor `[P]`.
        tail_fraction: alpha in (0, 1], the share of the group in the tail. None: 1 / sqrt(n), so that the tail holds
            the sqrt(n) largest of n rewards, for the n of the prompt that has most.

    Returns:
        One float64 forecast per prompt, in the units of the rewards; NaN where fewer than two scored rollouts fall in
        the tail.

    Raises:
        TypeError: If `rewards` is not a real tensor or `deploy_n` not a number.
        ValueError: If an argument is out of range.

    Examples:
        >>> exponential = torch.empty(64, 256, dtype=torch.float64).exponential_(generator=torch.manual_seed(0))
        >>> forecast = pareto_tail_forecast(exponential, deploy_n=2048)  # the truth is H_2048 = 8.20
        >>> 7.2 < forecast.mean().item() < 9.2
        True

    Reference:
        As `pareto_tail`.
    """
    check_budget(deploy_n, "deploy_n", validate=True)
    tail = pareto_tail(rewards, tail_fraction=root_fraction(rewards) if tail_fraction is None else tail_fraction)
    return forecast_of_pareto_tail(tail, deploy_n)


def root_fraction(rewards: Rewards) -> float:
    """The share that the sqrt(n) largest of n rewards are, for the n of the prompt that has most; at least 1 of 1.

    Args:
        rewards: Rewards `[P, M]`; NaN where a rollout could not be scored.

    Returns:
        1 / sqrt(n), in (0, 1].

    Examples:
        >>> root_fraction(torch.zeros(2, 64))
        0.125
    """
    return 1 / math.sqrt(max(int((~torch.isnan(rewards)).sum(dim=1).max()), 1))


def forecast_of_pareto_tail(tail: ParetoTail, deploy_n: int | float | Tensor) -> Float[Tensor, " P"]:
    """V_N of each prompt from its fitted tail.

    With the threshold u, the (k+1)-th largest of n, and the scale s = mean excess (1 - xi),

        V_N = u + s / xi (B(1, N) / B(k + 1, n) - 1),
        B(a, n) = Gamma(a - xi) Gamma(n + 1) / (Gamma(a) Gamma(n + 1 - xi)),

    where B(a, n) is the mean of p^-xi at the a-th smallest p of n uniform numbers. It is unbiased for every k, n and N
    if the rewards are generalised Pareto from u on with this xi; for xi = 0 it is u + s (H_N - H_n + H_k), with the
    harmonic numbers H. From xi = 1 on such a tail has no mean, and it is infinite.

    Args:
        tail: From `pareto_tail`.
        deploy_n: N, a number or a tensor `[P]`; not below n / k, where the best of N would lie below the tail.

    Returns:
        One float64 forecast per prompt; the threshold where the excesses are 0, NaN where there is no tail.

    Examples:
        >>> tail = pareto_tail(torch.arange(64.0).expand(2, 64), tail_fraction=0.25)  # evenly spread: xi = -1
        >>> forecast_of_pareto_tail(tail, 10_000).round(decimals=2)  # of rewards up to 63.5
        tensor([63.9900, 63.9900], dtype=torch.float64)
    """
    shape = tail.shape if abs(tail.shape) > _NEAR_0 else _NEAR_0
    k, n = tail.size.to(torch.float64), tail.scored.to(torch.float64)
    largest = torch.as_tensor(deploy_n, dtype=torch.float64, device=k.device)
    growth = _log_moment(torch.ones_like(k), largest, shape) - _log_moment(k + 1, n, shape)
    relative = (1 - shape) * torch.expm1(growth) / shape if shape < 1 else torch.full_like(k, math.inf)
    return tail.threshold + (tail.mean_excess * relative).where(tail.mean_excess != 0, 0.0)


def _log_moment(place: Tensor, count: Tensor, shape: float) -> Tensor:
    """Log B(a, n), the logarithm of the mean of p^-shape at the a-th smallest p of n uniform numbers."""
    of_place = torch.lgamma(place - shape) - torch.lgamma(place)
    return of_place + torch.lgamma(count + 1) - torch.lgamma(count + 1 - shape)


def _moments(
    excess: Float[Tensor, "P K"], size: Int[Tensor, "P 1"]
) -> tuple[Float[Tensor, "P 1"], Float[Tensor, "P 1"]]:
    """Mean, and half the mean difference of two, of the k excesses of each prompt in descending order, then zeros."""
    rank = torch.arange(excess.shape[1], device=excess.device)
    total, ranked = excess.sum(dim=1, keepdim=True), (rank * excess).sum(dim=1, keepdim=True)
    mean = (total / size).where(size >= 2, math.nan)
    return mean, _half_difference(total, ranked, size)


def _half_difference(
    total: Float[Tensor, "P K"], ranked: Float[Tensor, "P K"], size: Int[Tensor, "P 1"]
) -> Float[Tensor, "P K"]:
    """Sum over i < j of (e_i - e_j) / (k (k - 1)), from the sum of the excesses and that of rank times excess."""
    difference = ((size - 1) * total - 2 * ranked) / (size * (size - 1))
    rounding = torch.finfo(total.dtype).eps * size * total  # what equal excesses may leave
    return difference.where(difference * size > rounding, 0.0).where(size >= 2, math.nan)


def _shape(mean: Float[Tensor, "P K"], half_difference: Float[Tensor, "P K"]) -> Float[Tensor, "P K"]:
    return (2 - mean / half_difference).where(half_difference > 0, math.nan)


def _error_over_rollouts(
    excess: Float[Tensor, "P K"], size: Int[Tensor, "P 1"], inside: Bool[Tensor, "P K"]
) -> Float[Tensor, "P 1"]:
    """Jackknife error of each prompt's shape; without excess j those below it move up by one rank."""
    rank = torch.arange(excess.shape[1], device=excess.device)
    total, ranked = excess.sum(dim=1, keepdim=True), (rank * excess).sum(dim=1, keepdim=True)
    below = total - excess.cumsum(dim=1)
    left_total, left_ranked = total - excess, ranked - rank * excess - below
    shapes = _shape(left_total / (size - 1), _half_difference(left_total, left_ranked, size - 1))
    return leave_one_out_error(shapes, inside).unsqueeze(1)


def _spread_below(
    descending: Float[Tensor, "P M"], threshold: Float[Tensor, "P 1"], size: Int[Tensor, "P 1"], scored: Tensor
) -> Float[Tensor, "P 1"]:
    """The threshold minus the median of the rewards that are not in the tail."""
    below_and_above_the_middle = ((size + scored - 1) // 2, (size + scored) // 2)
    low, high = (descending.gather(1, place.clamp(min=0)) for place in below_and_above_the_middle)
    return threshold - (low + high) / 2


def _pooled(
    means: Float[Tensor, "P 1"], half_differences: Float[Tensor, "P 1"], has_spread: Bool[Tensor, "P 1"]
) -> tuple[float, float]:
    """The shape of all prompts together, and its jackknife error over prompts."""
    means, half_differences = means[has_spread], half_differences[has_spread]
    if not len(means):
        return math.nan, math.nan
    shape = 2 - means.sum() / half_differences.sum()
    if len(means) == 1:
        return float(shape), math.nan
    without = 2 - (means.sum() - means) / (half_differences.sum() - half_differences)
    return float(shape), float(leave_one_out_error(without.unsqueeze(0)))
