"""The figure of a plan: what a step of each estimator is worth, against m and against the size of the step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tailgrad.display.style import REFERENCE_COLOUR, drawing, styles_of
from tailgrad.estimators import parse_estimator
from tailgrad.planning.candidates import REFERENCE
from tailgrad.planning.plan import Plan, PlanRow


def save_figure(plan: Plan, stem: str | Path) -> None:
    """Draw a plan and save it as PNG and SVG.

    Left: the expected cosine of a step against m, at the plan's rollouts per step, with intervals; a ring marks what is
    chosen. Right: the same against the rollouts per step, at the chosen m where an estimator takes it. Of several
    options of one estimator those with the largest value there are drawn.

    Args:
        plan: The plan.
        stem: Path of the files without ending; the folder must exist.

    Raises:
        ModuleNotFoundError: If matplotlib is missing.
    """
    lines = _lines(plan)
    styles = styles_of([*lines], REFERENCE)
    with drawing(stem, (12.5, 4.4)) as (figure, _):
        by_m, by_step = figure.subplots(1, 2)
        for place, (name, rows) in enumerate(lines.items()):
            width = 2.6 if name == plan.chosen.estimator else 1.5
            shift = (place - (len(lines) - 1) / 2) * 0.03
            _draw_by_m(by_m, rows, shift, width, styles[name])
            if name == plan.chosen.estimator:
                ring = {"markersize": 12, "fillstyle": "none", "color": "#222222"}
                by_m.plot(_place(plan.chosen.m, shift), plan.chosen.value.mean, "o", **ring)
            one = _at(rows, plan.chosen.m)
            label = name if one.m == plan.chosen.m else f"{name}, m = {one.m}"
            by_step.plot(plan.steps, one.values, linewidth=width, label=label, **styles[name])
        _finish(by_m, sorted({row.m for row in plan.rows}))
        _finish(by_step, plan.steps[::2])
        by_m.set_xlabel("m (rollouts per prompt)")
        by_m.set_ylabel(f"expected cosine of a step\nwith the gradient of $V_{{{plan.deploy_n}}}$")
        by_m.set_title(f"Steps of {plan.rollouts_per_step} rollouts: m against prompts")
        by_step.set_xlabel("rollouts per step")
        by_step.axvline(plan.rollouts_per_step, color=REFERENCE_COLOUR, linewidth=1.0, linestyle=(0, (4, 3)))
        by_step.set_title(f"Smaller and larger steps, m = {plan.chosen.m}")
        figure.legend(*by_step.get_legend_handles_labels(), frameon=False, loc="outside right center")


def _lines(plan: Plan) -> dict[str, list[PlanRow]]:
    """The rows to draw by estimator: of several options of one those of what is chosen, or with the largest value."""
    rows: dict[str, list[PlanRow]] = {}
    for row in plan.rows:
        if np.isfinite(row.value.mean[0]):
            rows.setdefault(row.estimator, []).append(row)
    best: dict[str, str] = {}
    for text, own in rows.items():
        name = parse_estimator(text)[0]
        rank = (text == plan.chosen.estimator, _at(own, plan.chosen.m).value.mean[0])
        other = rows.get(best.get(name, ""))
        if other is None or rank > (best[name] == plan.chosen.estimator, _at(other, plan.chosen.m).value.mean[0]):
            best[name] = text
    return {text: rows[text] for text in best.values()}


def _at(rows: Sequence[PlanRow], m: int) -> PlanRow:
    """The row at this m, or at the next larger one that the estimator takes."""
    return next((row for row in rows if row.m >= m), rows[-1])


def _place(m: int, shift: float) -> float:
    """Where an estimator's value at m is drawn, on a logarithmic axis."""
    return float(m * 2.0**shift)


def _draw_by_m(panel: Any, rows: Sequence[PlanRow], shift: float, width: float, style: dict[str, Any]) -> None:
    """Values with intervals, moved sideways a little so that those of several estimators can be told apart."""
    mean, low, high = (np.array([row.value[part][0] for row in rows]) for part in range(3))
    panel.errorbar(
        [_place(row.m, shift) for row in rows],
        mean,
        yerr=np.nan_to_num(np.maximum([mean - low, high - mean], 0.0)),
        marker="o",
        markersize=4,
        linewidth=width,
        elinewidth=1.0,
        **style,
    )


def _finish(panel: Any, ticks: Sequence[int]) -> None:
    panel.set_xscale("log", base=2)
    panel.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    panel.minorticks_off()
    panel.set_ylim(bottom=0.0)
