"""What was tried against a fit that misleads: variants of the flat influence, as functions of rewards `[P, M]`."""

import math

import torch
from torch import Tensor


def squared_hinge(z: Tensor, coefficient: float) -> Tensor:
    """c/2 (z + 1/c)^2 above z = -1/c, less its mean in the group: the flat influence of standardised rewards."""
    values = coefficient / 2 * (z + 1 / coefficient).clamp(min=0) ** 2
    return values - values.mean(1, keepdim=True)


def standardised(rewards: Tensor, scale: Tensor) -> Tensor:
    """(r - mean) / scale, and 0 where there is no scale."""
    return (rewards - rewards.mean(1, keepdim=True)) / scale.where(scale > 0, torch.inf)


def l_scale(rewards: Tensor) -> Tensor:
    """The standard deviation that a Gaussian with this mean absolute difference has."""
    m = rewards.shape[1]
    weights = (2 * torch.arange(1, m + 1, dtype=torch.float64) - m - 1) / (m * (m - 1))
    return math.sqrt(math.pi) * (rewards.sort(1).values * weights).sum(1, keepdim=True)


def l_moment(rewards: Tensor, coefficient: float) -> Tensor:
    """The scale from mean absolute differences in the place of the standard deviation."""
    scale = l_scale(rewards)
    return scale * squared_hinge(standardised(rewards, scale), coefficient)


def winsorised(rewards: Tensor, coefficient: float) -> Tensor:
    """Mean and standard deviation of the group with its outer eighths pulled in; the rewards as they are."""
    m = rewards.shape[1]
    edge = max(1, m // 8)
    ordered = rewards.sort(1).values
    pulled = ordered.clamp(min=ordered[:, edge : edge + 1], max=ordered[:, m - 1 - edge : m - edge])
    scale = pulled.std(1, correction=0, keepdim=True)
    z = (rewards - pulled.mean(1, keepdim=True)) / scale.where(scale > 0, torch.inf)
    return scale * squared_hinge(z, coefficient)


def mid_ranks(rewards: Tensor) -> Tensor:
    """Ranks from 1 to M; equal rewards share theirs."""
    ordered = rewards.sort(1).values.contiguous()
    first = torch.searchsorted(ordered, rewards.contiguous())
    last = torch.searchsorted(ordered, rewards.contiguous(), right=True)
    return (first + last + 1).double() / 2


def normal_scores(rewards: Tensor, coefficient: float, *, keep_scale: bool) -> Tensor:
    """The normal quantile of a rollout's rank in the place of z; times the standard deviation, or not."""
    z = torch.special.ndtri((mid_ranks(rewards) - 0.5) / rewards.shape[1])
    advantages = squared_hinge(standardised(z, z.std(1, correction=0, keepdim=True)), coefficient)
    return advantages * rewards.std(1, correction=0, keepdim=True) if keep_scale else advantages


def clipped_fit(rewards: Tensor, coefficient: float, halvings: int = 40) -> Tensor:
    """Mean and standard deviation of the group clipped from below at a bar that is the vertex of just these two."""
    high = rewards.amax(1, keepdim=True)
    low = rewards.mean(1, keepdim=True) - rewards.std(1, correction=0, keepdim=True) / coefficient
    for _ in range(halvings):
        bar = (low + high) / 2
        clipped = torch.maximum(rewards, bar)
        scale = clipped.std(1, correction=0, keepdim=True)
        below = bar < clipped.mean(1, keepdim=True) - scale / coefficient
        low, high = bar.where(below, low), high.where(below, bar)
    return _hinge_at(rewards, bar, scale, coefficient)


def bar_at(rewards: Tensor, *, median: bool) -> Tensor:
    """Squared excess over the group's mean or its median, in units of its standard deviation: no K."""
    bar = rewards.quantile(0.5, dim=1, keepdim=True) if median else rewards.mean(1, keepdim=True)
    return _hinge_at(rewards, bar, rewards.std(1, correction=0, keepdim=True), 1.0)


def with_history(rewards: Tensor, coefficient: float, history: Tensor) -> Tensor:
    """Mean and standard deviation of this group and of earlier rollouts of the same prompt."""
    everything = torch.cat([rewards, history], dim=1)
    scale = everything.std(1, correction=0, keepdim=True)
    return _hinge_at(rewards, everything.mean(1, keepdim=True) - scale / coefficient, scale, coefficient)


def pooled_shape(rewards: Tensor, k: float, prompts: int = 64) -> Tensor:
    """Influence on V_k of the distribution of the standardised rewards of a batch of prompts, times each one's sd."""
    m = rewards.shape[1]
    scale = rewards.std(1, correction=0, keepdim=True)
    pool = standardised(rewards, scale).reshape(-1, prompts * m)
    ordered = pool.sort(1).values.contiguous()
    below = torch.arange(1, prompts * m, dtype=torch.float64) / (prompts * m)
    influence = torch.cat(
        [torch.zeros_like(ordered[:, :1]), (k * below ** (k - 1) * ordered.diff(dim=1)).cumsum(1)], dim=1
    )
    place = torch.searchsorted(ordered, pool.contiguous(), right=True) - 1
    advantages = scale * influence.gather(1, place).reshape(-1, m)
    return advantages - advantages.mean(1, keepdim=True)


def _hinge_at(rewards: Tensor, vertex: Tensor, scale: Tensor, coefficient: float) -> Tensor:
    excess = (rewards - vertex).clamp(min=0)
    values = (coefficient / (2 * scale) * excess**2).where(scale > 0, 0.0)
    return values - values.mean(1, keepdim=True)
