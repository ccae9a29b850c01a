"""Prefix-TEA: TEA on prefixes of the group, combined so that the low orders of its 1/m bias cancel."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tailgrad.estimators._groups import centred, finish, num_scored, relative_rewards
from tailgrad.estimators._prefixes import Evaluation, prefix_plan
from tailgrad.estimators.tea import check_tail, tail_coefficient, tail_influence
from tailgrad.tails.statistics import tail_statistics
from tailgrad.types import Advantages, Rewards, check_rewards


def prefix_tea(
    rewards: Rewards,
    *,
    deploy_n: int | float | Tensor,
    tail_fraction: float = 0.25,
    order: int = 2,
    num_prefixes: int = 4,
    prefix_sizes: Sequence[int] | None = None,
    evaluation: Evaluation = "in_sample",
    cyclic_shifts: bool = True,
    ddof: int = 0,
    center: bool = False,
    validate: bool = True,
) -> Advantages:
    """TEA, jackknifed over prefixes of the group.

    Formula: with prefix sizes n_1 < ... < n_J and the minimum-norm weights that satisfy sum_j w_j = 1 and
    sum_j w_j n_j^-l = 0 for l = 1 .. order - 1,

        A_i = sum over the prefixes containing i of w_j (m / n_j) TEA_i(first n_j rollouts),

    averaged over all cyclic shifts of the rollouts. `evaluation="held_out"` instead fits the tail on the
    prefix and evaluates it on the rollouts outside, with factor m / (m - n_j).

    Scale: mean scale. Removes the bias of TEA up to order 1/m^(order - 1), at the price of variance. Assumes
    what TEA assumes. Equivariant under cyclic shifts of the rollouts, not under every permutation. No signal:
    prefixes whose tail has no spread contribute nothing; a group with too few scored rollouts for `order`
    prefixes gets zeros.

    Args:
        rewards: Rewards `[P, M]`; NaN where a rollout could not be scored.
        deploy_n: N, how many rollouts the best is taken of at deployment; a number or a tensor `[P]`.
        tail_fraction: alpha in (0, 1], the share of each prefix in its tail.
        order: How many orders hold: 2 removes the 1/m bias, 3 also 1/m^2. 1 removes none.
        num_prefixes: J, how many sizes, evenly spaced in tail counts; fewer where M is small.
        prefix_sizes: The sizes themselves, each floor(t / alpha) for a tail count t >= 2; for a group with
            unscored rollouts those that fit. Default: chosen by `num_prefixes`.
        evaluation: "in_sample", or "held_out" with at least 8 rollouts in the tail of the shortest prefix.
        cyclic_shifts: Average over all cyclic shifts (the default: less variance); or only the given order.
        ddof: 0 divides the tail's sum of squares by k (the default), 1 by k - 1.
        center: Subtract the mean advantage of the group.
        validate: Check the values of the rewards and of `deploy_n` first, which waits for the device.

    Returns:
        Advantages `[P, M]` in the units of the rewards.

    Raises:
        TypeError: If `rewards` is not a real tensor or `deploy_n` not a number or a tensor.
        ValueError: If the rewards are not `[P, M]` or hold an infinity, M leaves fewer than `order` prefixes
            (the message names the smallest M that works), or an option is out of range.

    Warns:
        UserWarning: If `deploy_n` <= M, where `max_at_k` is unbiased and needs no extrapolation.

    Example:
        >>> rewards = torch.tensor([[0.0, 1.0, 5.0, 3.0, 2.0, 4.0, 7.0, 6.0]])
        >>> advantages = prefix_tea(rewards, deploy_n=64, tail_fraction=0.5)
        >>> advantages.argmax().item()
        6

    Reference:
        Prefix-TEA, arXiv 2605.10716.
    """
    if validate:
        check_rewards(rewards)
    check_tail(rewards, tail_fraction)
    rollouts = rewards.shape[1]
    plan = prefix_plan(
        rollouts,
        tail_fraction=tail_fraction,
        order=order,
        num_prefixes=num_prefixes,
        prefix_sizes=None if prefix_sizes is None else tuple(prefix_sizes),
        evaluation=evaluation,
    )
    coefficient = tail_coefficient(deploy_n, tail_fraction, rewards, validate=validate)
    relative = relative_rewards(rewards)
    counts = num_scored(rewards).long()
    sizes, weights = (torch.from_numpy(table).to(rewards.device, non_blocking=True) for table in plan)
    sizes, weights = sizes[counts.squeeze(1)], weights[counts.squeeze(1)]
    num_evaluated = sizes if evaluation == "in_sample" else counts - sizes
    scales = weights * counts / num_evaluated.clamp(min=1)
    front = torch.isnan(relative).to(torch.uint8).argsort(dim=1, stable=True)
    shift = torch.arange(rollouts if cyclic_shifts else 1, device=rewards.device).unsqueeze(1)
    shifted = _rotate(relative.gather(1, front).unsqueeze(1).expand(-1, shift.shape[0], -1), shift, counts)
    combined = torch.zeros_like(shifted)
    for size, scale in zip(sizes.T, scales.T, strict=True):
        part = _prefix_influence(shifted, size, coefficient, tail_fraction, ddof, evaluation)
        combined += scale[:, None, None] * part
    averaged = _average_over_shifts(combined, shift, counts)
    advantages = torch.zeros_like(relative).scatter(1, front, averaged)
    return finish(centred(advantages) if center else advantages, rewards)


def _rotate(
    values: Float[Tensor, "P S M"], shift: Int[Tensor, "S 1"], counts: Int[Tensor, "P 1"]
) -> Float[Tensor, "P S M"]:
    """Row s of each prompt, rotated by `shift[s]` among its first `counts` entries; the rest become NaN."""
    position = torch.arange(values.shape[2], device=values.device)
    scored = counts.unsqueeze(2)
    source = (position + shift).remainder(scored.clamp(min=1))
    return values.gather(2, source).where(position < scored, torch.nan)


def _prefix_influence(
    shifted: Float[Tensor, "P S M"],
    size: Int[Tensor, " P"],
    coefficient: float | Float[Tensor, " P"],
    tail_fraction: float,
    ddof: int,
    evaluation: Evaluation,
) -> Float[Tensor, "P S M"]:
    """Influence on the tail of one prefix of every shift; 0 for the rollouts that are not evaluated."""
    shifts = shifted.shape[1]
    inside = torch.arange(shifted.shape[2], device=shifted.device) < size[:, None, None]
    tail = tail_statistics(shifted.where(inside, torch.nan).flatten(0, 1), tail_fraction=tail_fraction, ddof=ddof)
    if isinstance(coefficient, Tensor):
        coefficient = coefficient.repeat_interleave(shifts)
    influence = tail_influence(shifted.flatten(0, 1), tail, coefficient, tail_fraction).view_as(shifted)
    evaluated = inside if evaluation == "in_sample" else ~inside
    return influence.where(evaluated, 0.0)


def _average_over_shifts(
    combined: Float[Tensor, "P S M"], shift: Int[Tensor, "S 1"], counts: Int[Tensor, "P 1"]
) -> Float[Tensor, "P M"]:
    """Rotate every shift back and average over those below the number of scored rollouts."""
    used = shift < counts.unsqueeze(2)
    back = _rotate(combined, -shift, counts).where(used, 0.0)
    return back.sum(dim=1) / counts.clamp(min=1, max=shift.shape[0])
