"""The upper tail of the rewards: Gaussian constants, statistics, shapes, forecasts of V_N, how Gaussian it is."""

from typing import TYPE_CHECKING

from tailgrad.lazy import lazily
from tailgrad.tails.calibrated import CalibratedForecast, calibrated_forecast
from tailgrad.tails.constants import (
    GaussianTail,
    check_budget,
    expected_max_normal,
    extrapolation_coefficient,
    gaussian_tail,
)
from tailgrad.tails.families import FORECASTS, location_scale_forecast, mean_and_std_forecast
from tailgrad.tails.forecasts import (
    exponential_tail_forecast,
    gaussian_tail_forecast,
    max_at_k_forecast,
    standard_error,
    tail_forecast,
)
from tailgrad.tails.gaussianity import UpperTailQQ, upper_tail_qq
from tailgrad.tails.levels import LevelForecast, level_forecast
from tailgrad.tails.pareto import ParetoTail, forecast_of_pareto_tail, pareto_tail, pareto_tail_forecast
from tailgrad.tails.shapes import (
    TAIL_SHAPES,
    FittedTail,
    Influence,
    TailShape,
    influence_on_mean_and_std,
    mean_and_std,
)
from tailgrad.tails.statistics import TailStatistics, UpperTail, excess_moments, tail_size, tail_statistics

if TYPE_CHECKING:
    from tailgrad.tails.diagnosis import TailDiagnosis as TailDiagnosis
    from tailgrad.tails.diagnosis import diagnose_tails as diagnose_tails
    from tailgrad.tails.reach import ReachTest as ReachTest
    from tailgrad.tails.report import write_tails as write_tails
    from tailgrad.tails.verdict import Verdict as Verdict

# They need the intervals, whose libraries take a while to load; an estimator waits for none of them.
_LATER = {
    "diagnosis": ["TailDiagnosis", "diagnose_tails"],
    "reach": ["ReachTest"],
    "report": ["write_tails"],
    "verdict": ["Verdict"],
}
__getattr__, _, _names = lazily(__name__, _LATER)

__all__ = [
    "FORECASTS",
    "TAIL_SHAPES",
    "CalibratedForecast",
    "FittedTail",
    "GaussianTail",
    "Influence",
    "LevelForecast",
    "ParetoTail",
    "TailShape",
    "TailStatistics",
    "UpperTail",
    "UpperTailQQ",
    "calibrated_forecast",
    "check_budget",
    "excess_moments",
    "expected_max_normal",
    "exponential_tail_forecast",
    "extrapolation_coefficient",
    "forecast_of_pareto_tail",
    "gaussian_tail",
    "gaussian_tail_forecast",
    "influence_on_mean_and_std",
    "level_forecast",
    "location_scale_forecast",
    "max_at_k_forecast",
    "mean_and_std",
    "mean_and_std_forecast",
    "pareto_tail",
    "pareto_tail_forecast",
    "standard_error",
    "tail_forecast",
    "tail_size",
    "tail_statistics",
    "upper_tail_qq",
]
__all__ += _names
