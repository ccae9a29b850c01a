"""Ranks of the rewards in their group, and the weight that the best of N gives to a rank."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from tailgrad.tails.constants import check_budget
from tailgrad.types import Rewards


def num_smaller(rewards: Rewards) -> Float[Tensor, "P M"]:
    """How many scored rollouts of the group have a smaller reward, as float64; 0 for unscored rollouts."""
    return _count(rewards, side="left")


def num_not_larger(rewards: Rewards) -> Float[Tensor, "P M"]:
    """How many scored rollouts of the group, itself included, have no larger reward."""
    return _count(rewards, side="right")


def _count(rewards: Rewards, *, side: str) -> Float[Tensor, "P M"]:
    values = rewards.to(torch.float64)
    unscored = torch.isnan(values)
    ascending = values.masked_fill(unscored, math.inf).sort(dim=1).values
    counts = torch.searchsorted(ascending, values.masked_fill(unscored, -math.inf), side=side)
    return counts.to(torch.float64)


def log_best_of_n_weight(
    quantile: Float[Tensor, "P M"], deploy_n: int | float | Tensor, *, validate: bool
) -> Float[Tensor, "P M"]:
    """log(N q^(N-1)): the density of the best of N against that of one response, at the quantile q."""
    check_budget(deploy_n, "deploy_n", validate=validate)
    n = deploy_n.to(torch.float64).unsqueeze(1) if isinstance(deploy_n, Tensor) else deploy_n
    log_n = n.log() if isinstance(n, Tensor) else math.log(n)
    power: Tensor = torch.special.xlogy(n - 1, quantile)
    return power + log_n
