"""Best minus second best: the unbiased gradient of the best of the whole group."""

import math

import torch

from tailgrad.estimators._groups import finish, num_scored, relative_rewards
from tailgrad.types import Advantages, Rewards, check_rewards


def bon_max_second(rewards: Rewards, *, validate: bool = True) -> Advantages:
    """The largest reward of the group minus the second largest, for the best rollout alone.

    Formula, times m for the mean scale (the sum-scale form has no m): A_i = m (r_i - second largest) for the best
    rollout, 0 for all others. It is `max_at_k` with k = m, in a group of n scored rollouts with k = n.

    Scale: mean scale. It is unbiased for the gradient of V_m, the expected best of m, the rollouts per prompt in
    training. It assumes nothing about the rewards. No signal: the group gets zeros where two rollouts share the largest
    reward, or where only one is scored.

    Args:
        rewards: Rewards `[P, M]`, M >= 2; NaN where a rollout could not be scored.
        validate: Check the rewards first, which waits for the device.

    Returns:
        Advantages `[P, M]` in the units of the rewards, none of them negative.

    Raises:
        TypeError: If `rewards` is not a real tensor.
        ValueError: If `rewards` is not `[P, M]` with M >= 2, or holds an infinity.

    Examples:
        >>> bon_max_second(torch.tensor([[0.0, 1.0, 5.0, 2.0]]))
        tensor([[ 0.,  0., 12.,  0.]])

    Reference:
        max@k at k = m, arXiv 2510.23393; PKPO, arXiv 2505.15201.
    """
    if validate:
        check_rewards(rewards)
    relative = relative_rewards(rewards)  # 0 for the best
    second = relative.masked_fill(torch.isnan(relative), -math.inf).topk(2, dim=1).values[:, 1:]
    n = num_scored(rewards)
    return finish(((relative - second) * n).where((relative == 0) & (n >= 2), 0.0), rewards)
