"""Best minus mean: only the best rollout of the group is rewarded, against the mean of the group."""

import torch

from tailgrad.estimators._groups import finish, num_scored, relative_rewards
from tailgrad.types import Advantages, Rewards, check_rewards


def bon_max_mean(rewards: Rewards, *, validate: bool = True) -> Advantages:
    """The largest reward of the group minus the mean, for the best rollout alone.

    Formula, times m for the mean scale (the sum-scale form has no m): A_i = m (r_i - rbar) / t for the t rollouts
    that share the largest reward, 0 for all others.

    Scale: mean scale. It is biased for the gradient of V_m, in size and in direction, because it subtracts the mean;
    the second largest would be unbiased (`bon_max_second`). At m = 2 it is half of that gradient, whatever the rewards.
    Larger groups give more: along the mean of Gaussian rewards it is 1.3 times the gradient at m = 4 and 3.3 times at m
    = 16. For 0/1 rewards with one success in a hundred it is 0.76 times at m = 4 and 1.01 times at m = 16. The cosine
    is 0.97 for Gaussian rewards and m = 16, and can be negative where the best response is rare and a good one common:
    the common one is pushed, which V_m hardly needs. It assumes nothing about the rewards. A group of equal rewards, or
    with one scored rollout, gets zeros.

    Args:
        rewards: Rewards `[P, M]`, M >= 2; NaN where a rollout could not be scored.
        validate: Check the rewards first, which waits for the device.

    Returns:
        Advantages `[P, M]` in the units of the rewards, none of them negative.

    Raises:
        TypeError: If `rewards` is not a real tensor.
        ValueError: If `rewards` is not `[P, M]` with M >= 2, or holds an infinity.

    Examples:
        >>> bon_max_mean(torch.tensor([[0.0, 1.0, 5.0, 2.0]]))
        tensor([[ 0.,  0., 12.,  0.]])

    Reference:
        A baseline of arXiv 2605.10716; the objective is that of arXiv 2510.23393.
    """
    if validate:
        check_rewards(rewards)
    relative = relative_rewards(rewards)  # 0 for the best, so that only the mean is left of the difference
    best = relative == 0
    gap = -torch.nanmean(relative, dim=1, keepdim=True)
    values = gap * num_scored(rewards) / best.sum(dim=1, keepdim=True)
    return finish(values.where(best, 0.0), rewards)
