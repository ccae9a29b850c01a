"""Best-of-N curves: exact V_N, intervals over prompts and seeds, paired comparison, figures."""

from tailgrad.evaluation.best_of_n import best_of_n, budgets_up_to
from tailgrad.evaluation.comparison import comparable_runs, paired_difference
from tailgrad.evaluation.curves import Comparison, Curve, compare
from tailgrad.evaluation.intervals import Interval, mean_interval
from tailgrad.evaluation.report import write_report
from tailgrad.evaluation.runs import Run

__all__ = [
    "Comparison",
    "Curve",
    "Interval",
    "Run",
    "best_of_n",
    "budgets_up_to",
    "comparable_runs",
    "compare",
    "mean_interval",
    "paired_difference",
    "write_report",
]
