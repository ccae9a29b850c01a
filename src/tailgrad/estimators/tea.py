"""TEA, the Tail-Extrapolated Advantage: a rollout's influence on the tail forecast of V_N."""

import math
import warnings

from torch import Tensor

from tailgrad.estimators._groups import centred, finish, num_scored, per_prompt, relative_rewards
from tailgrad.estimators._ratios import check_ratios, group_weights
from tailgrad.tails.constants import check_tail_fraction
from tailgrad.tails.shapes import as_column, tail_shape
from tailgrad.tails.statistics import largest_group, tail_size
from tailgrad.types import Advantages, Ratios, Rewards, check_rewards


def smallest_tail_group(*, tail_fraction: float = 0.25, **others: object) -> int:
    """The fewest scored rollouts that leave two in the tail; takes and ignores TEA's other options."""
    check_tail_fraction(tail_fraction)
    return largest_group(1, tail_fraction) + 1


def tea(
    rewards: Rewards,
    ratios: Ratios | None = None,
    *,
    deploy_n: int | float | Tensor,
    tail_fraction: float = 0.25,
    tail: str = "gaussian",
    center: bool = False,
    validate: bool = True,
) -> Advantages:
    """Influence of each rollout on the tail forecast of V_N.

    Formula: with the k = ceil(alpha m) largest rewards of the group, their smallest r_hat, mean mu_hat and
    standard deviation sigma_hat, the forecast is mu_hat + ctilde_N sigma_hat, and

        A_i = (1 / alpha) 1{r_i >= r_hat} [ (r_i - r_hat)
              + ctilde_N / (2 sigma_hat) ((r_i - mu_hat)^2 - (r_hat - mu_hat)^2) ].

    Where alpha m is whole, A_i is the derivative of the forecast when weight is added to rollout i. With
    `tail="exponential"` the forecast is r_hat + s_hat (H_N - H_n + H_{k-1}), s_hat the mean excess over r_hat of the
    k - 1 rewards above it and H the harmonic numbers (`exponential_tail_forecast`), and with p = (k - 1) / n

        A_i = 1{r_i > r_hat} [ (H_N - H_n + H_{k-1}) (r_i - r_hat - s_hat) / p + s_hat n trigamma(k) ],

    the derivative with r_hat held fixed, at every alpha. A rollout above r_hat makes the tail longer, and heavier. With
    `ratios` each rollout counts with its share in the ratios of the group, instead of 1 / m. The tail is then the upper
    k / m of that mass, and the forecast is that for the policy now, not for the policy that drew the rollouts.

    Scale: mean scale. It is biased at finite m, by about 1/m (`prefix_tea` removes the leading term). It assumes that
    the upper 2 alpha of the rewards are Gaussian, or the upper alpha exponential. It is not monotone in the reward: for
    large N the responses just above the threshold get negative weight, because a wider tail forecasts more. No signal:
    the whole group gets zeros where the k largest rewards are equal, or where fewer than two scored rollouts fall in
    the tail.

    Args:
        rewards: Rewards `[P, M]`, M >= 2; NaN where a rollout could not be scored.
        ratios: pi(y) / mu(y) of rollouts that an older policy mu drew, `[P, M]`; the loss multiplies by each one's own.
            Only the Gaussian tail takes them.
        deploy_n: N, the responses per prompt at deployment; a number or a tensor `[P]`.
        tail_fraction: alpha in (0, 1]; k = ceil(alpha M) must be at least 2.
        tail: The assumed shape of the upper tail, a key of `tailgrad.tails.TAIL_SHAPES`: "gaussian" or "exponential".
        center: Subtract the mean advantage of the group: slightly less variance, slightly different bias.
        validate: Check the values of the rewards and of `deploy_n` first, which waits for the device.

    Returns:
        Advantages `[P, M]` in the units of the rewards.

    Raises:
        TypeError: If `rewards` is not a real tensor or `deploy_n` not a number or a tensor.
        ValueError: If the rewards are not `[P, M]` or hold an infinity, fewer than two rollouts fall in the
            tail, or an option is out of range.

    Warns:
        UserWarning: If `deploy_n` <= M, where `max_at_k` is unbiased and needs no extrapolation.

    Examples:
        >>> import torch
        >>> rewards = torch.tensor([[0.0, 1.0, 5.0, 3.0]])
        >>> tea(rewards, deploy_n=64, tail_fraction=0.5)
        tensor([[0., 0., 4., 0.]])

    Reference:
        TEA, arXiv 2605.10716.
    """
    if validate:
        check_rewards(rewards)
        check_ratios(ratios, rewards)
    check_tail(rewards, tail_fraction)
    shape = tail_shape(tail)
    coefficient = shape.coefficient(per_prompt(deploy_n, rewards), tail_fraction, validate=validate)
    if validate:
        warn_unless_extrapolating(deploy_n, rewards)
    relative = relative_rewards(rewards)
    weights = None if ratios is None else group_weights(ratios, rewards)
    fitted = shape.fit(relative, tail_fraction=tail_fraction, weights=weights)
    excess = (relative - fitted.threshold.nan_to_num(nan=math.inf)).clamp(min=0)
    advantages = shape.influence(fitted, as_column(coefficient), tail_fraction).of(excess) + 0.0  # no -0.0
    return finish(centred(advantages, weights) if center else advantages, rewards)


def warn_unless_extrapolating(deploy_n: int | float | Tensor, rewards: Rewards) -> None:
    """Warn where N is not above the scored rollouts of a group, so that nothing is extrapolated."""
    scored = num_scored(rewards).squeeze(1)
    enough = scored >= per_prompt(deploy_n, rewards)
    if bool(enough.any()):
        warnings.warn(
            f"deploy_n = {deploy_n} is not larger than the {int(scored[enough].max())} rollouts of a group: "
            "nothing is extrapolated; max_at_k with k = deploy_n is unbiased there",
            stacklevel=3,
        )


def check_tail(rewards: Rewards, tail_fraction: float) -> None:
    """Refuse a tail fraction that leaves fewer than two of the M rollouts in the tail."""
    check_tail_fraction(tail_fraction)
    rollouts = rewards.shape[1]
    if tail_size(rollouts, tail_fraction) < 2:
        raise ValueError(
            f"tail_fraction = {tail_fraction} of m = {rollouts} rollouts leaves "
            f"{tail_size(rollouts, tail_fraction)} in the tail and at least 2 are needed: use more rollouts, "
            f"or tail_fraction = 2/{rollouts} = {2 / rollouts:.4g}"
        )
