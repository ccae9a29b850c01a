"""Dr. GRPO: the reward minus the mean of the group."""

from tailgrad.estimators._groups import centred, finish, relative_rewards
from tailgrad.types import Advantages, Rewards, check_rewards


def dr_grpo(rewards: Rewards, *, validate: bool = True) -> Advantages:
    """Reward minus the mean of the group.

    Formula: A_i = r_i - rbar, the influence of rollout i on the mean of the group.

    Scale: mean scale. In expectation it is (m - 1) / m times the gradient of V_1, the mean reward, because r_i takes
    part in its own baseline. `rloo` is the unbiased form. It assumes nothing about the rewards, and aims at the mean
    reward, not at the best of N. A group of equal rewards, or with one scored rollout, gets zeros.

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
        >>> dr_grpo(torch.tensor([[0.0, 1.0, 5.0, 2.0]]))
        tensor([[-2., -1.,  3.,  0.]])

    Reference:
        Liu et al., "Understanding R1-Zero-like training", arXiv 2503.20783.
    """
    if validate:
        check_rewards(rewards)
    return finish(centred(relative_rewards(rewards)), rewards)
