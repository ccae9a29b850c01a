"""CVaR: a rollout's excess over the threshold of the upper tail."""

from tailgrad.estimators._groups import finish, relative_rewards
from tailgrad.estimators.tea import check_tail
from tailgrad.tails.statistics import tail_statistics
from tailgrad.types import Advantages, Rewards, check_rewards


def cvar(rewards: Rewards, *, tail_fraction: float = 0.25, validate: bool = True) -> Advantages:
    """Influence of each rollout on the mean of the upper tail.

    Formula: with r_hat the smallest of the k = ceil(alpha m) largest rewards of the group,

        A_i = (1 / alpha) 1{r_i >= r_hat} (r_i - r_hat),

    which is TEA's linear part. What `tea` has beyond this comes from the extrapolation to N.

    Scale: mean scale. Where alpha m is whole, it is the derivative of the mean of the upper alpha when weight is added
    to rollout i. It is biased at finite m. It assumes nothing about the rewards, and aims at the mean of the upper
    alpha, whatever N is. No signal: the whole group gets zeros where the k largest rewards are equal, or where fewer
    than two scored rollouts fall in the tail.

    Args:
        rewards: Rewards `[P, M]`, M >= 2; NaN where a rollout could not be scored.
        tail_fraction: alpha in (0, 1]; k = ceil(alpha M) must be at least 2.
        validate: Check the rewards first, which waits for the device.

    Returns:
        Advantages `[P, M]` in the units of the rewards, none of them negative.

    Raises:
        TypeError: If `rewards` is not a real tensor.
        ValueError: If the rewards are not `[P, M]` or hold an infinity, fewer than two rollouts fall in the
            tail, or `tail_fraction` lies outside (0, 1].

    Examples:
        >>> import torch
        >>> cvar(torch.tensor([[0.0, 1.0, 5.0, 3.0]]), tail_fraction=0.5)
        tensor([[0., 0., 4., 0.]])

    Reference:
        Tamar et al., "Optimizing the CVaR via sampling", arXiv 1404.3862; the linear part of arXiv 2605.10716.
    """
    if validate:
        check_rewards(rewards)
    check_tail(rewards, tail_fraction)
    relative = relative_rewards(rewards)
    threshold = tail_statistics(relative, tail_fraction=tail_fraction).threshold.unsqueeze(1)
    excess = (relative - threshold).clamp(min=0).nan_to_num(nan=0.0)
    return finish(excess / tail_fraction, rewards)
