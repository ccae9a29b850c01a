"""The figure of a comparison: best-of-N curves, and paired differences to the reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool

from tailgrad.curves.compare import BEST_OF_N, Comparison, Curve
from tailgrad.display.style import REFERENCE_COLOUR, drawing, styles_of
from tailgrad.statistics.intervals import CONFIDENCE, Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LABEL_LENGTH = 24
_LABEL_GAP = 0.055  # least distance of two labels, as a share of the panel's height


def save_figure(
    comparison: Comparison, stem: str | Path, *, m: int | None = None, deploy_n: int | None = None
) -> tuple[Path, Path]:
    """Draw a comparison and save it as PNG and SVG.

    Left: mean V_N over prompts with its band, against N. Right, with two methods or more: the paired
    difference of each to the reference, with its intervals.

    Args:
        comparison: The numbers.
        stem: Path of the files without ending; the folder must exist.
        m: Rollouts per prompt in training, to mark.
        deploy_n: The N trained for, to mark.

    Returns:
        The paths of the PNG and the SVG.

    Raises:
        ModuleNotFoundError: If matplotlib is missing.

    Examples:
        >>> import tempfile
        >>> from tailgrad.curves import Rollouts, compare
        >>> base = Rollouts(np.array([[0.0, 1.0]]), name="base")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [path.name for path in save_figure(compare([base]), Path(folder) / "curve")]
        ['curve.png', 'curve.svg']
    """
    panels = 2 if len(comparison.curves) > 1 else 1
    with drawing(stem, (5.4 * panels, 4.0)) as (figure, paths):
        axes = figure.subplots(1, panels, squeeze=False)[0]
        styles = styles_of([curve.name for curve in comparison.curves], comparison.reference)
        _draw_values(axes[0], comparison, styles)
        if panels == 2:
            _draw_differences(axes[1], comparison, styles)
        exact, marks = max(comparison.budgets, default=1), _marks(m, deploy_n)
        forecast = [curve.forecast.deploy_n[-1] for curve in comparison.curves if curve.forecast is not None]
        _finish(axes[0], max([exact, *forecast, *marks]), marks)
        if panels == 2:  # without the stretch of the forecasts, where no differences are
            _finish(axes[1], exact, {value: text for value, text in marks.items() if value <= exact})
    return paths


def _draw_values(panel: Axes, comparison: Comparison, styles: dict[str, dict[str, Any]]) -> None:
    shade = 0.18 if len(comparison.curves) <= 2 else 0.11
    for curve in comparison.curves:
        style = styles[curve.name]
        _, low, high, _ = curve.v_n
        panel.fill_between(comparison.budgets, low, high, color=style["color"], alpha=shade, linewidth=0)
        alone = _alone(~np.isnan(low))
        panel.vlines(np.array(comparison.budgets)[alone], low[alone], high[alone], color=style["color"], linewidth=1.8)
        panel.plot(comparison.budgets, curve.v_n.mean, marker="o", markersize=3.5, linewidth=1.8, **style)
        _draw_forecast(panel, comparison, curve, style, shade)
    panel.set_ylabel(f"$V_N$: expected best reward of N\n(mean over {_prompts(comparison)})")
    over = "prompts and seeds" if any(curve.seeds > 1 for curve in comparison.curves) else "prompts"
    gap = " " if comparison.title == BEST_OF_N else "\n"
    known = any(not np.isnan(curve.v_n.low).all() for curve in comparison.curves)
    panel.set_title(comparison.title + (f"{gap}({CONFIDENCE:.0%} intervals over {over})" if known else ""))
    ends = {curve.name: _with_forecast(curve) for curve in comparison.curves}
    _label_ends(panel, ends, styles)


def _draw_forecast(panel: Axes, comparison: Comparison, curve: Curve, style: dict[str, Any], shade: float) -> None:
    """Continue a curve as a dashed line with a band, from its last exact point."""
    if curve.forecast is None or np.isnan(curve.forecast.v_n.mean).all():
        return
    budgets = [comparison.budgets[-1], *curve.forecast.deploy_n]
    mean, low, high = (
        np.append(exact[-1], beyond) for exact, beyond in zip(curve.v_n[:3], curve.forecast.v_n[:3], strict=True)
    )
    panel.fill_between(budgets, low, high, color=style["color"], alpha=shade / 2, linewidth=0)
    panel.plot(budgets, mean, linewidth=1.5, color=style["color"], linestyle=(0, (3, 2)))


def _with_forecast(curve: Curve) -> Interval:
    """V_N up to the last N that is drawn."""
    if curve.forecast is None:
        return curve.v_n
    return Interval(*(np.append(exact, beyond) for exact, beyond in zip(curve.v_n, curve.forecast.v_n, strict=True)))


def _prompts(comparison: Comparison) -> str:
    """How many prompts V_N is a mean over: from fewer to all where some have fewer than N scored responses."""
    counts = [curve.v_n.prompts[~np.isnan(curve.v_n.mean)] for curve in comparison.curves]
    fewest = min((int(count.min()) for count in counts if len(count)), default=comparison.prompts)
    unit = "prompt" if comparison.prompts == 1 else "prompts"
    return f"{comparison.prompts if fewest == comparison.prompts else f'{fewest} to {comparison.prompts}'} {unit}"


def _alone(known: Bool[np.ndarray, " K"]) -> Bool[np.ndarray, " K"]:
    """Which intervals have no neighbour to span a band with."""
    beside = np.pad(known, 1)
    return np.asarray(known & ~beside[:-2] & ~beside[2:])


def _draw_differences(panel: Axes, comparison: Comparison, styles: dict[str, dict[str, Any]]) -> None:
    differences = {curve.name: curve.difference for curve in comparison.curves if curve.difference is not None}
    offsets = (np.arange(len(differences)) - (len(differences) - 1) / 2) * 0.09  # in octaves
    panel.axhline(0.0, color=REFERENCE_COLOUR, linewidth=1.2)
    for offset, (name, difference) in zip(offsets, differences.items(), strict=True):
        mean, low, high, _ = difference
        panel.errorbar(
            np.array(comparison.budgets) * 2.0**offset,
            mean,
            yerr=np.maximum([mean - low, high - mean], 0.0),
            marker="o",
            markersize=4,
            linewidth=1.0,
            elinewidth=1.8,
            **styles[name],
        )
    panel.set_ylabel(f"$V_N$ minus $V_N$ of {_label(comparison.reference)}")
    panel.set_title(f"Paired difference to {_label(comparison.reference)}")
    _label_ends(panel, differences, styles)


def _label_ends(panel: Axes, intervals: dict[str, Interval], styles: dict[str, dict[str, Any]]) -> None:
    """Write each method's name at the right end of its line, pushed apart where they would overlap."""
    ends = {}
    for name, interval in intervals.items():
        known = interval.mean[~np.isnan(interval.mean)]
        if len(known) > 0:
            ends[name] = float(known[-1])
    low, high = panel.get_ylim()
    panel.set_ylim(low, high)
    names = sorted(ends, key=lambda name: ends[name])
    heights = _apart([(ends[name] - low) / (high - low) for name in names])
    for name, height in zip(names, heights, strict=True):
        panel.annotate(
            _label(name),
            (1.015, height),
            xycoords="axes fraction",
            color=styles[name]["color"],
            fontweight="bold",
            verticalalignment="center",
        )


def _apart(heights: list[float]) -> list[float]:
    """Move increasing heights apart to the least distance: what is too close is pushed away to both sides.

    None leaves the panel, from 0 to 1, while there is room in it for all.
    """
    moved = list(heights)
    fits = len(moved) * _LABEL_GAP <= 1
    for _ in range(200):
        if fits:
            moved = [min(max(height, 0.0), 1.0) for height in moved]
        for upper in range(1, len(moved)):
            push = (_LABEL_GAP - (moved[upper] - moved[upper - 1])) / 2
            if push > 0:
                moved[upper - 1] -= push
                moved[upper] += push
    return moved


def _marks(m: int | None, deploy_n: int | None) -> dict[int, str]:
    marks: dict[int, str] = {}
    for value, text in ((m, "m"), (deploy_n, "N")):
        if value is not None:
            marks[value] = f"{marks[value]} = {text}" if value in marks else text
    return marks


def _finish(panel: Axes, last: int, marks: dict[int, str]) -> None:
    """Put ticks up to the last N that is drawn, and the marks."""
    panel.set_xscale("log", base=2)
    for value, text in marks.items():
        panel.axvline(value, color="#777777", linewidth=1.0, linestyle=(0, (4, 3)), zorder=0.5)
        panel.annotate(
            f"{text} = {value}",
            (value, 1.0),
            xytext=(0, 3),
            textcoords="offset points",
            xycoords=panel.get_xaxis_transform(),
            ha="right",  # on the other side stand the next mark's words, or the methods' names
            fontsize=8.5,
            color="#666666",
        )
    panel.set_title(panel.get_title(loc="left"), pad=18 if marks else 8)
    ticks = [2**power for power in range(last.bit_length())]
    ticks = ticks[:: 1 + len(ticks) // 11]
    panel.set_xticks(ticks, [str(tick) for tick in ticks])
    panel.minorticks_off()
    panel.set_xlabel("N (responses per prompt; the best is returned)")


def _label(name: str) -> str:
    """Give a name as matplotlib takes it; of a long one its end, which tells paths apart."""
    short = name if len(name) <= _LABEL_LENGTH else "..." + name[3 - _LABEL_LENGTH :]
    return short.replace("$", r"\$")
