"""GRPO: the reward minus the mean of the group, in units of its standard deviation."""

import math

import torch
from torch import Tensor

from tailgrad.estimators._groups import finish, output_dtype
from tailgrad.types import Advantages, Rewards, check_rewards

_TOLERANCE = 16.0
"""Rounding units of the largest deviation that the mean may be off by before it is corrected."""

_ORDINARY = 1e-15, 1e15
"""Standard deviations whose squares float32 holds with all their digits."""


def grpo(rewards: Rewards, *, eps: float = 1e-4, validate: bool = True) -> Advantages:
    """Reward minus the mean of the group, divided by its standard deviation.

    Formula: A_i = (r_i - rbar) / (std + eps), std with ddof = 1.

    Scale: none. The division weighs each prompt by 1 / std, so this is not an unbiased gradient of anything. It assumes
    nothing about the rewards, and aims at the mean, not at the best of N. A group of equal rewards, or with one scored
    rollout, gets zeros.

    It is computed in the rewards' own precision (at least float32), by the operations of TRL's GRPO in their order. So
    float32 rewards of ordinary scale give TRL's advantages bit for bit. Where the mean has lost digits to a large
    offset (18.93 +- 0.01), the deviations have a mean, which is what was lost, and it is subtracted from them; TRL does
    not do this. Groups that spread by less than 1e-15 or more than 1e15 are computed in float64, because their squares
    do not fit in float32.

    Args:
        rewards: Rewards `[P, M]`, M >= 2; NaN where a rollout could not be scored.
        eps: Added to the standard deviation, in the units of the rewards; not negative.
        validate: Check the rewards first, which waits for the device.

    Returns:
        Advantages `[P, M]` without unit.

    Raises:
        TypeError: If `rewards` is not a real tensor.
        ValueError: If `rewards` is not `[P, M]` with M >= 2 or holds an infinity, or if `eps` is negative or
            infinite.

    Examples:
        >>> import torch
        >>> grpo(torch.tensor([[0.0, 1.0, 2.0]]))
        tensor([[-0.9999,  0.0000,  0.9999]])

    Reference:
        Shao et al., "DeepSeekMath", arXiv 2402.03300.
    """
    if validate:
        check_rewards(rewards)
    if not 0 <= eps < math.inf:
        raise ValueError(f"eps = {eps} must not be negative, nor infinite; 1e-4 is the default")
    values = rewards.to(output_dtype(rewards) if rewards.is_floating_point() else torch.float64)
    advantages, std = _standardised(values, eps)
    if values.dtype != torch.float64:
        ordinary = (std > _ORDINARY[0]) & (std < _ORDINARY[1])
        advantages = advantages.where(ordinary, _standardised(values.double(), eps)[0].to(values.dtype))
    return finish(advantages, rewards)


def _standardised(values: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Deviations from the group mean over std + eps, and std `[P, 1]`; 0 where std is 0 or unknown."""
    deviations = _deviations(values)
    count = (~torch.isnan(values)).sum(dim=1, keepdim=True).to(values.dtype)
    std = torch.sqrt(torch.nanmean(deviations**2, dim=1, keepdim=True) * (count / (count - 1)))
    return torch.nan_to_num(deviations / (std + eps), nan=0.0).where(std > 0, 0.0), std


def _deviations(values: Tensor) -> Tensor:
    """Values minus the group mean; what the mean lost to rounding is taken off only where it matters."""
    deviations = values - torch.nanmean(values, dim=1, keepdim=True)
    lost = torch.nanmean(deviations, dim=1, keepdim=True)
    largest = torch.nan_to_num(deviations, nan=0.0).abs().amax(dim=1, keepdim=True)
    matters = lost.abs() > _TOLERANCE * torch.finfo(values.dtype).eps * largest
    return torch.where(matters, deviations - lost, deviations)
