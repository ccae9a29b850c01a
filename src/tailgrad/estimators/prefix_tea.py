"""Prefix-TEA: TEA on prefixes of the group, combined so that the low orders of its 1/m bias cancel."""

import math
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tailgrad.estimators._groups import finish, num_scored, per_prompt, relative_rewards, tables_at_once
from tailgrad.estimators._prefixes import Evaluation, prefix_plan
from tailgrad.estimators.tea import check_tail, warn_unless_extrapolating
from tailgrad.tails.shapes import FittedTail, TailShape, tail_shape
from tailgrad.tails.statistics import tail_size
from tailgrad.types import Advantages, Rewards, check_rewards


def prefix_tea(
    rewards: Rewards,
    *,
    deploy_n: int | float | Tensor,
    tail_fraction: float = 0.25,
    tail: str = "gaussian",
    order: int = 2,
    num_prefixes: int = 4,
    evaluation: Evaluation = "in_sample",
    validate: bool = True,
) -> Advantages:
    """TEA, jackknifed over prefixes of the group.

    Formula: with prefix sizes n_1 < ... < n_J and the minimum-norm weights that satisfy sum_j w_j = 1 and
    sum_j w_j n_j^-l = 0 for l = 1 .. order - 1,

        A_i = sum over the prefixes containing i of w_j (m / n_j) TEA_i(first n_j rollouts),

    averaged over all cyclic shifts of the rollouts. With `evaluation="held_out"` the tail is instead fitted on the
    prefix and evaluated on the rollouts outside it, with the factor m / (m - n_j).

    Scale: mean scale. It removes the bias of TEA up to order 1/m^(order - 1), at the price of variance. It assumes what
    TEA assumes. It is equivariant under cyclic shifts of the rollouts, not under every permutation. No signal: prefixes
    whose tail has no spread contribute nothing. A group with too few scored rollouts for `order` prefixes gets zeros.

    Args:
        rewards: Rewards `[P, M]`; NaN where a rollout could not be scored.
        deploy_n: N, the responses per prompt at deployment; a number or a tensor `[P]`.
        tail_fraction: alpha in (0, 1], the share of each prefix in its tail.
        tail: The assumed shape of the upper tail, as in `tea`.
        order: How many orders hold: 2 removes the 1/m bias, 3 also 1/m^2. 1 removes none.
        num_prefixes: J, how many sizes, evenly spaced in tail counts; fewer where M is small.
        evaluation: "in_sample", or "held_out" with at least 8 rollouts in the tail of the shortest prefix.
        validate: Check the values of the rewards and of `deploy_n` first, which waits for the device.

    Returns:
        Advantages `[P, M]` in the units of the rewards.

    Raises:
        TypeError: If `rewards` is not a real tensor or `deploy_n` not a number or a tensor.
        ValueError: If the rewards are not `[P, M]` or hold an infinity, M leaves fewer than `order` prefixes
            (the message names the smallest M that works), or an option is out of range.

    Warns:
        UserWarning: If `deploy_n` <= M, where `max_at_k` is unbiased and needs no extrapolation.

    Examples:
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
    shape = tail_shape(tail)
    rollouts = rewards.shape[1]
    plan = prefix_plan(
        rollouts, tail_fraction=tail_fraction, order=order, num_prefixes=num_prefixes, evaluation=evaluation
    )
    coefficient = shape.coefficient(per_prompt(deploy_n, rewards), tail_fraction, validate=validate)
    if validate:
        warn_unless_extrapolating(deploy_n, rewards)
    relative = relative_rewards(rewards)
    chosen = num_scored(rewards).long().squeeze(1)
    sizes, weights = (torch.from_numpy(table).to(rewards.device, non_blocking=True)[chosen] for table in plan)
    coefficients = torch.zeros_like(relative[:, 0]) + coefficient
    fit = partial(_average_over_shifts, shape=shape, tail_fraction=tail_fraction, evaluation=evaluation)
    rows = tables_at_once(rewards, rollouts**2)
    parts = zip(*(torch.split(table, rows) for table in (relative, sizes, weights, coefficients)), strict=True)
    return finish(torch.cat([fit(*part) for part in parts]).where(~torch.isnan(relative), math.nan), rewards)


def _average_over_shifts(
    relative: Float[Tensor, "P M"],
    sizes: Int[Tensor, "P J"],
    weights: Float[Tensor, "P J"],
    coefficient: Float[Tensor, " P"],
    *,
    shape: TailShape,
    tail_fraction: float,
    evaluation: Evaluation,
) -> Float[Tensor, "P M"]:
    """Combined influence, averaged over all cyclic shifts of the scored rollouts, a few shifts at a time.

    The rewards are sorted once for all shifts and prefixes.
    """
    scored = ~torch.isnan(relative)
    descending, order = relative.nan_to_num(nan=-math.inf).sort(dim=1, descending=True)
    ranked, positions = descending.nan_to_num(neginf=0.0), _positions(scored).gather(1, order)
    counts = scored.sum(dim=1, keepdim=True, dtype=positions.dtype)
    evaluated = sizes if evaluation == "in_sample" else counts - sizes
    factors = weights * counts / evaluated.clamp(min=1)
    shifts = torch.arange(relative.shape[1], dtype=positions.dtype, device=relative.device)
    total = torch.zeros_like(relative)
    for some in torch.split(shifts, tables_at_once(relative, relative.numel())):
        behind, used = _distances(positions, counts, some)
        tables = ranked, behind, used, sizes, factors, coefficient
        total += _sum_over_shifts(*tables, shape=shape, tail_fraction=tail_fraction, evaluation=evaluation)
    return torch.zeros_like(total).scatter(1, order, total / counts.clamp(min=1))


def _sum_over_shifts(
    ranked: Float[Tensor, "P M"],
    behind: Int[Tensor, "P S M"],
    used: Bool[Tensor, "P S 1"],
    sizes: Int[Tensor, "P J"],
    factors: Float[Tensor, "P J"],
    coefficient: Float[Tensor, " P"],
    *,
    shape: TailShape,
    tail_fraction: float,
    evaluation: Evaluation,
) -> Float[Tensor, "P M"]:
    """Combined influence of the ranked rollouts, summed over the shifts that `behind` and `used` are of.

    A prefix of a shifted group is a mask over the ranked rewards, and its tail ends where the mask has held k of them.
    Masks are numbers 0 and 1, much faster than `where`; the tables [P, S, M] of floats are overwritten, because fresh
    memory costs more than the arithmetic.
    """
    total, tails = torch.zeros_like(ranked), tail_size(sizes, tail_fraction)
    mask, excess = torch.empty_like(behind, dtype=torch.float64), torch.empty_like(behind, dtype=torch.float64)
    for size, k, factor in zip(*(table.T[:, :, None, None] for table in (sizes, tails, factors)), strict=True):
        inside = (size.to(behind.dtype) - behind).clamp(min=0, max=1)
        missing = (k.to(behind.dtype) - inside.cumsum(dim=2, dtype=behind.dtype)).clamp(min=0, max=1)
        last = missing.sum(dim=2, dtype=behind.dtype).long().clamp(max=ranked.shape[1] - 1)
        threshold = ranked.gather(1, last).unsqueeze(2)
        mask.copy_(inside)
        excess.copy_(ranked[:, None, :]).sub_(threshold).relu_().mul_(mask)
        location, scale = shape.moments(excess, k, size)
        tail = FittedTail(threshold, location, scale, k, size)
        jump, linear, quadratic = shape.influence(tail, coefficient[:, None, None], tail_fraction)
        if evaluation == "held_out":
            mask.neg_().add_(1)
            excess.copy_(ranked[:, None, :]).sub_(threshold).relu_().mul_(mask)
        weight = factor * used
        influence = mask.copy_(excess).mul_(quadratic * weight).add_(linear * weight).mul_(excess)  # done with the mask
        if jump is not None:
            influence.add_((excess > 0) * (jump * weight))
        total += influence.sum(dim=1)
    return total


def _positions(scored: Bool[Tensor, "P M"]) -> Int[Tensor, "P M"]:
    """Each rollout's place among the scored ones; unscored ones lie behind every prefix.

    Short integers, for speed, where they hold all that `_distances` adds up: less than 3 M.
    """
    rollouts = scored.shape[1]
    short = torch.int16 if 3 * rollouts < 2**15 else torch.int32
    return (scored.cumsum(dim=1, dtype=short) - 1).where(scored, 2 * rollouts)


def _distances(
    positions: Int[Tensor, "P M"], counts: Int[Tensor, "P 1"], shifts: Int[Tensor, " S"]
) -> tuple[Int[Tensor, "P S M"], Bool[Tensor, "P S 1"]]:
    """How far each rollout lies behind the start of each shifted group; and which shifts there are: n of n scored."""
    counts, shifts = counts[:, :, None], shifts[:, None]
    behind = positions[:, None, :] - shifts
    return torch.where(behind < 0, behind + counts, behind), shifts < counts
