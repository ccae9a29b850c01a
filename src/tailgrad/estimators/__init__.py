"""Group estimators: rewards `[P, M]` in, advantages `[P, M]` on the mean scale out.

The function of every row of `ESTIMATORS` is a public name, and so is what every trainer needs around one: to find it by
its name, sum the rewards, scale the advantages, take groups of different sizes, log.
"""

from typing import TYPE_CHECKING

from tailgrad.estimators.batch import SCALINGS as SCALINGS
from tailgrad.estimators.batch import advantage_metrics as advantage_metrics
from tailgrad.estimators.batch import differ_by_rounding as differ_by_rounding
from tailgrad.estimators.batch import scale_advantages as scale_advantages
from tailgrad.estimators.batch import sum_rewards as sum_rewards
from tailgrad.estimators.by_name import belongs_to_estimators as belongs_to_estimators
from tailgrad.estimators.by_name import bind as bind
from tailgrad.estimators.by_name import find_estimator as find_estimator
from tailgrad.estimators.by_name import parse_estimator as parse_estimator
from tailgrad.estimators.by_name import smallest_group as smallest_group
from tailgrad.estimators.by_name import spell_estimator as spell_estimator
from tailgrad.estimators.by_name import with_budget as with_budget
from tailgrad.estimators.leave_two_out import leave_two_out as leave_two_out
from tailgrad.estimators.ragged import advantages_ragged as advantages_ragged
from tailgrad.estimators.registry import ESTIMATORS as ESTIMATORS
from tailgrad.estimators.registry import EstimatorRow as EstimatorRow

if TYPE_CHECKING:  # they read the names off the table's imports
    from tailgrad.estimators.registry import *  # noqa: F403
else:
    _OTHERS = [
        "ESTIMATORS",
        "SCALINGS",
        "EstimatorRow",
        "advantage_metrics",
        "advantages_ragged",
        "belongs_to_estimators",
        "bind",
        "differ_by_rounding",
        "find_estimator",
        "leave_two_out",
        "parse_estimator",
        "scale_advantages",
        "smallest_group",
        "spell_estimator",
        "sum_rewards",
        "with_budget",
    ]
    globals().update({name: row.function for name, row in ESTIMATORS.items()})
    __all__ = sorted([*_OTHERS, *ESTIMATORS])
