"""The table of estimators: a row for each, with all that trainers and reports must know of it."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from tailgrad.estimators._prefixes import smallest_prefix_group
from tailgrad.estimators.bon_max_mean import bon_max_mean as bon_max_mean
from tailgrad.estimators.bon_max_second import bon_max_second as bon_max_second
from tailgrad.estimators.bon_rl import bon_rl as bon_rl
from tailgrad.estimators.cat_bon import cat_bon as cat_bon
from tailgrad.estimators.cvar import cvar as cvar
from tailgrad.estimators.dr_grpo import dr_grpo as dr_grpo
from tailgrad.estimators.entropic import entropic as entropic
from tailgrad.estimators.entropic import smallest_entropic_group
from tailgrad.estimators.f_grpo import f_grpo as f_grpo
from tailgrad.estimators.flat_tea import flat_tea as flat_tea
from tailgrad.estimators.flat_tea import smallest_flat_group
from tailgrad.estimators.grpo import grpo as grpo
from tailgrad.estimators.max_at_k import max_at_k as max_at_k
from tailgrad.estimators.max_at_k import smallest_subset_group
from tailgrad.estimators.max_rl import max_rl as max_rl
from tailgrad.estimators.order_grad import order_grad as order_grad
from tailgrad.estimators.order_grad import smallest_order_group
from tailgrad.estimators.pass_at_k import pass_at_k as pass_at_k
from tailgrad.estimators.pass_at_k import smallest_pass_group
from tailgrad.estimators.pass_at_n import pass_at_n as pass_at_n
from tailgrad.estimators.prefix_tea import prefix_tea as prefix_tea
from tailgrad.estimators.qae import qae as qae
from tailgrad.estimators.rloo import rloo as rloo
from tailgrad.estimators.rs_grpo import rs_grpo as rs_grpo
from tailgrad.estimators.tea import smallest_tail_group
from tailgrad.estimators.tea import tea as tea
from tailgrad.types import Advantages, Rewards


def two(**options: object) -> int:
    """The smallest group of most estimators, whatever their options."""
    return 2


@dataclass(frozen=True)
class EstimatorRow:
    """An estimator, and what those who use it must know of it. It is called as its function is.

    Attributes:
        function: From rewards `[P, M]` to advantages `[P, M]`; its options are keyword-only.
        smallest_group: From its options to the fewest scored rollouts that can give a group advantages other than 0.
        has_scale: Whether the size of its advantages means something. It does not if each group's own spread divides
            them.
        follows_mean: Whether it aims at the mean reward. Estimators that aim at the best of N are compared with it.
        scaling: How a training scales its advantages by default: "none", "group" or "batch".
        over_batch: Whether what it gives to a group depends on the other groups of the table.

    Examples:
        >>> import torch
        >>> row = EstimatorRow(lambda rewards: rewards - rewards.median(), over_batch=True)
        >>> row(torch.tensor([[0.0, 1.0, 5.0]]))
        tensor([[-1.,  0.,  4.]])
    """

    function: Callable[..., Advantages]
    smallest_group: Callable[..., int] = two
    has_scale: bool = True
    follows_mean: bool = False
    scaling: str = "none"
    over_batch: bool = False

    def __call__(self, rewards: Rewards, /, *args: Any, **options: Any) -> Advantages:
        """The advantages of the rollouts with these rewards."""
        return self.function(rewards, *args, **options)

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """Its keyword arguments in their order, but for `validate`."""
        parameters = inspect.signature(self.function).parameters
        return {name: p for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY and name != "validate"}

    @property
    def takes_deploy_n(self) -> bool:
        """Whether it knows N, for how many rollouts it trains."""
        return "deploy_n" in self.options

    @property
    def takes_ratios(self) -> bool:
        """Whether it corrects for rollouts of an older policy, given their ratios as its second argument."""
        return "ratios" in inspect.signature(self.function).parameters

    @property
    def summary(self) -> str:
        """What it is, in a line: the first of its docstring, without the full stop."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0].rstrip(".")

    @property
    def reference(self) -> str:
        """Where it comes from, as its docstring says."""
        return " ".join((inspect.getdoc(self.function) or "").partition("Reference:\n")[2].split())


ESTIMATORS: dict[str, EstimatorRow] = {
    "tea": EstimatorRow(tea, smallest_tail_group),
    "prefix_tea": EstimatorRow(prefix_tea, smallest_prefix_group),
    "flat_tea": EstimatorRow(flat_tea, smallest_flat_group, scaling="group"),
    "cvar": EstimatorRow(cvar, smallest_tail_group),
    "grpo": EstimatorRow(grpo, has_scale=False, follows_mean=True),
    "dr_grpo": EstimatorRow(dr_grpo, follows_mean=True),
    "rloo": EstimatorRow(rloo, follows_mean=True),
    "max_at_k": EstimatorRow(max_at_k, smallest_subset_group),
    "order_grad": EstimatorRow(order_grad, smallest_order_group),
    "bon_max_mean": EstimatorRow(bon_max_mean),
    "bon_max_second": EstimatorRow(bon_max_second),
    "bon_rl": EstimatorRow(bon_rl),
    "cat_bon": EstimatorRow(cat_bon, has_scale=False, over_batch=True),
    "pass_at_k": EstimatorRow(pass_at_k, smallest_pass_group, has_scale=False),
    "pass_at_n": EstimatorRow(pass_at_n, over_batch=True),
    "max_rl": EstimatorRow(max_rl),
    "f_grpo": EstimatorRow(f_grpo, has_scale=False),
    "rs_grpo": EstimatorRow(rs_grpo),
    "entropic": EstimatorRow(entropic, smallest_entropic_group, has_scale=False),
    "qae": EstimatorRow(qae, has_scale=False),
}
"""Every estimator by its plain name."""


def row_of(estimator: Callable[..., Tensor]) -> tuple[EstimatorRow, dict[str, Any]]:
    """The row of an estimator, and the options that are bound to it.

    Args:
        estimator: A row, a function, or what `bind` returns. A function that stands in no row is taken for one that
            needs two rollouts and looks at one group at a time.

    Returns:
        The row, and the options without `validate`.

    Examples:
        >>> row_of(partial(tea, deploy_n=64))[1]
        {'deploy_n': 64}
    """
    bound: dict[str, Any] = {}
    if isinstance(estimator, partial):
        bound = {name: option for name, option in estimator.keywords.items() if name != "validate"}
        estimator = estimator.func
    if isinstance(estimator, EstimatorRow):
        return estimator, bound
    found = (row for row in ESTIMATORS.values() if row.function is estimator)
    return next(found, EstimatorRow(estimator)), bound
