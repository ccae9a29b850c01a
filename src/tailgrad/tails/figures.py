"""The figure of diagnosed tails: QQ points, shapes over prompts, ties and saturation; one row per table."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import ndtr, ndtri

from tailgrad.display.style import COLOURS, REFERENCE_COLOUR, drawing
from tailgrad.tails.diagnosis import TailDiagnosis
from tailgrad.tails.pareto import pareto_tail

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POINTS: Final = 400
_SHAPES: Final = (-2.5, 2.0)
_TAILS: Final[Any] = {
    "gaussian": (lambda x: x, "-"),
    "exponential": (lambda x: -np.log(ndtr(-x)) - 1, "--"),
    "uniform": (lambda x: np.sqrt(12) * (ndtr(x) - 0.5), ":"),
}
"""Quantiles of each tail, standardised, at those of the normal; and their lines."""


def save_figure(diagnoses: Mapping[str, TailDiagnosis], stem: str | Path) -> tuple[Path, Path]:
    """Draw diagnoses and save them as PNG and SVG.

    Args:
        diagnoses: By the table's name.
        stem: Path of the files without ending; the folder must exist.

    Returns:
        The paths of the PNG and the SVG.

    Raises:
        ModuleNotFoundError: If matplotlib is missing.

    Examples:
        >>> import tempfile
        >>> from tailgrad.tails import diagnose_tails
        >>> found = diagnose_tails(np.random.default_rng(0).normal(size=(8, 64)))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [path.name for path in save_figure({"base": found}, Path(folder) / "tails")]
        ['tails.png', 'tails.svg']
    """
    with drawing(stem, (12.5, 0.3 + 3.6 * len(diagnoses))) as (figure, paths):
        for part, (name, found) in zip(
            figure.subfigures(len(diagnoses), 1, squeeze=False), diagnoses.items(), strict=True
        ):
            title = f"{name}: {found.verdict.sentence}".replace("$", r"\$")
            part[0].suptitle(textwrap.fill(title, 150), fontsize=10.5, x=0.01, ha="left")
            panels = part[0].subplots(1, 3)
            _draw_points(panels[0], found)
            _draw_shapes(panels[1], found)
            _draw_atoms(panels[2], found)
    return paths


def _draw_points(panel: Axes, found: TailDiagnosis) -> None:
    panel.set_xlabel("normal quantile")
    panel.set_ylabel("standardised reward")
    panel.set_title(f"Upper {min(1.0, 2 * found.tail_fraction):g}, all prompts")
    if found.qq is None:
        panel.text(0.5, 0.5, "no spread", transform=panel.transAxes, ha="center")
        return
    quantiles, residuals = found.qq.quantiles, found.qq.residuals
    grid = np.linspace(quantiles[0], quantiles[-1], 200)
    for tail, (curve, line) in _TAILS.items():
        panel.plot(grid, curve(grid), color=REFERENCE_COLOUR, linestyle=line, linewidth=1.2, label=tail)
    shown = _thinned(len(quantiles))
    label = f"rewards, $R^2$ = {found.qq.linearity:.4f}"
    panel.plot(quantiles[shown], residuals[shown], ".", color=COLOURS[0], markersize=4, label=label)
    panel.set_ylim(residuals[0] - 0.3, max(1.15 * residuals[-1], 1.0))
    panel.legend(frameon=False, fontsize=9, loc="best")


def _thinned(count: int) -> np.ndarray:
    """Places of at most `_POINTS` of the points, densest at the upper end."""
    from_end = np.unique(np.geomspace(1, count, min(_POINTS, count)).astype(int))
    return np.asarray(count - from_end)


def _draw_shapes(panel: Axes, found: TailDiagnosis) -> None:
    shapes = found.by_prompt["shape"]
    known = np.clip(shapes[~np.isnan(shapes)], *_SHAPES)
    panel.hist(known, bins=np.linspace(*_SHAPES, 46).tolist(), color=COLOURS[0], alpha=0.55)
    mean, low, high, _ = (part[0] for part in found.measures["shape"])
    if not np.isnan(mean):
        panel.axvline(mean, color=COLOURS[0], linewidth=1.8, label=f"all prompts: {mean:.2f}")
    if not np.isnan(low):
        panel.axvspan(low, high, color=COLOURS[0], alpha=0.18, linewidth=0)
    for (tail, (_, line)), shape in zip(_TAILS.items(), (gaussian_shape(found.tail_fraction), 0.0, -1.0), strict=True):
        panel.axvline(shape, color=REFERENCE_COLOUR, linestyle=line, linewidth=1.2, label=f"{tail}: {shape:.2f}")
    panel.set(xlabel="shape (below 0 shorter, above 0 heavier)", ylabel="prompts", xlim=_SHAPES)
    panel.set_title(f"Shape of the upper {found.tail_fraction:g}, per prompt")
    panel.legend(frameon=False, fontsize=9, loc="best")


def gaussian_shape(tail_fraction: float) -> float:
    """The generalised Pareto shape nearest to a normal distribution's upper tail, in its moments."""
    normal: Float[np.ndarray, "1 n"] = ndtri((np.arange(1, 4001) - 0.375) / 4000.25)[None]
    return pareto_tail(torch.from_numpy(normal), tail_fraction=tail_fraction).shape


def _draw_atoms(panel: Axes, found: TailDiagnosis) -> None:
    for key, label, colour in (
        ("at_best", "at the best reward", COLOURS[1]),
        ("tied", "tied with another", COLOURS[2]),
    ):
        shares = np.sort(found.by_prompt[key][~np.isnan(found.by_prompt[key])])[::-1]
        panel.step(np.linspace(0, 1, len(shares)), shares, where="mid", color=colour, linewidth=1.8, label=label)
    panel.axhline(found.tail_fraction, color=REFERENCE_COLOUR, linestyle="--", linewidth=1.0, label="saturated above")
    panel.set(xlabel="share of the prompts", ylabel="share of the responses", xlim=(0, 1), ylim=(-0.02, 1.02))
    panel.set_title("Ties and saturation, per prompt")
    panel.legend(frameon=False, fontsize=9, loc="best")
