"""The upper tail of the rewards: Gaussian constants, statistics, shapes, forecasts of V_N, how Gaussian it is."""

from tailgrad.tails.constants import (
    GaussianTail,
    check_budget,
    expected_max_normal,
    extrapolation_coefficient,
    gaussian_tail,
)
from tailgrad.tails.forecasts import (
    exponential_tail_forecast,
    gaussian_tail_forecast,
    max_at_k_forecast,
    standard_error,
    tail_forecast,
)
from tailgrad.tails.gaussianity import UpperTailQQ, upper_tail_qq
from tailgrad.tails.pareto import ParetoTail, pareto_tail
from tailgrad.tails.shapes import (
    TAIL_SHAPES,
    FittedTail,
    Influence,
    TailShape,
    influence_on_mean_and_std,
    mean_and_std,
)
from tailgrad.tails.statistics import TailStatistics, UpperTail, excess_moments, tail_size, tail_statistics

__all__ = [
    "TAIL_SHAPES",
    "FittedTail",
    "GaussianTail",
    "Influence",
    "ParetoTail",
    "TailShape",
    "TailStatistics",
    "UpperTail",
    "UpperTailQQ",
    "check_budget",
    "excess_moments",
    "expected_max_normal",
    "exponential_tail_forecast",
    "extrapolation_coefficient",
    "gaussian_tail",
    "gaussian_tail_forecast",
    "influence_on_mean_and_std",
    "max_at_k_forecast",
    "mean_and_std",
    "pareto_tail",
    "standard_error",
    "tail_forecast",
    "tail_size",
    "tail_statistics",
    "upper_tail_qq",
]
