"""Best-of-N curves: exact V_N of rollouts, paired comparison of policies, and the report."""

from tailgrad.curves.best_of_n import best_of_n, budgets_up_to
from tailgrad.curves.compare import Comparison, Curve, compare
from tailgrad.curves.forecast import CurveForecast, forecast_curve
from tailgrad.curves.pairing import comparable_rollouts
from tailgrad.curves.report import write_report
from tailgrad.curves.rollouts import Rollouts

__all__ = [
    "Comparison",
    "Curve",
    "CurveForecast",
    "Rollouts",
    "best_of_n",
    "budgets_up_to",
    "comparable_rollouts",
    "compare",
    "forecast_curve",
    "write_report",
]
