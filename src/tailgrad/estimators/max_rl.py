"""MaxRL: the reward minus the mean of the group, in units of the mean; 0/1 rewards."""

import torch

from tailgrad.estimators._groups import check_binary, finish
from tailgrad.types import Advantages, Rewards, check_rewards


def max_rl(rewards: Rewards, *, validate: bool = True) -> Advantages:
    """Reward minus the mean of the group, divided by that mean: maximum likelihood of a success; rewards 0 or 1.

    Formula: A_i = (r_i - rbar) / rbar; a group without a success gets zeros.

    Scale: mean scale, of log p instead of a reward, p the prompt's chance of a success:

        log p = -sum over k >= 1 of (1 - p)^k / k,   so   grad log p = sum over k >= 1 of grad pass@k / k,

    whose first term is the mean reward. Unbiased for the first m - 1 terms, whatever p is. (The mean of the scores of
    the successes alone, where there are any, is unbiased for the first m. What is subtracted here, the mean score of
    all rollouts, is not zero on average in the groups that have a success, and takes the m-th term away.) So it weighs
    rare successes more as m grows, whatever N is. It is not the gradient of pass@N for any N.

    Assumes 0/1 rewards. A group of equal rewards gives zeros.

    Args:
        rewards: Rewards `[P, M]`, M >= 2, each 0 or 1; NaN where a rollout could not be scored.
        validate: Check the rewards first, which waits for the device.

    Returns:
        Advantages `[P, M]` in units of log p.

    Raises:
        TypeError: If `rewards` is not a real tensor.
        ValueError: If the rewards are not `[P, M]` with M >= 2, or one is neither 0 nor 1.

    Examples:
        >>> max_rl(torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]))
        tensor([[-1.,  3., -1., -1.],
                [ 0.,  0.,  0.,  0.]])

    Reference:
        Tajwar et al., "Maximum likelihood reinforcement learning", arXiv 2602.02710.
    """
    if validate:
        check_rewards(rewards)
        check_binary(rewards, "max_rl")
    values = rewards.to(torch.float64)
    mean = torch.nanmean(values, dim=1, keepdim=True)
    return finish(((values - mean) / mean).where(mean > 0, 0.0), rewards)
