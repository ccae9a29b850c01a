"""Group estimators: rewards `[P, M]` in, advantages `[P, M]` on the mean scale out."""

from tailgrad.estimators.bon_max_mean import bon_max_mean
from tailgrad.estimators.bon_max_second import bon_max_second
from tailgrad.estimators.bon_rl import bon_rl
from tailgrad.estimators.by_name import (
    belongs_to_estimators,
    bind,
    find_estimator,
    parse_estimator,
    smallest_group,
    spell_estimator,
    with_budget,
)
from tailgrad.estimators.cat_bon import cat_bon
from tailgrad.estimators.cvar import cvar
from tailgrad.estimators.dr_grpo import dr_grpo
from tailgrad.estimators.entropic import entropic
from tailgrad.estimators.f_grpo import f_grpo
from tailgrad.estimators.flat_tea import flat_tea
from tailgrad.estimators.grpo import grpo
from tailgrad.estimators.leave_two_out import leave_two_out
from tailgrad.estimators.max_at_k import max_at_k
from tailgrad.estimators.max_rl import max_rl
from tailgrad.estimators.order_grad import order_grad
from tailgrad.estimators.pass_at_k import pass_at_k
from tailgrad.estimators.pass_at_n import pass_at_n
from tailgrad.estimators.prefix_tea import prefix_tea
from tailgrad.estimators.qae import qae
from tailgrad.estimators.ragged import advantages_ragged
from tailgrad.estimators.registry import ESTIMATORS, EstimatorRow
from tailgrad.estimators.rloo import rloo
from tailgrad.estimators.rs_grpo import rs_grpo
from tailgrad.estimators.tea import tea

__all__ = [
    "ESTIMATORS",
    "EstimatorRow",
    "advantages_ragged",
    "belongs_to_estimators",
    "bind",
    "bon_max_mean",
    "bon_max_second",
    "bon_rl",
    "cat_bon",
    "cvar",
    "dr_grpo",
    "entropic",
    "f_grpo",
    "find_estimator",
    "flat_tea",
    "grpo",
    "leave_two_out",
    "max_at_k",
    "max_rl",
    "order_grad",
    "parse_estimator",
    "pass_at_k",
    "pass_at_n",
    "prefix_tea",
    "qae",
    "rloo",
    "rs_grpo",
    "smallest_group",
    "spell_estimator",
    "tea",
    "with_budget",
]
