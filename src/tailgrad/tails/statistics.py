"""The upper tail of each group: where it begins, its mean and its standard deviation."""

import math
from typing import NamedTuple, overload

import torch
from jaxtyping import Float, Int, Real
from torch import Tensor

from tailgrad.tails.constants import check_tail_fraction
from tailgrad.types import Rewards

_ROUNDING = 1e-9
"""What a product may be above a whole number and still count as it."""


class TailStatistics(NamedTuple):
    """The k = ceil(alpha n) largest rewards of each group, summarised; NaN where k < 2."""

    threshold: Float[Tensor, " P"]
    """r_hat, the smallest reward of the tail."""
    mean: Float[Tensor, " P"]
    """mu_hat, the mean of the tail."""
    std: Float[Tensor, " P"]
    """sigma_hat, the standard deviation of the tail."""
    size: Int[Tensor, " P"]
    """k, how many rollouts the tail holds."""


@overload
def tail_size(num_rollouts: int, tail_fraction: float) -> int: ...
@overload
def tail_size(num_rollouts: Tensor, tail_fraction: float) -> Tensor: ...
def tail_size(num_rollouts: int | Tensor, tail_fraction: float) -> int | Tensor:
    """How many rollouts of a group form its upper tail: k = ceil(alpha n - 1e-9).

    The 1e-9 keeps products that are whole but for rounding (0.07 * 100) from gaining a rollout.

    Args:
        num_rollouts: n, one number or a tensor of any shape.
        tail_fraction: alpha, the share of the group in the tail.

    Returns:
        k: an int for a number, whole numbers of the same shape for a tensor.

    Examples:
        >>> tail_size(100, 0.07), tail_size(torch.tensor([16, 17]), 0.25)
        (7, tensor([4, 5]))
    """
    if isinstance(num_rollouts, Tensor):
        return torch.ceil(tail_fraction * num_rollouts.to(torch.float64) - _ROUNDING).long()
    return math.ceil(tail_fraction * num_rollouts - _ROUNDING)


def largest_group(size: int, tail_fraction: float) -> int:
    """The most rollouts whose tail holds `size` of them: n = floor((k + 1e-9) / alpha), the inverse of `tail_size`.

    Args:
        size: k.
        tail_fraction: alpha in (0, 1].

    Returns:
        n; one rollout more has k + 1 in its tail, or more.

    Examples:
        >>> largest_group(4, 0.25), tail_size(16, 0.25), tail_size(17, 0.25)
        (16, 4, 5)
    """
    return math.floor((size + _ROUNDING) / tail_fraction)


class UpperTail(NamedTuple):
    """The k = ceil(alpha n) largest rewards of each group, as they lie over their smallest; NaN where k < 2."""

    threshold: Float[Tensor, "P 1"]
    """r_hat, the smallest reward of the tail."""
    excess: Float[Tensor, "P K"]
    """Rewards minus the threshold, 0 outside the tail; in descending order where the tail is not the whole group."""
    size: Int[Tensor, "P 1"]
    """k, how many rollouts the tail holds."""
    scored: Int[Tensor, "P 1"]
    """n, how many rollouts of the group have a reward."""
    shares: Float[Tensor, "P K"] | None
    """Of rollouts with weights: share of each in the tail's mass, 0 at the threshold, which has the rest."""


def tail_statistics(
    rewards: Rewards, *, tail_fraction: float = 0.25, weights: Float[Tensor, "P M"] | None = None
) -> TailStatistics:
    """Threshold, mean and standard deviation of the largest rewards of each group.

    The tail of a group with n scored rollouts is its k = ceil(alpha n) largest rewards. The standard deviation divides
    the sum of squares by k. It is computed in float64 in two passes, so a large offset of the rewards does no harm. It
    never waits for the device.

    Args:
        rewards: Rewards `[P, M]`; NaN where a rollout could not be scored.
        tail_fraction: alpha in (0, 1], the share of the group in the tail.
        weights: Mass of each rollout, `[P, M]`, which sums to 1 in each group and is 0 where unscored; default 1 / n
            each. The tail is then the upper k / n of the mass, the rollout at its edge counted in part.

    Returns:
        Four tensors `[P]`; the first three are float64 in the units of the rewards, and NaN where k < 2.

    Raises:
        ValueError: If `tail_fraction` lies outside (0, 1].

    Examples:
        >>> tail = tail_statistics(torch.tensor([[0.0, 1.0, 5.0, 3.0]]), tail_fraction=0.5)
        >>> tail.threshold.item(), tail.mean.item(), tail.std.item(), tail.size.item()
        (3.0, 4.0, 1.0, 2)
    """
    tail = upper_tail(rewards, tail_fraction, weights)
    mean, std = excess_moments(tail.excess, tail.size, tail.shares)
    columns = (tail.threshold, tail.threshold + mean, std, tail.size)
    return TailStatistics(*(column.squeeze(1) for column in columns))


def upper_tail(rewards: Rewards, tail_fraction: float, weights: Float[Tensor, "P M"] | None = None) -> UpperTail:
    """The upper tail of each group: what `tail_statistics` summarises, and shapes are fitted to.

    Args:
        rewards: Rewards `[P, M]`; NaN where a rollout could not be scored.
        tail_fraction: alpha in (0, 1], the share of the group in the tail.
        weights: Mass of each rollout, as in `tail_statistics`.

    Returns:
        Columns `[P, 1]` and excesses `[P, K]`, in float64.

    Raises:
        ValueError: If `tail_fraction` lies outside (0, 1].
    """
    check_tail_fraction(tail_fraction)
    values = rewards.to(torch.float64)
    scored = (~torch.isnan(values)).sum(dim=1, keepdim=True)
    size = tail_size(scored, tail_fraction)
    if weights is not None:
        return _weighted_tail(values, weights, size, scored)
    largest, longest = values.nan_to_num(nan=-math.inf), tail_size(values.shape[1], tail_fraction)
    if longest == values.shape[1]:  # the whole group, which need not be sorted
        smallest = values.nan_to_num(nan=math.inf).amin(dim=1, keepdim=True)
    else:
        largest = largest.topk(longest).values
        smallest = largest.gather(1, (size - 1).clamp(min=0))
    threshold = smallest.where(size >= 2, math.nan)
    excess = (largest - threshold).clamp(min=0)  # 0 outside the tail; NaN where there is no tail
    return UpperTail(threshold, excess, size, scored, None)


def _weighted_tail(
    values: Float[Tensor, "P M"], weights: Float[Tensor, "P M"], size: Int[Tensor, "P 1"], scored: Int[Tensor, "P 1"]
) -> UpperTail:
    """The tail of rollouts with masses. Its edge has excess 0: what of its mass is inside, only the total tells."""
    mass = size / scored.to(torch.float64)
    descending, order = values.nan_to_num(nan=-math.inf).sort(dim=1, descending=True)
    ranked = weights.gather(1, order)
    edge = (ranked.cumsum(dim=1) < mass - 1e-9).sum(dim=1, keepdim=True).clamp(max=values.shape[1] - 1)
    threshold = descending.gather(1, edge).where(size >= 2, math.nan)
    excess = (descending - threshold).clamp(min=0)
    return UpperTail(threshold, excess, size, scored, ranked / mass * (excess > 0))


def excess_moments(
    excess: Float[Tensor, "*groups M"], size: Real[Tensor, "..."], shares: Float[Tensor, "*groups M"] | None = None
) -> tuple[Float[Tensor, "*groups 1"], Float[Tensor, "*groups 1"]]:
    """Mean and standard deviation of the k excesses of a tail over its threshold, given among zeros.

    One pass is exact enough: the smallest excess is 0, so the mean square is at most k times the variance. Equal
    rewards have excess 0, and then the standard deviation is exactly 0.

    Args:
        excess: Excesses, `[..., M]`.
        size: k of each tail.
        shares: Share of each excess in the tail's mass, by which it then counts; 0 counts by what they leave.

    Returns:
        Two columns `[..., 1]`.
    """
    if shares is not None:
        mean = (shares * excess).sum(dim=-1, keepdim=True)
        variance = (shares * (excess - mean) ** 2).sum(dim=-1, keepdim=True)
        variance = variance + (1 - shares.sum(dim=-1, keepdim=True)).clamp(min=0) * mean**2
        return mean, variance.sqrt()
    mean = excess.sum(dim=-1, keepdim=True) / size
    squares = torch.linalg.vector_norm(excess, dim=-1, keepdim=True) ** 2 - size * mean * mean
    return mean, (squares.clamp(min=0) / size).sqrt()
