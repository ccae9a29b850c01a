"""Groups of different sizes in one flat batch, in any order: what engines such as verl hand over."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Real
from torch import Tensor

from tailgrad.estimators._groups import num_scored
from tailgrad.estimators.batch import differ_by_rounding, scale_advantages
from tailgrad.estimators.registry import row_of
from tailgrad.types import check_sizes

FlatRewards = Real[Tensor, " B"] | Bool[Tensor, " B"]
GroupIds = Tensor | np.ndarray | Sequence[Any]


def advantages_ragged(
    rewards: FlatRewards,
    group_ids: GroupIds,
    estimator: Callable[..., Tensor],
    *,
    scaling: str = "none",
    **options: Any,
) -> Float[Tensor, " B"]:
    """Advantages of rollouts that come in groups of different sizes, shuffled.

    Each group gets the advantages that the estimator gives to it alone, whatever else is in the batch. The rollouts of
    a group are taken in the order of the batch, and a group of n rollouts counts as m = n. A group that is too small
    for the estimator gets zeros, like a group with too few scored rollouts, even if all groups are too small.
    `smallest_group` says how many rollouts are enough.

    An estimator whose formula has a mean over the batch (`cat_bon`) gets every group as a batch of its own. Its weights
    grow steeply with the size of the group, so small groups would otherwise get next to nothing beside large ones.

    Args:
        rewards: One reward per rollout; NaN where it could not be scored.
        group_ids: The group of each rollout: a tensor of whole numbers, or a sequence of any hashable sortable
            labels, such as strings.
        estimator: A function from rewards `[P, M]` to advantages `[P, M]`, such as a value of `ESTIMATORS` or what
            `bind` returns. If your own estimator needs more than two rollouts, or looks at the whole batch, give an
            `EstimatorRow` that says so.
        scaling: How the advantages are scaled to root mean square one, as by `scale_advantages`: "none", "group" or
            "batch". The rollouts of a group that could not be scored count with their 0.
        **options: Passed on to the estimator. A tensor `deploy_n` holds one N per rollout, the same within a group.

    Returns:
        Advantages `[B]` on the mean scale: the gradient of one prompt is the mean over its own rollouts.

    Raises:
        TypeError: If `rewards` is not a tensor.
        ValueError: If the rewards are not flat, there is not one group id for each, the scaling is unknown, or as the
            estimator.

    Examples:
        >>> from tailgrad.estimators import rloo
        >>> advantages_ragged(torch.tensor([1.0, 7.0, 3.0, 5.0, 9.0]), ["a", "b", "a", "a", "b"], rloo)
        tensor([-3., -2.,  0.,  3.,  2.])
    """
    group, size, place = _layout(rewards, group_ids)
    row, bound = row_of(estimator)
    own = {name: option for name, option in (bound | options).items() if name != "validate"}
    if {**getattr(estimator, "keywords", {}), **options}.get("validate", True):
        check_sizes(rewards)
    smallest = row.smallest_group(**own)
    columns: int = max([2, smallest, *size.tolist()])
    floating = rewards if rewards.is_floating_point() else rewards.to(torch.float64)
    table = floating.new_full((len(size), columns), torch.nan)
    table[group, place] = floating
    budget = options.get("deploy_n")
    if isinstance(budget, Tensor) and budget.ndim == 1:
        if len(budget) != len(rewards):
            raise ValueError(f"deploy_n must hold one N per rollout, {len(rewards)}, got {len(budget)}")
        options["deploy_n"] = budget.new_zeros(len(size)).index_put((group,), budget.to(rewards.device))
    advantages = _one_by_one(estimator, table, options) if row.over_batch else estimator(table, **options)
    advantages = advantages.where(num_scored(table) >= smallest, 0.0)
    flat = _scaled(advantages, table, size, scaling)[group, place]
    return flat if rewards.is_floating_point() else flat.to(torch.float32)


def _scaled(advantages: Tensor, table: Tensor, size: Int[Tensor, " P"], scaling: str) -> Tensor:
    """Advantages of a table that is filled up, as if each of its groups were alone; NaN where it is filled up."""
    columns = table.shape[1]
    filled_up = torch.arange(columns, device=size.device) >= size.unsqueeze(1)
    # A group of n in a table of M columns comes out as n of M scored rollouts would: times M / n.
    advantages = advantages * (size.to(advantages.dtype) / columns).unsqueeze(1)
    rounding = differ_by_rounding(table.reshape(-1, 1), table.new_ones(1), columns)
    return scale_advantages(advantages.masked_fill(filled_up, torch.nan), scaling, rounding)


def _one_by_one(estimator: Callable[..., Tensor], table: Tensor, options: dict[str, Any]) -> Tensor:
    """Advantages of each group as a table of its own."""
    budget = options.get("deploy_n")
    given = [options] * len(table)
    if isinstance(budget, Tensor) and budget.ndim == 1:
        given = [{**options, "deploy_n": own} for own in budget]
    parts = [estimator(group.unsqueeze(0), **its) for group, its in zip(table, given, strict=True)]
    return torch.cat(parts) if parts else estimator(table, **options)


def _layout(rewards: Tensor, group_ids: GroupIds) -> tuple[Int[Tensor, " B"], Int[Tensor, " P"], Int[Tensor, " B"]]:
    """Row of each rollout, size of each row, and place of each rollout in its row, in the order of the batch."""
    if not isinstance(rewards, Tensor):
        raise TypeError(f"rewards must be a torch tensor of shape [B], got {type(rewards).__name__}")
    if rewards.ndim != 1:
        raise ValueError(f"rewards must be flat, [B], got shape {tuple(rewards.shape)}; a table goes to the estimator")
    if len(group_ids) != len(rewards):
        raise ValueError(f"{len(rewards)} rewards need as many group ids, got {len(group_ids)}")
    if not isinstance(group_ids, Tensor):
        labels = group_ids.tolist() if isinstance(group_ids, np.ndarray) else list(group_ids)
        for at, label in enumerate(labels):
            if label is None or label != label:
                raise ValueError(f"the group id of rollout {at} is {label}: give each rollout its group's")
        numbers = {label: number for number, label in enumerate(sorted(set(labels)))}
        group_ids = torch.tensor([numbers[label] for label in labels], dtype=torch.int64)
    elif group_ids.isnan().any():
        at = int(group_ids.isnan().nonzero()[0])
        raise ValueError(f"the group id of rollout {at} is nan: give each rollout its group's")
    _, group, size = torch.unique(group_ids.to(rewards.device), return_inverse=True, return_counts=True)
    order = group.argsort(stable=True)
    start = size.cumsum(0) - size
    place = torch.empty_like(group)
    place[order] = torch.arange(len(group), device=group.device) - start[group[order]]
    return group, size, place
