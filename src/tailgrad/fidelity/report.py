"""Write gradient fidelity for people and programs: figure, table and JSON."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tailgrad.display.cells import aligned, decimals_of, interval_cell, interval_numbers, without_nan
from tailgrad.display.style import COLOURS, LINES, drawing
from tailgrad.estimators import ESTIMATORS
from tailgrad.fidelity.advice import advice, direction_of_the_mean, hardly_agree
from tailgrad.fidelity.break_even import break_even, break_even_cell
from tailgrad.fidelity.measure import Fidelity, FidelityPoint
from tailgrad.files import write_text
from tailgrad.statistics.intervals import CONFIDENCE, RESAMPLES

_HEADINGS = {
    "direction": "direction",
    "step": "step",
    "norm_ratio": "norm ratio",
    "signal_to_noise": "signal to noise",
}
_TITLES = {
    "direction": "Direction: cosine of the expected\ngradient with that of $V_N$",
    "step": "Step: cosine of one step's gradient\nwith that of $V_N$",
    "norm_ratio": "Norm of the expected gradient\nover that of $V_N$",
    "signal_to_noise": "Signal to noise of a step\n(squared norms)",
}
_IDEAL = {"direction": 1.0, "norm_ratio": 1.0}


def write_fidelity(
    fidelity: Fidelity, out_dir: str | Path, *, pool: Mapping[str, Any] | None = None, note: str = ""
) -> str:
    """Write fidelity.png, fidelity.svg, fidelity.md and fidelity.json.

    Args:
        fidelity: The numbers.
        out_dir: Folder for the four files, made if missing; an earlier report in it is replaced.
        pool: Where the pool comes from, for the JSON; JSON types only.
        note: What the gradients are taken with respect to, a line below the table.

    Returns:
        The table, as in fidelity.md.

    Raises:
        ModuleNotFoundError: If matplotlib is missing.

    Examples:
        >>> import tempfile
        >>> from tailgrad.fidelity import gradient_fidelity
        >>> rewards = np.random.default_rng(0).normal(size=(2, 64))
        >>> fidelity = gradient_fidelity(rewards, rewards[:, :, None], estimators=["rloo"], m=[8], deploy_n=[16])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     table = write_fidelity(fidelity, folder)
        ...     sorted(path.name for path in Path(folder).iterdir())
        ['fidelity.json', 'fidelity.md', 'fidelity.png', 'fidelity.svg']
    """
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    _save_figure(fidelity, folder / "fidelity")
    table = fidelity_markdown(fidelity) + (f"\n{note}\n" if note else "")
    write_text(folder / "fidelity.md", table)
    write_text(folder / "fidelity.json", _json_text(fidelity, pool or {}))
    return table


def fidelity_markdown(fidelity: Fidelity) -> str:
    """Give gradient fidelity as Markdown, one table per N.

    Args:
        fidelity: The numbers.

    Returns:
        Text with aligned tables, readable as it is in a terminal.

    Examples:
        >>> from tailgrad.fidelity import gradient_fidelity
        >>> rewards = np.random.default_rng(0).normal(size=(2, 64))
        >>> fidelity = gradient_fidelity(rewards, rewards[:, :, None], estimators=["rloo"], m=[8], deploy_n=[16])
        >>> print(fidelity_markdown(fidelity).splitlines()[0])
        Gradient fidelity: 2 prompts, pool of 64 responses per prompt [95% interval]
    """
    unit = "prompt" if fidelity.prompts == 1 else "prompts"
    parts = [
        f"Gradient fidelity: {fidelity.prompts} {unit}, pool of {fidelity.n} responses per prompt "
        f"[{CONFIDENCE:.0%} interval]",
        *direction_of_the_mean(fidelity),
    ]
    for deploy_n, cosine in fidelity.truth_agreement.items():
        parts += [
            f"N = {deploy_n} (the truths of the two halves of the pool have cosine {cosine:.2f})",
            _table(
                [point for point in fidelity.points if point.deploy_n == deploy_n],
                has_truth=not hardly_agree(fidelity, deploy_n),
            ),
        ]
    parts += advice(fidelity)
    parts += [
        "direction: cosine of the expected gradient with that of V_N. step: the same of one step's gradient "
        f"({fidelity.prompts} {unit}, one group each). norm ratio: norm of the expected gradient over that of V_N. "
        "signal to noise: squared norm of the expected gradient over the mean squared noise of a step. Corrected for "
        "the noise of the pool; unknown where that leaves nothing, or the estimator has no gradient scale. ahead "
        "from: with so many prompts per step or more its step points closer to the gradient of V_N."
    ]
    if fidelity.prompts < 2:
        parts.append("No intervals: they need at least two prompts.")
    return "\n\n".join(parts) + "\n"


def _table(points: Sequence[FidelityPoint], *, has_truth: bool) -> str:
    decimals = {key: decimals_of([point.measures[key] for point in points]) for key in _HEADINGS}
    names = {point.estimator for point in points}
    mean = next((name for name, row in ESTIMATORS.items() if row.follows_mean and name in names), None)
    references = {point.m: point for point in points if point.estimator == mean}
    rows = [["m", "estimator", *_HEADINGS.values(), *([f"ahead of {mean} from"] if mean else [])]]
    for point in points:
        cells = [interval_cell(point.measures[key], 0, decimals[key]) for key in _HEADINGS]
        if mean:
            cell = break_even_cell(break_even(point, references[point.m])) if has_truth else "unknown"
            cells.append("" if point.estimator == mean else cell)
        rows.append([str(point.m), point.estimator, *cells])
    return aligned(rows)


def _json_text(fidelity: Fidelity, pool: Mapping[str, Any]) -> str:
    document = {
        "prompts": fidelity.prompts,
        "n": fidelity.n,
        "confidence": CONFIDENCE,
        "resamples": RESAMPLES,
        "pool": dict(pool),
        "truth": [{"deploy_n": n, "cosine_of_halves": cosine} for n, cosine in fidelity.truth_agreement.items()],
        "points": [
            {
                "estimator": point.estimator,
                "m": point.m,
                "deploy_n": point.deploy_n,
                "steps": point.steps,
                **{key: interval_numbers(interval, 0) for key, interval in point.measures.items()},
            }
            for point in fidelity.points
        ],
    }
    return json.dumps(without_nan(document), indent=2, allow_nan=False) + "\n"


_MARKERS = ("o", "s", "^", "D")
"""One for each round of colours: with one m there are no lines that could be dashed."""


def _save_figure(fidelity: Fidelity, stem: Path) -> None:
    """One row per N, one column per measure, one line per estimator, against m."""
    budgets = list(fidelity.truth_agreement)
    names = list(dict.fromkeys(point.estimator for point in fidelity.points))
    with drawing(stem, (14.5, 0.6 + 3.2 * len(budgets))) as (figure, _):
        axes = figure.subplots(len(budgets), len(_TITLES), squeeze=False, sharex=True, sharey="col")
        for row, deploy_n in zip(axes, budgets, strict=True):
            for panel, key in zip(row, _TITLES, strict=True):
                for place, name in enumerate(names):
                    points = [p for p in fidelity.points if (p.estimator, p.deploy_n) == (name, deploy_n)]
                    _draw_line(panel, points, key, place, len(names))
                _finish(panel, key, sorted({point.m for point in fidelity.points}))
            row[0].set_ylabel(f"N = {deploy_n}", fontweight="bold")
        for panel, title in zip(axes[0], _TITLES.values(), strict=True):
            panel.set_title(title)
        for panel in axes[-1]:
            panel.set_xlabel("m (rollouts per prompt)")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, frameon=False, loc="outside right center")


def _draw_line(panel: Any, points: Sequence[FidelityPoint], key: str, place: int, count: int) -> None:
    """Values with intervals, moved sideways a little so that the intervals of several estimators can be told apart."""
    shift = 2.0 ** (0.04 * (place - (count - 1) / 2))
    mean, low, high = (np.array([point.measures[key][part][0] for point in points]) for part in range(3))
    panel.errorbar(
        [point.m * shift for point in points],
        mean,
        yerr=np.nan_to_num(np.maximum([mean - low, high - mean], 0.0)),
        color=COLOURS[place % len(COLOURS)],
        linestyle=LINES[place // len(COLOURS) % len(LINES)],
        marker=_MARKERS[place // len(COLOURS) % len(_MARKERS)],
        markersize=4,
        linewidth=1.5,
        elinewidth=1.0,
        label=points[0].estimator.replace("$", r"\$"),
    )


def _finish(panel: Any, key: str, sizes: Sequence[int]) -> None:
    panel.set_xscale("log", base=2)
    panel.set_xticks(sizes, [str(size) for size in sizes])
    panel.set_xlim(min(sizes) / math.sqrt(2), max(sizes) * math.sqrt(2))
    panel.minorticks_off()
    panel.axhline(_IDEAL.get(key, 0.0), color="#777777", linewidth=1.0, linestyle=(0, (4, 3)), zorder=0.5)
