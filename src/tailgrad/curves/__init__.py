"""Best-of-N curves: exact V_N of rollouts, paired comparison of policies, and the report."""

from tailgrad.curves.best_of_n import best_of_n, budgets_up_to
from tailgrad.curves.compare import Comparison, Curve, compare
from tailgrad.curves.pairing import comparable_runs
from tailgrad.curves.report import write_report
from tailgrad.curves.runs import Run

__all__ = [
    "Comparison",
    "Curve",
    "Run",
    "best_of_n",
    "budgets_up_to",
    "comparable_runs",
    "compare",
    "write_report",
]
