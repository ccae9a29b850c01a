"""What every trainer needs: an estimator with its options, on groups of any size in any order."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tailgrad.estimators import (
    SCALINGS,
    advantages_ragged,
    bind,
    find_estimator,
    parse_estimator,
    smallest_group,
    spell_estimator,
    with_budget,
)
from tailgrad.estimators.ragged import GroupIds

DEPLOY_N = 128
"""N where none is given, as in `tailgrad train`."""


@dataclass(frozen=True)
class GroupEstimator:
    """An estimator with its options and the scale of its advantages, for groups of any size in any order.

    Attributes:
        name: A key of `ESTIMATORS`.
        options: Its options, `deploy_n` among them where it takes one.
        scaling: "none", "group" or "batch"; None is the estimator's own, as in `tailgrad train`.

    Raises:
        ValueError, TypeError: An option is unknown, missing or of another kind, or there is no such scaling.

    Examples:
        >>> tea = GroupEstimator.read("tea:tail_fraction=1", deploy_n=64)
        >>> tea(torch.tensor([1.0, 7.0, 3.0, 5.0, 9.0]), ["a", "b", "a", "a", "b"]).round(decimals=2)
        tensor([ 0.0000,  0.0000, -0.8700,  4.0000,  2.0000])
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    scaling: str | None = None

    def __post_init__(self) -> None:
        """Refuse what the estimator does not take."""
        bind(self.name, **self.options)
        if self.scaling not in (None, *SCALINGS):
            raise ValueError(f"advantage_scaling = {self.scaling!r} is unknown; choose one of {', '.join(SCALINGS)}.")

    @classmethod
    def read(cls, estimator: str, *, deploy_n: int = DEPLOY_N, advantage_scaling: str | None = None) -> Self:
        """The estimator as it is written everywhere, such as "tea:tail_fraction=0.5".

        Args:
            estimator: Name and options.
            deploy_n: N, for an estimator that takes it.
            advantage_scaling: How its advantages are scaled.

        Returns:
            The estimator.
        """
        name, options = parse_estimator(estimator)
        return cls(name, with_budget(name, options, deploy_n), advantage_scaling)

    def name_beside(self, taken: Collection[str]) -> str:
        """The estimator's name in a trainer that has estimators of these names, none of which it replaces.

        Args:
            taken: The trainer's own names.

        Returns:
            Its name, or `tailgrad_NAME`.
        """
        return f"tailgrad_{self.name}" if self.name in taken else self.name

    def __call__(
        self,
        rewards: Float[Tensor, " B"],
        group_ids: GroupIds,
        trained: Bool[Tensor, " B"] | None = None,
        *,
        whole_batch: bool = True,
    ) -> Float[Tensor, " B"]:
        """The advantages of rollouts.

        A group with too few rollouts gets zeros, and a warning says so; a batch of such groups alone is an error.

        Args:
            rewards: One reward per rollout; NaN where it could not be scored. In float32, if they ever were:
                differences that rounding made are told by the precision.
            group_ids: The group of each rollout, as `advantages_ragged` takes it.
            trained: Which rollouts are trained on. Each other one gets 0 and is left out of its group.
            whole_batch: Whether these are all rollouts of a step as they were drawn. Say False where a trainer has
                dropped some or hands over prompt by prompt: a batch of small groups alone then gets zeros too.

        Returns:
            Advantages.

        Raises:
            ValueError: No group has as many rollouts as the estimator needs, though these are all that were drawn, or
                a reward is infinite.
        """
        ids = group_ids.tolist() if hasattr(group_ids, "tolist") else list(group_ids)
        kept = torch.ones_like(rewards, dtype=torch.bool) if trained is None else trained
        members = [name for name, one in zip(ids, kept.tolist(), strict=True) if one]
        self._check_sizes(Counter(ids), members, rewards[kept].isnan().tolist(), whole_batch)
        scaling = self.scaling or find_estimator(self.name).scaling
        flat = advantages_ragged(rewards[kept], members, bind(self.name, **self.options), scaling=scaling)
        return flat.new_zeros(len(rewards)).masked_scatter(kept, flat)

    def check_drawn(self, drawn: int, words: str) -> None:
        """Refuse groups that are drawn too small.

        Args:
            drawn: Rollouts of a prompt, of the largest group.
            words: What has so many, such as "num_generations is".

        Raises:
            ValueError: The estimator needs more.
        """
        if drawn < smallest_group(self.name, **self.options):
            larger = (
                "a larger tail_fraction"
                if "tail_fraction" in find_estimator(self.name).options
                else "another estimator"
            )
            raise ValueError(f"{self._needs}, and {words} {drawn}: draw more rollouts per prompt, or take {larger}.")

    @property
    def _needs(self) -> str:
        needed = smallest_group(self.name, **self.options)
        return f"{spell_estimator(self.name, self.options)} needs {needed} rollouts per prompt"

    def _check_sizes(self, drawn: Counter[Any], members: list[Any], unscored: list[bool], whole_batch: bool) -> None:
        """Say of groups that are too small, and refuse a batch whose groups were drawn too small.

        A group of which nothing is trained on may be what a trainer fills its batch with, and is not looked at.
        """
        if whole_batch and members:
            self.check_drawn(max(drawn[name] for name in members), "the largest group of this batch has")
        usable = Counter(name for name, one in zip(members, unscored, strict=True) if not one)
        if any(usable[name] < smallest_group(self.name, **self.options) for name in set(members)):
            warnings.warn(f"{self._needs}; groups with fewer that count get advantages of 0.", stacklevel=3)
