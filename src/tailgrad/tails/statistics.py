"""The upper tail of each group: where it begins, its mean and its standard deviation."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Real
from torch import Tensor

from tailgrad.tails.constants import check_tail_fraction
from tailgrad.types import Rewards


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


def tail_size(num_rollouts: int, tail_fraction: float) -> int:
    """How many of `num_rollouts` form the upper tail: k = ceil(alpha m - 1e-9).

    The 1e-9 keeps products that are whole but for rounding (0.07 * 100) from gaining a rollout.
    """
    return math.ceil(tail_fraction * num_rollouts - 1e-9)


def tail_statistics(
    rewards: Rewards, *, tail_fraction: float = 0.25, ddof: int = 0, weights: Float[Tensor, "P M"] | None = None
) -> TailStatistics:
    """Threshold, mean and standard deviation of the largest rewards of each group.

    The tail of a group with n scored rollouts is its k = ceil(alpha n) largest rewards. Computed in float64
    by two passes, so a large offset of the rewards does no harm. Never waits for the device.

    Args:
        rewards: Rewards `[P, M]`; NaN where a rollout could not be scored.
        tail_fraction: alpha in (0, 1], the share of the group in the tail.
        ddof: 0 divides the sum of squares by k (the default), 1 by k - 1.
        weights: Mass of each rollout, `[P, M]`, which sums to 1 in each group and is 0 where unscored; default 1 / n
            each. The tail is then the upper k / n of the mass, the rollout at its edge counted in part.

    Returns:
        Four tensors `[P]`; the first three are float64 in the units of the rewards, and NaN where k < 2.

    Raises:
        ValueError: If `tail_fraction` lies outside (0, 1] or `ddof` is neither 0 nor 1.

    Example:
        >>> tail = tail_statistics(torch.tensor([[0.0, 1.0, 5.0, 3.0]]), tail_fraction=0.5)
        >>> tail.threshold.item(), tail.mean.item(), tail.std.item(), tail.size.item()
        (3.0, 4.0, 1.0, 2)
    """
    check_tail_fraction(tail_fraction)
    check_ddof(ddof)
    values = rewards.to(torch.float64)
    scored = ~torch.isnan(values)
    size = torch.ceil(tail_fraction * scored.sum(dim=1, keepdim=True).to(torch.float64) - 1e-9).long()
    if weights is not None:
        return _weighted_tail(values, weights, size, ddof)
    largest = values.nan_to_num(nan=-math.inf).topk(tail_size(values.shape[1], tail_fraction)).values
    threshold = largest.gather(1, (size - 1).clamp(min=0)).where(size >= 2, math.nan)
    excess = (largest - threshold).clamp(min=0)  # 0 outside the tail; NaN where there is no tail
    mean, std = excess_moments(excess, size, ddof)
    return TailStatistics(
        threshold=threshold.squeeze(1),
        mean=(threshold + mean).squeeze(1),
        std=std.squeeze(1),
        size=size.squeeze(1),
    )


def _weighted_tail(
    values: Float[Tensor, "P M"], weights: Float[Tensor, "P M"], size: Int[Tensor, "P 1"], ddof: int
) -> TailStatistics:
    """The tail of rollouts with masses. Its edge has excess 0: what of its mass is inside, only the total tells."""
    mass = size / (~torch.isnan(values)).sum(dim=1, keepdim=True).to(torch.float64)
    descending, order = values.nan_to_num(nan=-math.inf).sort(dim=1, descending=True)
    ranked = weights.gather(1, order)
    edge = (ranked.cumsum(dim=1) < mass - 1e-9).sum(dim=1, keepdim=True).clamp(max=values.shape[1] - 1)
    threshold = descending.gather(1, edge).where(size >= 2, math.nan)
    excess = (descending - threshold).clamp(min=0)
    shares = ranked / mass * (excess > 0)
    mean = (shares * excess).sum(dim=1, keepdim=True)
    squares = (shares * (excess - mean) ** 2).sum(dim=1, keepdim=True)
    squares = squares + (1 - shares.sum(dim=1, keepdim=True)).clamp(min=0) * mean**2
    std = (squares * size / (size - ddof)).sqrt()
    return TailStatistics(*(column.squeeze(1) for column in (threshold, threshold + mean, std, size)))


def excess_moments(
    excess: Float[Tensor, "*groups M"], size: Real[Tensor, "..."], ddof: int
) -> tuple[Float[Tensor, "*groups 1"], Float[Tensor, "*groups 1"]]:
    """Mean and standard deviation of the k excesses of a tail over its threshold, given among zeros.

    One pass is exact enough: the smallest excess is 0, so the mean square is at most k times the variance. Equal
    rewards have excess 0, and then the standard deviation is exactly 0.
    """
    mean = excess.sum(dim=-1, keepdim=True) / size
    squares = torch.linalg.vector_norm(excess, dim=-1, keepdim=True) ** 2 - size * mean * mean
    return mean, (squares.clamp(min=0) / (size - ddof)).sqrt()


def check_ddof(ddof: int) -> None:
    """Refuse anything but 0 and 1."""
    if ddof not in (0, 1):
        raise ValueError(f"ddof = {ddof} must be 0 (divide by k) or 1 (divide by k - 1)")
