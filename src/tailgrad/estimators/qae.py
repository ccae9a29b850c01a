"""QAE: the reward minus a quantile of the group, in units of its standard deviation."""

import math

import torch

from tailgrad.estimators._groups import centred, finish, num_scored, relative_rewards
from tailgrad.tails.statistics import tail_size
from tailgrad.types import Advantages, Rewards, check_rewards


def qae(rewards: Rewards, *, quantile: float = 0.4, validate: bool = True) -> Advantages:
    """Reward minus a quantile of the group, divided by the standard deviation.

    Formula: A_i = (r_i - Q_K) / (std + 1e-4), std with ddof = 1 and Q_K the right-continuous empirical quantile:
    the (floor(K m) + 1)-th smallest reward.

    Scale: none. The division weighs each prompt by 1 / std. The quantile is a baseline. With 0/1 rewards, only
    successes count where a prompt is hard (share of successes below 1 - K), and only failures where it is easy. It
    assumes nothing about the rewards, and aims at the mean, not at the best of N. A group of equal rewards, or with one
    scored rollout, gets zeros.

    Args:
        rewards: Rewards `[P, M]`, M >= 2; NaN where a rollout could not be scored.
        quantile: K in [0, 1).
        validate: Check the rewards first, which waits for the device.

    Returns:
        Advantages `[P, M]` without unit.

    Raises:
        TypeError: If `rewards` is not a real tensor.
        ValueError: If `rewards` is not `[P, M]` with M >= 2 or holds an infinity, or `quantile` lies outside [0, 1).

    Examples:
        >>> qae(torch.tensor([[0.0, 1.0, 0.0, 0.0]]))
        tensor([[0.0000, 1.9996, 0.0000, 0.0000]])

    Reference:
        Quantile advantage estimation, arXiv 2509.22611.
    """
    if not 0 <= quantile < 1:
        raise ValueError(f"quantile = {quantile} must lie in [0, 1); 0.4 is the default")
    if validate:
        check_rewards(rewards)
    relative = relative_rewards(rewards)
    n = num_scored(rewards)
    ascending = relative.masked_fill(torch.isnan(relative), math.inf).sort(dim=1).values
    rank = n.long() - tail_size(n, 1 - quantile)  # Q_K is the smallest of the upper 1 - K
    rank = rank.clamp(max=relative.shape[1] - 1)
    excess = relative - ascending.gather(1, rank)
    std = ((centred(relative) ** 2).nansum(dim=1, keepdim=True) / (n - 1).clamp(min=1)).sqrt()
    advantages = excess / (std + 1e-4)
    return finish(advantages.where(std > 0, 0.0), rewards)
