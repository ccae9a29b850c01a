"""What the upper tail of a pool of rollouts looks like, per prompt and overall, and whether it may be extrapolated."""

from typing import Any, Final, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import stats

from tailgrad.statistics.intervals import CONFIDENCE, Interval, mean_interval
from tailgrad.statistics.jackknife import jackknife_interval
from tailgrad.tails.gaussianity import (
    QUANTILES,
    UpperTailQQ,
    as_table,
    linearity_without,
    prompt_linearity,
    standardised,
    upper_tail_qq,
)
from tailgrad.tails.pareto import ParetoTail, pareto_tail
from tailgrad.tails.reach import ReachTest, reach_tests
from tailgrad.tails.statistics import tail_statistics
from tailgrad.tails.verdict import Verdict, verdict_of
from tailgrad.types import check_rewards

_PARTS: Final = 20
"""Parts of the prompts that the jackknife of the pooled linearity leaves out in turn."""

_SHARES: Final = ("tied", "at_best", "repeated_best", "saturated", "constant")


class TailDiagnosis(NamedTuple):
    """The upper tail of a pool of P prompts with up to n responses each."""

    verdict: Verdict
    """May V_N be extrapolated, how far, and with which tail."""
    measures: dict[str, Interval]
    """Numbers over all prompts, one column each; see `diagnose_tails`."""
    by_prompt: dict[str, Float[np.ndarray, " P"]]
    """The same per prompt, NaN where unknown, and "shape_error", the standard error of its shape."""
    tests: list[ReachTest]
    """How far each shape of the tail foretells V_N."""
    qq: UpperTailQQ | None
    """QQ points of the upper 2 alpha against the normal; None where no prompt's rewards spread."""
    scored: Int[np.ndarray, " P"]
    """Scored responses per prompt."""
    values: int
    """How many different rewards there are, over all prompts."""
    tail_fraction: float
    """alpha."""


def diagnose_tails(rewards: Any, *, tail_fraction: float = 0.25, seed: int = 0) -> TailDiagnosis:
    """Measure the upper tail of many rollouts, and say whether, how far and with which shape it may be extrapolated.

    Per prompt, and with a 95% interval over prompts:

    - `gaussian`, `exponential`, `uniform`: R^2 of the QQ points of its upper 2 alpha against the tail of this name.
      Overall: the mean, the mean difference to the Gaussian (`exponential_minus_gaussian`, `uniform_minus_gaussian`),
      and `linearity`, the R^2 against the normal of all prompts' standardised rewards together.
    - `shape`: xi of the generalised Pareto distribution above the upper alpha; overall that of `pareto_tail`.
    - `spread`: standard deviation of the upper alpha, in the units of the rewards; overall the mean, and
      `spread_variation`, its standard deviation over prompts relative to that.
    - `tied`: share of the responses whose reward another response to the prompt has too.
    - `at_best`: share of the responses that get the prompt's best reward.
    - `repeated_best`, `saturated`, `constant`: whether two responses or more get the best reward; so do more than the
      upper alpha; all do. Overall: the shares of such prompts.

    Args:
        rewards: Rewards `[P, n]` of P prompts with n rollouts each, an array or a tensor; NaN where a rollout could
            not be scored. Use n well above the m of training.
        tail_fraction: alpha in (0, 1], the share of the rollouts in the tail.
        seed: Seed of the bootstrap.

    Returns:
        The verdict, the numbers, and what they are drawn from.

    Raises:
        ValueError: If the rewards are not a table, hold an infinity or a size above 1e100, or no prompt has two scored
            responses.

    Examples:
        >>> found = diagnose_tails(np.random.default_rng(0).normal(size=(64, 256)))
        >>> found.verdict.tail, found.verdict.reach >= 8, found.measures["shape"].mean < 0
        ('gaussian', True, array([ True]))
    """
    values, eps = as_table(rewards)
    scored = (~np.isnan(values)).sum(axis=1)
    if scored.max(initial=0) < 2:
        raise ValueError(
            f"rewards of shape {values.shape} have no prompt with two scored responses; at least one is needed"
        )
    pool = torch.from_numpy(values)
    check_rewards(pool)
    residuals = standardised(values, eps)
    fit = pareto_tail(pool, tail_fraction=tail_fraction)
    wide = min(1.0, 2 * tail_fraction)
    by_prompt = {name: prompt_linearity(residuals, wide, quantile) for name, quantile in QUANTILES.items()}
    by_prompt |= {"shape": fit.prompt_shape.numpy(), "shape_error": fit.prompt_shape_error.numpy()}
    by_prompt["spread"] = tail_statistics(pool, tail_fraction=tail_fraction).std.numpy()
    by_prompt |= _atoms(values, scored, np.asarray(np.isnan(residuals).all(axis=1)), tail_fraction)
    qq = _points(rewards, wide)
    measures = _overall(by_prompt, seed) | {
        "linearity": _linearity_interval(qq, residuals, wide, seed),
        "shape": _shape_interval(fit),
        "spread_variation": _variation(by_prompt["spread"], seed),
    }
    tests = reach_tests(values, tail_fraction=tail_fraction, seed=seed)
    different = len(np.unique(values[~np.isnan(values)]))
    verdict = verdict_of(measures, tests, values=different)
    return TailDiagnosis(verdict, measures, by_prompt, tests, qq, scored, different, tail_fraction)


def _atoms(
    values: Float[np.ndarray, "P n"], scored: Int[np.ndarray, " P"], constant: Bool[np.ndarray, " P"], share: float
) -> dict[str, Float[np.ndarray, " P"]]:
    """Ties, and what is at the best reward; NaN where fewer than two responses are scored."""
    ascending = np.sort(values, axis=1)  # NaN last
    equal = np.zeros((len(values), values.shape[1] + 1), dtype=bool)
    equal[:, 1:-1] = ascending[:, 1:] == ascending[:, :-1]
    tied = (equal[:, 1:] | equal[:, :-1]).sum(axis=1)
    best = np.take_along_axis(ascending, np.maximum(scored - 1, 0)[:, None], axis=1)
    at_best = np.where(constant, scored, (values == best).sum(axis=1))
    count = np.where(scored >= 2, scored, np.nan)
    found = {"tied": tied / count, "at_best": at_best / count}
    flags = {"repeated_best": at_best > 1, "saturated": at_best > np.maximum(share * scored, 1), "constant": constant}
    return found | {name: np.where(scored >= 2, flag, np.nan) for name, flag in flags.items()}


def _points(rewards: Any, share: float) -> UpperTailQQ | None:
    """The points of the pooled plot, by the precision that the rewards came in."""
    try:
        return upper_tail_qq(rewards, tail_fraction=share)
    except ValueError:  # fewer than three residuals
        return None


def _overall(by_prompt: dict[str, Float[np.ndarray, " P"]], seed: int) -> dict[str, Interval]:
    """Means over prompts, of what all prompts with the same values known have at once."""
    columns = {name: values for name, values in by_prompt.items() if name not in ("shape", "shape_error")}
    for name in ("exponential", "uniform"):
        columns[f"{name}_minus_gaussian"] = by_prompt[name] - by_prompt["gaussian"]
    interval = mean_interval(np.stack(list(columns.values()), axis=1)[None], seed=seed)
    found = {name: Interval(*(part[[place]] for part in interval)) for place, name in enumerate(columns)}
    for name in _SHARES:
        found[name] = found[name]._replace(low=found[name].low.clip(0, 1), high=found[name].high.clip(0, 1))
    return found


def _linearity_interval(
    qq: UpperTailQQ | None, residuals: Float[np.ndarray, "P n"], share: float, seed: int
) -> Interval:
    """The pooled linearity; its interval is that of log(1 - R^2), so that it stays below 1."""
    if qq is None or qq.linearity == 1:
        return _number(np.nan if qq is None else 1.0)
    without = linearity_without(residuals, share, QUANTILES["gaussian"], parts=_PARTS)
    with np.errstate(divide="ignore"):
        logs = np.log1p(-without)
    found = jackknife_interval(np.log1p(-np.array([qq.linearity])), logs[:, None], seed=seed)
    low, high = (np.maximum(-np.expm1(end), 0.0) for end in (found.high, found.low))
    return Interval(np.array([qq.linearity]), low, high, np.array([int((~np.isnan(residuals).all(axis=1)).sum())]))


def _shape_interval(fit: ParetoTail) -> Interval:
    """The t interval of the pooled shape; of one prompt over its k responses."""
    known = ~fit.prompt_shape.isnan()
    prompts = int(known.sum())
    degrees = prompts - 1 if prompts > 1 else int(fit.size[known].sum()) - 1
    half = stats.t.isf((1 - CONFIDENCE) / 2, max(degrees, 1)) * fit.shape_error
    shape = np.array([fit.shape])
    return Interval(shape, shape - half, shape + half, np.array([prompts]))


def _variation(spread: Float[np.ndarray, " P"], seed: int) -> Interval:
    """Standard deviation over mean of the tails' spread, with the jackknife's interval over prompts."""
    known = spread[~np.isnan(spread)]
    count = len(known)
    if count < 3 or not known.sum() > 0:
        return _number(np.nan, count)
    parts = np.stack([known, known**2])
    every = parts.sum(axis=1, keepdims=True)
    without = _relative(every - parts, count - 1)
    return jackknife_interval(_relative(every, count), without[:, None], seed=seed)


def _relative(sums: Float[np.ndarray, "2 K"], count: int) -> Float[np.ndarray, " K"]:
    """Standard deviation over mean of `count` numbers, from their sum and that of their squares; NaN for mean 0."""
    mean = sums[0] / count
    deviation = np.sqrt(np.maximum(sums[1] - count * mean**2, 0.0) / (count - 1))
    return np.asarray(np.divide(deviation, mean, out=np.full_like(mean, np.nan), where=mean > 0))


def _number(value: float, prompts: int = 0) -> Interval:
    nothing = np.array([np.nan])
    return Interval(np.array([value]), nothing, nothing, np.array([prompts]))
