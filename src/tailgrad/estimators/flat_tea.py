"""Flat TEA: TEA's influence made flat below its vertex, so that no better rollout is pushed less than a worse one."""

import torch
from jaxtyping import Float
from torch import Tensor

from tailgrad.estimators._groups import centred, finish, per_prompt, relative_rewards
from tailgrad.estimators._ratios import check_ratios, group_weights
from tailgrad.estimators.tea import check_tail, smallest_tail_group, warn_unless_extrapolating
from tailgrad.tails.constants import check_budget, extrapolation_coefficient
from tailgrad.tails.shapes import GAUSSIAN
from tailgrad.types import Advantages, Ratios, Rewards, check_rewards


def smallest_flat_group(*, tail_fraction: float = 1.0, **others: object) -> int:
    """The fewest scored rollouts that leave two in the tail; takes and ignores the other options."""
    return smallest_tail_group(tail_fraction=tail_fraction)


def flat_tea(
    rewards: Rewards,
    ratios: Ratios | None = None,
    *,
    deploy_n: int | float | Tensor,
    tail_fraction: float = 1.0,
    extrapolate_n: int | None = None,
    validate: bool = True,
) -> Advantages:
    """TEA's influence on V_N, made flat below its vertex.

    Formula: with mean mu_hat and standard deviation sigma_hat of the k = ceil(alpha m) largest rewards of the group,
    z_i = (r_i - mu_hat) / sigma_hat, and ctilde_K as in `tea` but for K = `extrapolate_n` in the place of N,

        u_i = (sigma_hat / alpha) (z'_i + ctilde_K / 2 z'_i^2),   z'_i = max(z_i, -1 / ctilde_K),
        A_i = u_i - mean of u.

    The parabola is TEA's, up to a constant. Below its vertex z = -1 / ctilde_K it falls as the reward rises: there TEA
    pushes a rollout down *because* it is better than another one. Here all rollouts below the vertex get the same, also
    those below the tail's threshold. Take all influences that do not fall with the reward and lie nowhere above that
    parabola: this is the largest of them. K = 1 with alpha = 1 is `dr_grpo`; K = N extrapolates all the way. With
    `ratios` each rollout counts in all means with its share in the ratios of the group, as in `tea`.

    Scale: mean scale. But it is no estimate of the gradient of V_N, not even where TEA's assumption holds. For N(mu,
    sigma^2) rewards, alpha = 1 and many rollouts, its expectation is Phi(t) + c_K phi(t) along mu and c_K Phi(t) along
    log sigma, with t = 1 / c_K; V_N's gradient is 1 and c_N. It gives up some direction for less noise. No signal: the
    whole group gets zeros where the k largest rewards are equal, or where fewer than two scored rollouts fall in the
    tail.

    Args:
        rewards: Rewards `[P, M]`, M >= 2; NaN where a rollout could not be scored.
        ratios: pi(y) / mu(y) of rollouts that an older policy mu drew, `[P, M]`; the loss multiplies by each one's own.
        deploy_n: N, the responses per prompt at deployment; a number or a tensor `[P]`.
        tail_fraction: alpha in (0, 1], the share of the group that mean and standard deviation are taken of; k =
            ceil(alpha M) must be at least 2.
        extrapolate_n: K, from 1 to N: how far to extrapolate. None is N.
        validate: Check the values of the rewards and of `deploy_n` first, which waits for the device. Without it the
            values of a tensor N are not looked at, and where V_N lies below the mean of the tail ctilde_N counts as 0.

    Returns:
        Advantages `[P, M]` in the units of the rewards; they do not fall with the reward, and sum to 0 per prompt
            (with `ratios`: times these).

    Raises:
        TypeError: If `rewards` is not a real tensor, or `deploy_n` or `extrapolate_n` not a number.
        ValueError: If the rewards are not `[P, M]` or hold an infinity, fewer than two rollouts fall in the tail, an
            option is out of range, or K is so small that V_K lies below the mean of the tail.

    Warns:
        UserWarning: If `deploy_n` <= M, where `max_at_k` is unbiased and needs no extrapolation.

    Examples:
        >>> flat_tea(torch.tensor([[0.0, 1.0, 5.0, 3.0]]), deploy_n=64)
        tensor([[-2.3194, -2.3194,  5.4553, -0.8165]])

    Reference:
        Ours; the parabola is that of TEA, arXiv 2605.10716.
    """
    if validate:
        check_rewards(rewards)
        check_ratios(ratios, rewards)
    check_tail(rewards, tail_fraction)
    coefficient = _coefficient(deploy_n, extrapolate_n, tail_fraction, rewards, validate=validate)
    if validate:
        warn_unless_extrapolating(deploy_n, rewards)
    relative = relative_rewards(rewards)
    weights = None if ratios is None else group_weights(ratios, rewards)
    tail = GAUSSIAN.fit(relative, tail_fraction=tail_fraction, weights=weights)
    parabola = GAUSSIAN.influence(tail, coefficient, tail_fraction)
    excess = torch.maximum(relative - tail.threshold, -parabola.linear / (2 * parabola.quadratic))
    influence = parabola.of(excess).where(tail.scale > 0, 0.0)
    return finish(centred(influence, weights), rewards)


def _coefficient(
    deploy_n: int | float | Tensor,
    extrapolate_n: int | None,
    tail_fraction: float,
    rewards: Rewards,
    *,
    validate: bool,
) -> float | Float[Tensor, "P 1"]:
    """ctilde_K, at least 0, for all prompts or one for each; refuses K beyond N and K that extrapolates downwards."""
    if extrapolate_n is not None:
        check_budget(extrapolate_n, "extrapolate_n", validate=validate)
    furthest = deploy_n if extrapolate_n is None else extrapolate_n
    found = extrapolation_coefficient(per_prompt(furthest, rewards), tail_fraction, validate=validate)
    smallest = float(deploy_n.min()) if isinstance(deploy_n, Tensor) and validate else deploy_n
    if extrapolate_n is not None and not isinstance(smallest, Tensor) and extrapolate_n > smallest:
        raise ValueError(f"extrapolate_n = {extrapolate_n} must lie between 1 and deploy_n = {smallest:g}")
    lowest = float(found.min()) if isinstance(found, Tensor) and validate else found
    if not isinstance(lowest, Tensor) and lowest < -1e-12:
        raise ValueError(
            f"V_K for K = {furthest} lies below the mean of the upper {tail_fraction} of the rewards, so there is "
            "nothing to extrapolate: take a larger K or tail_fraction, or max_at_k with k = K"
        )
    return found.clamp(min=0.0).unsqueeze(1) if isinstance(found, Tensor) else max(found, 0.0)
