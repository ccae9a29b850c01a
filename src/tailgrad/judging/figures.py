"""The figure of what a judge found: wins, ties and losses, and the win rate with what could have moved it."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tailgrad.display.style import COLOURS, REFERENCE_COLOUR, drawing
from tailgrad.judging.measures import Outcome
from tailgrad.statistics.intervals import CONFIDENCE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SHOWN: Final = 0.06
"""Least share of a part of the bar that has its number in it."""

_LONGEST: Final = 24


def save_figure(outcome: Outcome, stem: str | Path, *, title: str) -> tuple[Path, Path]:
    """Draw what was found and save it as PNG and SVG.

    Above: the shares of the pairs. Below: the win rate with its interval, in each order alone, and how often the longer
    answer won.

    Args:
        outcome: What was found.
        stem: Path of the files without ending; the folder must exist.
        title: Stands above.

    Returns:
        The paths of the PNG and the SVG.

    Raises:
        ModuleNotFoundError: If matplotlib is missing.
    """
    rows = 4 if outcome.orders == 2 else 2
    with drawing(stem, (8.6, 3.0 + 0.36 * rows)) as (figure, paths):
        figure.suptitle(textwrap.fill(title, 115).replace("$", r"\$"), fontsize=10.5, x=0.01, ha="left")
        above, below = figure.subplots(2, 1, height_ratios=[1.15, 0.5 + 0.36 * rows])
        _draw_shares(above, outcome)
        _draw_rates(below, outcome)
    return paths


def _draw_shares(panel: Axes, outcome: Outcome) -> None:
    reference, other = map(_short, outcome.names)
    parts: dict[str, dict[str, Any]] = {
        "won": {"label": f"{other} better", "color": COLOURS[0]},
        "tied": {"label": "tie", "color": "#B8B8B8"},
        "split": {"label": "orders disagree", "color": "#E4E4E4", "hatch": "///", "edgecolor": "#9A9A9A"},
        "lost": {"label": f"{reference} better", "color": COLOURS[1]},
    }
    left = 0.0
    for key, how in parts.items():
        share = float(outcome.measures[key].mean[0]) if key in outcome.measures else 0.0
        if key not in outcome.measures or np.isnan(share):
            continue
        panel.barh(0, share, left=left, height=0.7, linewidth=0, **how)
        if share >= _SHOWN:
            colour = "white" if key in ("won", "lost") else "black"
            box = {"facecolor": how["color"], "edgecolor": "none", "pad": 1.5} if key == "split" else None
            panel.text(left + share / 2, 0, f"{share:.0%}", ha="center", va="center", color=colour, bbox=box)
        left += share
    panel.set(xlim=(0, 1), ylim=(-0.45, 0.45), yticks=[])
    panel.spines["left"].set_visible(False)
    panel.grid(visible=False)
    panel.set_title("Pairs of answers" + (", each judged in both orders" if outcome.orders == 2 else ""))
    panel.xaxis.set_major_formatter(_percent_axis())
    if not panel.patches:
        panel.text(0.5, 0, "unknown", ha="center", va="center")
        return
    panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.28), ncols=4, frameon=False, fontsize=9)


def _draw_rates(panel: Axes, outcome: Outcome) -> None:
    other = _short(outcome.names[1])
    rows = {
        "win_rate": f"win rate of {other}",
        "score_first": f"{other} stands first",
        "score_second": f"{other} stands second",
        "longer_won": "the longer answer won",
    }
    shown = [key for key in rows if key in outcome.measures]
    panel.axvline(0.5, color=REFERENCE_COLOUR, linestyle="--", linewidth=1.0)
    for at, key in enumerate(shown):
        mean, low, high = (float(part[0]) for part in outcome.measures[key][:3])
        colour = COLOURS[0] if key == "win_rate" else REFERENCE_COLOUR
        if np.isnan(mean):
            panel.text(0.5, at, "unknown", ha="center", va="bottom", fontsize=9, color=colour)
            continue
        panel.plot([low, high], [at, at], color=colour, linewidth=2.2, solid_capstyle="butt")
        panel.plot(mean, at, "o", color=colour, markersize=6, clip_on=False)
        panel.annotate(f"{mean:.1%}", (mean, at), (0, 6), textcoords="offset points", ha="center", fontsize=9)
    panel.set(xlim=(0, 1), ylim=(len(shown) - 0.4, -0.75))
    panel.set_yticks(range(len(shown)), [rows[key] for key in shown])
    panel.xaxis.set_major_formatter(_percent_axis())
    panel.set_title(f"Win rate, a tie is one half ({CONFIDENCE:.0%} intervals over prompts)")


def _percent_axis() -> Any:
    from matplotlib.ticker import PercentFormatter

    return PercentFormatter(xmax=1, decimals=0)


def _short(name: str) -> str:
    """A name that has room in the figure; its end tells it apart."""
    shown = name if len(name) <= _LONGEST else f"…{name[1 - _LONGEST :]}"
    return shown.replace("$", r"\$")
