"""RLOO: the reward minus the mean of the other rollouts."""

from tailgrad.estimators._groups import above_the_others, finish, relative_rewards
from tailgrad.types import Advantages, Rewards, check_rewards


def rloo(rewards: Rewards, *, validate: bool = True) -> Advantages:
    """Reward minus the mean of the other rollouts of the group.

    Formula: A_i = r_i - mean of r_j over j != i = m / (m - 1) (r_i - rbar).

    Scale: mean scale. It is the gradient of V_1, the mean reward, without bias. It assumes nothing about the rewards,
    and aims at the mean, not at the best of N. A group of equal rewards, or with one scored rollout, gets zeros.

    Args:
        rewards: Rewards `[P, M]`, M >= 2; NaN where a rollout could not be scored.
        validate: Check the rewards first, which waits for the device.

    Returns:
        Advantages `[P, M]` in the units of the rewards.

    Raises:
        TypeError: If `rewards` is not a real tensor.
        ValueError: If `rewards` is not `[P, M]` with M >= 2, or holds an infinity.

    Examples:
        >>> import torch
        >>> rloo(torch.tensor([[0.0, 1.0, 5.0]]))
        tensor([[-3.0000, -1.5000,  4.5000]])

    Reference:
        Ahmadian et al., "Back to basics", arXiv 2402.14740.
    """
    if validate:
        check_rewards(rewards)
    return finish(above_the_others(relative_rewards(rewards)), rewards)
