"""The upper tail of the rewards: Gaussian constants, statistics, shapes, forecasts of V_N, how Gaussian it is."""

from tailgrad.tails.constants import (
    GaussianTail,
    expected_max_normal,
    extrapolation_coefficient,
    gaussian_tail,
)
from tailgrad.tails.forecasts import (
    FORECASTS,
    exponential_tail_forecast,
    gaussian_tail_forecast,
    max_at_k_forecast,
    standard_error,
    tail_forecast,
)
from tailgrad.tails.gaussianity import UpperTailQQ, upper_tail_qq
from tailgrad.tails.shapes import TAIL_SHAPES, TailShape
from tailgrad.tails.statistics import TailStatistics, tail_statistics

__all__ = [
    "FORECASTS",
    "TAIL_SHAPES",
    "GaussianTail",
    "TailShape",
    "TailStatistics",
    "UpperTailQQ",
    "expected_max_normal",
    "exponential_tail_forecast",
    "extrapolation_coefficient",
    "gaussian_tail",
    "gaussian_tail_forecast",
    "max_at_k_forecast",
    "standard_error",
    "tail_forecast",
    "tail_statistics",
    "upper_tail_qq",
]
