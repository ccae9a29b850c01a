"""How far each shape of the tail foretells V_N, checked against the pool's own V_N."""

import math
from typing import Final, NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from tailgrad.statistics.jackknife import jackknife_interval
from tailgrad.tails.forecasts import mean_best_of_subsets
from tailgrad.tails.shapes import TAIL_SHAPES

SHAPES: Final = ("gaussian", "exponential")
_MOST_SHORT: Final = 0.1
"""N is such that all but this share of the prompts have N scored responses."""


class ReachTest(NamedTuple):
    """One forecast of V_N from V at two smaller sizes, against the pool's exact V_N."""

    tail: str
    """The assumed shape, of `TAIL_SHAPES`."""
    m: int
    """Responses per prompt that the forecast rests on."""
    deploy_n: int
    """N, the largest power of two that the pool can check."""
    error: float
    """Mean over prompts of forecast minus V_N, as a share of the gain, the mean of V_N - V_1."""
    low: float
    """Lower end of its 95% interval over prompts; NaN with one prompt."""
    high: float
    """Upper end."""

    @property
    def factor(self) -> int:
        """How many times further than m the forecast goes."""
        return self.deploy_n // self.m

    @property
    def cell(self) -> str:
        """The error with its interval, as a table shows it."""
        ends = "" if math.isnan(self.low) else f" [{self.low:+.1%}, {self.high:+.1%}]"
        return f"{self.error:+.1%}{ends}"


def reach_tests(rewards: Float[np.ndarray, "P n"], *, tail_fraction: float = 0.25, seed: int = 0) -> list[ReachTest]:
    """Forecast V_N of the pool from fewer responses with each shape, and compare with its exact V_N.

    Whatever its location and scale, a shape has V_N = location + c_N scale. So two values of V foretell a third:

        V_N ~= V_a + (c_N - c_a) / (c_m - c_a) (V_m - V_a),    a = 1 / alpha rounded, m = N/2, N/4, ..., at least 2a.

    V_a looks at about the upper alpha of the rewards. All three values are exact over the subsets of the pool, so for
    rewards of the assumed shape the error is 0 on average, for every m: what is left is that of the shape. (The
    forecasts `tailgrad.tails.tail_forecast` of a small group have a bias of their own besides.)

    Args:
        rewards: Rewards `[P, n]`; NaN where a rollout could not be scored.
        tail_fraction: alpha in (0, 1].
        seed: Seed of the bootstrap.

    Returns:
        One test per shape and m, the largest m first; none where the responses are too few or nothing is gained.

    Examples:
        >>> normal = np.random.default_rng(0).normal(size=(200, 64))
        >>> [(test.tail, test.m, bool(abs(test.error) < 0.05)) for test in reach_tests(normal)[-2:]]
        [('gaussian', 8, True), ('exponential', 8, False)]
    """
    deploy_n, first = _largest_budget(rewards), max(1, round(1 / tail_fraction))
    sizes = [deploy_n >> step for step in range(1, deploy_n.bit_length())]
    sizes = [m for m in sizes if m >= max(2 * first, 4)]
    if not sizes:
        return []
    pool = torch.from_numpy(np.asarray(rewards, dtype=np.float64))
    values = mean_best_of_subsets(pool, [1, first, deploy_n, *sizes]).numpy()
    values = values[~np.isnan(values).any(axis=1)]
    mean, least, best, *from_m = values.T
    gain = best - mean
    if not gain.sum() > 0:
        return []
    places = [(tail, place) for place in range(len(sizes)) for tail in SHAPES]
    errors = np.stack(
        [
            least + _stretch(tail, first, sizes[place], deploy_n, tail_fraction) * (from_m[place] - least) - best
            for tail, place in places
        ],
        axis=1,
    )
    total, left = errors.sum(axis=0), (gain.sum() - gain)[:, None]
    without = np.divide(total - errors, left, out=np.full_like(errors, np.nan), where=left > 0)
    interval = jackknife_interval(total / gain.sum(), without, seed=seed)
    ends = np.stack(interval[:3], axis=1).tolist()
    return [
        ReachTest(tail, sizes[place], deploy_n, *of_test) for (tail, place), of_test in zip(places, ends, strict=True)
    ]


def _largest_budget(rewards: Float[np.ndarray, "P n"]) -> int:
    """The largest power of two that nearly every prompt has scored responses for; 0 without any."""
    scored = (~np.isnan(rewards)).sum(axis=1)
    scored = scored[scored > 0]
    if not len(scored):
        return 0
    return 1 << int(math.log2(np.quantile(scored, _MOST_SHORT, method="lower")))


def _stretch(tail: str, first: int, m: int, deploy_n: int, tail_fraction: float) -> float:
    """(c_N - c_a) / (c_m - c_a)."""
    coefficient = TAIL_SHAPES[tail].coefficient
    low, middle, high = (float(coefficient(size, tail_fraction)) for size in (first, m, deploy_n))
    return (high - low) / (middle - low)
