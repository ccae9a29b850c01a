"""Best-of-N curves: exact V_N, intervals, paired comparison; gradient fidelity; figures."""

from tailgrad.evaluation.best_of_n import best_of_n, budgets_up_to
from tailgrad.evaluation.break_even import break_even
from tailgrad.evaluation.comparison import comparable_runs, paired_difference
from tailgrad.evaluation.curves import Comparison, Curve, compare
from tailgrad.evaluation.fidelity import (
    Fidelity,
    FidelityPoint,
    ResponseGradients,
    check_fidelity,
    gradient_fidelity,
    population_influence,
)
from tailgrad.evaluation.fidelity_report import fidelity_markdown, write_fidelity
from tailgrad.evaluation.intervals import Interval, mean_interval
from tailgrad.evaluation.report import write_report
from tailgrad.evaluation.runs import Run

__all__ = [
    "Comparison",
    "Curve",
    "Fidelity",
    "FidelityPoint",
    "Interval",
    "ResponseGradients",
    "Run",
    "best_of_n",
    "break_even",
    "budgets_up_to",
    "check_fidelity",
    "comparable_runs",
    "compare",
    "fidelity_markdown",
    "gradient_fidelity",
    "mean_interval",
    "paired_difference",
    "population_influence",
    "write_fidelity",
    "write_report",
]
