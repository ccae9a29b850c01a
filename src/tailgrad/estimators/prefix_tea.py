"""Prefix-TEA: TEA on prefixes of the group, combined so that the low orders of its 1/m bias cancel."""

import math
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tailgrad.estimators._groups import finish, num_scored, per_prompt, prompts_at_once, relative_rewards
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
    rows = prompts_at_once(rewards, rollouts**2)  # for tables [P, M, M]
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
    """Combined influence, averaged over all cyclic shifts of the scored rollouts.

    The rewards are sorted once for all shifts and prefixes: a prefix of a shifted group is a mask over them, and its
    tail ends where the mask has held k of them. Masks are numbers 0 and 1, much faster than `where`; the tables
    [P, M, M] of floats are overwritten, because fresh memory costs more than the arithmetic.
    """
    scored = ~torch.isnan(relative)
    counts = scored.sum(dim=1)[:, None, None]
    descending, order = relative.nan_to_num(nan=-math.inf).sort(dim=1, descending=True)
    ranked = descending.nan_to_num(neginf=0.0)[:, None, :]
    behind, used = _distances(scored, order)
    tails = tail_size(sizes, tail_fraction)
    evaluated = sizes if evaluation == "in_sample" else counts[:, 0] - sizes
    factors = weights * counts[:, 0] / evaluated.clamp(min=1)
    total = torch.zeros_like(relative)
    mask, excess = torch.empty_like(behind, dtype=torch.float64), torch.empty_like(behind, dtype=torch.float64)
    for size, k, factor in zip(*(table.T[:, :, None, None] for table in (sizes, tails, factors)), strict=True):
        inside = (size.to(behind.dtype) - behind).clamp(min=0, max=1)
        missing = (k.to(behind.dtype) - inside.cumsum(dim=2, dtype=behind.dtype)).clamp(min=0, max=1)
        last = missing.sum(dim=2, dtype=behind.dtype).long().clamp(max=relative.shape[1] - 1)
        threshold = ranked[:, 0].gather(1, last).unsqueeze(2)
        mask.copy_(inside)
        excess.copy_(ranked).sub_(threshold).relu_().mul_(mask)
        location, scale = shape.moments(excess, k, size)
        tail = FittedTail(threshold, location, scale, k, size)
        jump, linear, quadratic = shape.influence(tail, coefficient[:, None, None], tail_fraction)
        if evaluation == "held_out":
            mask.neg_().add_(1)
            excess.copy_(ranked).sub_(threshold).relu_().mul_(mask)
        weight = factor * used
        influence = mask.copy_(excess).mul_(quadratic * weight).add_(linear * weight).mul_(excess)  # done with the mask
        if jump is not None:
            influence.add_((excess > 0) * (jump * weight))
        total += influence.sum(dim=1)
    return torch.zeros_like(total).scatter(1, order, total / counts[:, 0].clamp(min=1))


def _distances(
    scored: Bool[Tensor, "P M"], order: Int[Tensor, "P M"]
) -> tuple[Int[Tensor, "P M M"], Bool[Tensor, "P M 1"]]:
    """How far each rollout, taken in `order`, lies behind the start of each shifted group; and which shifts there are.

    Short integers, for speed. Unscored rollouts lie behind every prefix; n scored rollouts have n shifts.
    """
    rollouts = scored.shape[1]
    short = torch.int16 if 3 * rollouts < 2**15 else torch.int32
    counts = scored.sum(dim=1, dtype=short)[:, None, None]
    position = (scored.cumsum(dim=1, dtype=short) - 1).where(scored, 2 * rollouts)
    shift = torch.arange(rollouts, dtype=short, device=scored.device)[:, None]
    behind = position.gather(1, order)[:, None, :] - shift
    return torch.where(behind < 0, behind + counts, behind), shift < counts
