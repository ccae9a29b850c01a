"""The figure of all settings at once: gains over the reference with their intervals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import fill
from typing import Final

from tailgrad.display.cells import aligned, decimals_of, interval_cell
from tailgrad.display.style import drawing, styles_of
from tailgrad.statistics.intervals import Interval

_TITLE_WIDTH: Final = 60
"""Characters of a line above a panel, which long names of methods make narrow."""


def save_gains(gains: Mapping[str, Mapping[str, Interval | None]], stem: Path, *, reference: str) -> None:
    """Draw the gain over the reference at the trained N, one panel a setting, and save it as PNG and SVG.

    Args:
        gains: For each setting by its title the gain of each method; None for the reference.
        stem: Path of the files without ending; the folder must exist.
        reference: Name of the reference.

    Raises:
        ModuleNotFoundError: If matplotlib is missing.
    """
    titles = {title: fill(title, _TITLE_WIDTH) for title in gains}
    heights = [0.2 + 0.15 * (1 + titles[title].count("\n")) + 0.26 * len(methods) for title, methods in gains.items()]
    with drawing(stem, (7.0, 0.9 + sum(heights))) as (figure, _):
        panels = figure.subplots(len(gains), 1, squeeze=False, sharex=True)[:, 0]
        for panel, (title, methods) in zip(panels, gains.items(), strict=True):
            names = [name for name, interval in methods.items() if interval is not None]
            styles = styles_of([*names, reference], reference)
            panel.axvline(0.0, color=styles[reference]["color"], linewidth=1.2)
            for height, name in enumerate(reversed(names)):
                interval, colour = methods[name], styles[name]["color"]
                assert interval is not None
                panel.plot([*interval.low, *interval.high], [height, height], color=colour, linewidth=2)
                panel.plot(interval.mean, [height], "o", color=colour, markersize=5)
            panel.set_yticks(range(len(names)), list(reversed(names)))
            panel.set_title(titles[title], fontsize=9.5)
        panels[-1].set_xlabel(f"$V_N$ at the trained N, minus {reference}'s (95% intervals)")


def gains_table(gains: Mapping[str, Mapping[str, Interval | None]], *, reference: str) -> str:
    """Give the numbers of the figure as a Markdown table, one row per setting.

    Args:
        gains: As for `save_gains`.
        reference: Name of the reference.

    Returns:
        The table; no entry where a method is not finished in a setting.
    """
    known = [interval for methods in gains.values() for interval in methods.values() if interval is not None]
    names = dict.fromkeys(name for methods in gains.values() for name in methods if name != reference)
    decimals = decimals_of(known) if known else 0
    rows = [["setting", *(f"{name} - {reference}" for name in names)]]
    for title, methods in gains.items():
        found = [methods.get(name) for name in names]
        rows.append([title, *("" if one is None else interval_cell(one, 0, decimals, "+") for one in found)])
    return aligned(rows)
