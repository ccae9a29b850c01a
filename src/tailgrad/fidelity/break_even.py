"""From how many prompts per step on one estimator's step beats another's."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import stdtrit

from tailgrad.fidelity.measure import FidelityPoint
from tailgrad.fidelity.products import MEASURES
from tailgrad.statistics.intervals import CONFIDENCE, Interval
from tailgrad.tails.leave_one_out import leave_one_out_error

_USED = [MEASURES.index("direction"), MEASURES.index("signal_to_noise")]


def break_even(point: FidelityPoint, reference: FidelityPoint) -> Interval:
    """From how many prompts per step on an estimator points closer to the gradient of V_N than the reference.

    Let an estimator have direction d and signal to noise s at P prompts. The noise of its step of B prompts is then P /
    (s B) times the squared norm of its mean, so the step has about the cosine d / sqrt(1 + P / (s B)) with the gradient
    of V_N. The two cosines are equal at B = P (d_r^2 / s - d^2 / s_r) / (d^2 - d_r^2), with d_r and s_r of the
    reference. This is for one step from this policy, and for the noise of rollouts: B prompts stand for B / P groups
    per prompt of the pool.

    Args:
        point: An estimator at some m and N.
        reference: Another one, at the same N and from the same pool.

    Returns:
        B. It is below 1 where the estimator is ahead in every step, infinite where no step is large enough, and NaN
        where a direction or a signal to noise is unknown. Directions above 1, which noise can make, count as 1. The
        interval is a jackknife of log B over prompts. It goes from 0 to infinity if B is not finite and positive when
        any one prompt is left out, or if B is infinite and the interval of d - d_r reaches 0. No interval with one
        prompt.

    Examples:
        >>> from tailgrad.fidelity import gradient_fidelity
        >>> rng = np.random.default_rng(0)
        >>> rewards = rng.normal(size=(8, 1024))
        >>> scores = np.stack([rewards, rewards**2 - 1], axis=2)  # of a Gaussian policy: mean and log deviation
        >>> asked = {"estimators": ["dr_grpo", "tea"], "m": [16], "deploy_n": [128]}
        >>> mean, tail = gradient_fidelity(rewards, scores, **asked).points
        >>> bool(break_even(tail, mean).mean[0] < 1), float(break_even(mean, tail).mean[0])
        (True, inf)

    Reference:
        Efron and Stein (1981), The jackknife estimate of variance, Annals of Statistics 9(3).
    """
    own, other = (
        np.vstack([[[one.measures[MEASURES[i]].mean[0] for i in _USED]], one.left_out[:, _USED]])
        for one in (point, reference)
    )
    return crossing(own, other)


def crossing(own: Float[np.ndarray, "R 2"], other: Float[np.ndarray, "R 2"]) -> Interval:
    """From how many prompts per step on one direction and signal to noise beat another's, as in `break_even`.

    Args:
        own: Direction, and signal to noise at P prompts, of all P prompts; then of all but each prompt in turn.
        other: The same of the reference.

    Returns:
        B, as `break_even` gives it.

    Examples:
        >>> tail, mean = np.full((9, 2), [0.9, 0.1]), np.full((9, 2), [0.6, 0.4])
        >>> round(float(crossing(tail, mean).mean[0]), 6)  # 8 (0.36 / 0.1 - 0.81 / 0.4) / (0.81 - 0.36)
        28.0
    """
    prompts = len(own) - 1
    value, without = (_crossing(own[rows], other[rows], prompts) for rows in (slice(1), slice(1, None)))
    low, high = _interval(float(value[0]), without)
    if math.isinf(low):  # no prompts are enough as its direction is worse, if the interval of that ends below 0
        gap = own[:, 0] - other[:, 0]
        low = low if gap[0] + _half_width(gap[1:]) < 0 else 0.0
    return Interval(value, np.array([low]), np.array([high]), np.array([prompts]))


def _crossing(own: Float[np.ndarray, "K 2"], other: Float[np.ndarray, "K 2"], prompts: int) -> Float[np.ndarray, " K"]:
    """B from directions and signals to noise."""
    (d, s), (d_r, s_r) = own.T, other.T
    known = ~np.isnan(d + d_r) & (s > 0) & (s_r > 0) & ((d > 0) | (d_r > 0))
    d, d_r = (np.clip(direction, 0.0, 1.0) ** 2 for direction in (d, d_r))
    bias = d - d_r
    with np.errstate(divide="ignore", invalid="ignore"):
        noise = prompts * (d_r / s - d / s_r)
        crossing = np.where(noise <= 0, 0.0, noise / bias)
    return np.where(known, np.where((bias < 0) | ((bias == 0) & (noise >= 0)), math.inf, crossing), math.nan)


def _interval(value: float, without: Float[np.ndarray, " P"]) -> tuple[float, float]:
    prompts, every = len(without), np.append(without, value)
    if np.isnan(every).any() or prompts < 2:
        return math.nan, math.nan
    if (every < 1).all() or np.isinf(every).all():
        return value, value
    if not (np.isfinite(every) & (every > 0)).all():
        return 0.0, math.inf
    with np.errstate(over="ignore"):
        reach = float(np.exp(_half_width(np.log(without))))  # infinite from a factor of e^709
    return value / reach, value * reach


def _half_width(without: Float[np.ndarray, " P"]) -> float:
    """Of the jackknife's interval, from the values without each prompt."""
    error = float(leave_one_out_error(torch.from_numpy(without).unsqueeze(0)))
    return float(stdtrit(len(without) - 1, (1 + CONFIDENCE) / 2)) * error


def break_even_cell(found: Interval) -> str:
    """Give what `break_even` returns as a table shows it, with two digits.

    Args:
        found: Prompts per step.

    Returns:
        "1" where every step is large enough, "never" where none is, "unclear" where the interval has no end, "unknown"
        where nothing is known, or "never" has no interval.

    Examples:
        >>> def cell(*values):
        ...     return break_even_cell(Interval(*(np.array([value]) for value in (*values, 8))))
        >>> cell(0.0, 0.0, 0.0), cell(1531.0, 702.0, 3310.0), cell(40.0, 0.0, math.inf)
        ('1', '1,500 [700, 3,300]', 'unclear')
        >>> cell(math.inf, math.inf, math.inf), cell(math.nan, math.nan, math.nan)
        ('never', 'unknown')
    """
    value, low, high = (float(part[0]) for part in found[:3])
    if math.isnan(value):
        return "unknown"
    if low == 0 and math.isinf(high):
        return "unclear"
    if math.isinf(value):
        return "unknown" if math.isnan(low) else "never"
    if value < 1:
        return "1"
    digits = [_two_digits(number) for number in (value, low, high)]
    return digits[0] if math.isnan(low) else f"{digits[0]} [{digits[1]}, {digits[2]}]"


def _two_digits(number: float) -> str:
    return f"{float(f'{number:.2g}'):,.0f}" if number >= 10 else f"{number:.2g}"
