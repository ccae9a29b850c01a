"""The numbers of a comparison as Markdown tables and as JSON."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tailgrad.curves.compare import BEST_OF_N, Comparison, Curve
from tailgrad.curves.forecast import CurveForecast
from tailgrad.display.cells import aligned, decimals_of, interval_cell, interval_numbers, number_cell, without_nan
from tailgrad.statistics.intervals import CONFIDENCE, RESAMPLES, Interval

_HEADINGS = {
    "kl": "KL (nats)",
    "response_length": "tokens",
    "distinct": "distinct",
    "cut_off": "cut off",
    "unscored": "unscored",
}
_SHARES = ("distinct", "cut_off", "unscored")


def markdown_text(comparison: Comparison) -> str:
    """Give the comparison as Markdown: V_N, paired differences, and what stands beside them.

    Args:
        comparison: The numbers.

    Returns:
        Text with aligned tables, readable as it is in a terminal.

    Examples:
        >>> import numpy as np
        >>> from tailgrad.curves import Rollouts, compare
        >>> base = Rollouts(np.array([[0.0, 1.0], [0.5, 0.5]]), name="base")
        >>> print(markdown_text(compare([base])).splitlines()[2])
        | N | base            |
    """
    unit = "prompt" if comparison.prompts == 1 else "prompts"
    interval = "" if comparison.prompts < 2 else f" [{CONFIDENCE:.0%} interval]"
    comma = "" if comparison.title == BEST_OF_N else ","
    parts = [
        f"{comparison.title}{comma} V_N: exact over {'up to' if comparison.ragged else 'the'} n = {comparison.n} "
        f"{'response' if comparison.n == 1 else 'responses'} per prompt, "
        f"mean over {comparison.prompts} {unit}{interval}",
        _value_table(comparison),
    ]
    forecast = [curve for curve in comparison.curves if curve.forecast is not None]
    if forecast:
        parts += [
            "Forecast of V_N beyond these responses [interval over prompts; in brackets that of these prompts alone]",
            _forecast_table(forecast),
        ]
    if len(comparison.curves) > 1:
        parts += [
            f"Paired difference to {comparison.reference}" + (f"{interval}; * where it excludes 0" if interval else ""),
            _difference_table(comparison),
        ]
    if _says_more(comparison.curves):
        parts += ["Beside V_N (means over prompts)", _measure_table(comparison)]
    parts += notes_of(comparison)
    return "\n\n".join(parts) + "\n"


def _value_table(comparison: Comparison) -> str:
    decimals = decimals_of([curve.v_n for curve in comparison.curves])
    rows = [["N", *(curve.name for curve in comparison.curves)]]
    for column, budget in enumerate(comparison.budgets):
        rows.append([str(budget), *(interval_cell(curve.v_n, column, decimals) for curve in comparison.curves)])
    return aligned(rows)


def _forecast_table(curves: Sequence[Curve]) -> str:
    of_curve = {curve.name: curve.forecast for curve in curves if curve.forecast is not None}
    decimals = decimals_of([forecast.v_n for forecast in of_curve.values()])
    rows = [["N", *of_curve]]
    for column, budget in enumerate(next(iter(of_curve.values())).deploy_n):
        rows.append([str(budget), *(_forecast_cell(forecast, column, decimals) for forecast in of_curve.values())])
    return aligned(rows)


def _forecast_cell(forecast: CurveForecast, column: int, decimals: int) -> str:
    if forecast.refused[column]:
        return "refused"
    low, high = (number_cell(end[column], decimals) for end in (forecast.low, forecast.high))
    return f"{interval_cell(forecast.v_n, column, decimals)} ({low}, {high})"


def _difference_table(comparison: Comparison) -> str:
    others = [(curve.name, curve.difference) for curve in comparison.curves if curve.difference is not None]
    decimals = decimals_of([difference for _, difference in others])
    rows = [["N", *(f"{name} - {comparison.reference}" for name, _ in others)]]
    for column, budget in enumerate(comparison.budgets):
        cells = [interval_cell(part, column, decimals, "+") + _star(part, column) for _, part in others]
        rows.append([str(budget), *cells])
    return aligned(rows)


def _star(interval: Interval, column: int) -> str:
    return " *" if interval.low[column] > 0 or interval.high[column] < 0 else ""


def _says_more(curves: Sequence[Curve]) -> bool:
    """Whether anything is known beside V_N; that all is scored and of one seed goes without saying."""
    return any(
        curve.seeds > 1 or set(curve.measures) - {"unscored"} or curve.measures["unscored"].mean[0] > 0
        for curve in curves
    )


def _measure_table(comparison: Comparison) -> str:
    known = [key for key in _HEADINGS if any(key in curve.measures for curve in comparison.curves)]
    rows = [["run", "seeds", *(_HEADINGS[key] for key in known)]]
    for curve in comparison.curves:
        rows.append([curve.name, str(curve.seeds), *(_measure_cell(curve, key) for key in known)])
    return aligned(rows)


def _measure_cell(curve: Curve, key: str) -> str:
    value = float(curve.measures[key].mean[0]) if key in curve.measures else math.nan
    if math.isnan(value):
        return "unknown"
    return f"{value:.1%}" if key in _SHARES else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def notes_of(comparison: Comparison) -> list[str]:
    """Sentences that belong to the numbers: what the intervals cover, and what is left out, unknown or unchecked."""
    notes = list(comparison.notes)
    if comparison.prompts < 2:
        notes.append("No intervals: they need at least two prompts.")
    elif all(curve.seeds == 1 for curve in comparison.curves):
        notes.append("Intervals are over prompts: they speak of these runs, not of other training seeds.")
    else:
        notes.append("Intervals are over prompts, and over training seeds where a method has several.")
    for curve in comparison.curves:
        if short := _counts(comparison, curve.v_n.prompts, np.full(len(comparison.budgets), comparison.prompts)):
            notes.append(f"{curve.name}: {_left_out(comparison)}; prompts counted: {short}.")
    for curve in comparison.curves:
        if curve.difference is not None and (short := _counts(comparison, curve.difference.prompts, curve.v_n.prompts)):
            notes.append(
                f"{curve.name} - {comparison.reference}: of the prompts that both have; prompts counted: {short}."
            )
        for key, measure in curve.measures.items():
            if (known := int(measure.prompts[0])) < comparison.prompts:
                left_out = "it is unknown where fewer than half are" if 2 * known < comparison.prompts else "of these"
                notes.append(
                    f"{curve.name}: {_HEADINGS.get(key, key)} is known for {known} of {comparison.prompts} prompts; "
                    f"{left_out}."
                )
    for curve in comparison.curves:
        notes += _forecast_notes(curve, comparison.prompts)
    counted = [
        part.prompts for curve in comparison.curves for part in (curve.v_n, curve.difference) if part is not None
    ]
    if any(2 * prompts.min() < comparison.prompts for prompts in counted):
        notes.append(
            "V_N is unknown where fewer than half of the prompts are counted: they need not be like the others."
        )
    return notes


def _counts(comparison: Comparison, prompts: np.ndarray, of: np.ndarray) -> str:
    """The numbers of prompts at those N where they are fewer than they might be."""
    places = zip(comparison.budgets, prompts.tolist(), of.tolist(), strict=True)
    return ", ".join(f"N = {budget} ({count})" for budget, count, most in places if count < most)


def _forecast_notes(curve: Curve, prompts: int) -> list[str]:
    """Why there is no forecast, and of how many prompts there is one."""
    if curve.forecast is None:
        return []
    reasons = dict(zip(curve.forecast.refused, curve.forecast.deploy_n, strict=True))
    notes = [f"{curve.name}: no forecast up to N = {n}: {reason}." for reason, n in reasons.items() if reason]
    counted = int(curve.forecast.v_n.prompts.max())
    if 0 < counted < prompts:
        notes.append(
            f"{curve.name}: the forecast is of the {counted} of {prompts} prompts that have enough scored responses."
        )
    return notes


def _left_out(comparison: Comparison) -> str:
    if comparison.title == BEST_OF_N:
        return "some prompts have fewer than N scored responses and are left out"
    reward, picks = comparison.reward_name("reward"), comparison.reward_name("selection_reward")
    return (
        f"prompts are left out where {picks} may pick a response that {reward} left unscored, which is then worth "
        f"something unknown, or where {picks} scored fewer than N responses"
    )


def json_text(comparison: Comparison) -> str:
    """Give the comparison as JSON; what is unknown is null.

    Args:
        comparison: The numbers.

    Returns:
        Valid JSON.

    Examples:
        >>> import numpy as np
        >>> from tailgrad.curves import Rollouts, compare
        >>> base = Rollouts(np.array([[0.0, 1.0], [0.5, 0.5]]), name="base")
        >>> json.loads(json_text(compare([base])))["runs"][0]["v_n"][1]["mean"]
        0.75
    """
    document = {
        "n": comparison.n,
        "prompts": comparison.prompts,
        "budgets": list(comparison.budgets),
        "reference": comparison.reference,
        "confidence": CONFIDENCE,
        "resamples": RESAMPLES,
        "sampling": comparison.sampling,
        "notes": notes_of(comparison),
        "runs": [_curve_fields(curve, comparison.budgets) for curve in comparison.curves],
    }
    return json.dumps(without_nan(document), indent=2, allow_nan=False) + "\n"


def _curve_fields(curve: Curve, budgets: tuple[int, ...]) -> dict[str, Any]:
    return {
        "name": curve.name,
        "seeds": curve.seeds,
        "v_n": _points(curve.v_n, budgets),
        "v_n_per_seed": curve.per_seed.tolist(),
        "forecast": None if curve.forecast is None else _forecast_points(curve.forecast),
        "difference": None if curve.difference is None else _points(curve.difference, budgets),
        "measures": {key: interval_numbers(interval, 0) for key, interval in curve.measures.items()},
    }


def _points(interval: Interval, budgets: tuple[int, ...]) -> list[dict[str, Any]]:
    return [{"n": int(budget), **interval_numbers(interval, column)} for column, budget in enumerate(budgets)]


def _forecast_points(forecast: CurveForecast) -> list[dict[str, Any]]:
    ends = zip(forecast.low.tolist(), forecast.high.tolist(), forecast.refused, strict=True)
    return [
        {**point, "low_of_these_prompts": low, "high_of_these_prompts": high, "refused": reason or None}
        for point, (low, high, reason) in zip(_points(forecast.v_n, forecast.deploy_n), ends, strict=True)
    ]
