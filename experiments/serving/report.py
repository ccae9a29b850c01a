"""The tables of README.md and the figures, from the rows of measure.py."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tailgrad.display.cells import aligned, interval_cell
from tailgrad.display.style import COLOURS, REFERENCE_COLOUR, drawing
from tailgrad.statistics.intervals import Interval, mean_interval

Row = dict[str, Any]
QUANTITIES = {"samples": ("asked", 1), "reward": ("reward", 2), "seconds": ("seconds", 2)}
KINDS = {"the same N for all": (REFERENCE_COLOUR, "o"), "a price of a sample": (COLOURS[0], "s")}


def write_report(rows: Sequence[Row], name: str, folder: Path) -> None:
    """Write the table of one measurement between its markers of the page, and draw its figure.

    Args:
        rows: Those of measure.py.
        name: Of the measurement.
        folder: Holds README.md and results/.
    """
    page = folder / "README.md"
    text = page.read_text(encoding="utf-8")
    begin, end = f"<!-- {name}: written by measure.py -->", f"<!-- end of {name} -->"
    before, after = text.split(begin)[0], text.split(end)[1]
    found = {setting: intervals(rows, setting) for setting in settings_of(rows)}
    page.write_text(f"{before}{begin}\n\n{table(found, rows)}\n\n{end}{after}", encoding="utf-8")
    draw(found, folder / "results" / name)


def settings_of(rows: Sequence[Row]) -> list[str]:
    """The settings, the same N first, each kind by what it draws."""
    found = {label(row["setting"]): row["setting"] for row in rows}

    def place(name: str) -> tuple[float, int]:
        return -found[name].get("max_price", float("inf")), found[name]["best_of_n"]

    return sorted(found, key=place)


def label(setting: Row) -> str:
    """What a setting is called."""
    return f"price {setting['max_price']:g}" if "max_price" in setting else f"N = {setting['best_of_n']}"


def intervals(rows: Sequence[Row], setting: str) -> Interval:
    """Mean samples, reward and seconds of a setting, with 95% intervals over prompts."""
    of_setting = sorted((row for row in rows if label(row["setting"]) == setting), key=lambda row: row["prompt"])
    values = np.array([[row[key] for key, _ in QUANTITIES.values()] for row in of_setting], dtype=float)
    return mean_interval(values[None])


def table(found: dict[str, Interval], rows: Sequence[Row]) -> str:
    """One line per setting."""
    lines = [["", *(f"mean {name}" for name in QUANTITIES), "seconds, 90% of requests"]]
    for setting, interval in found.items():
        cells = [interval_cell(interval, place, digits) for place, (_, digits) in enumerate(QUANTITIES.values())]
        seconds = [row["seconds"] for row in rows if label(row["setting"]) == setting]
        lines.append([setting, *cells, f"{np.quantile(seconds, 0.9):.2f}"])
    return aligned(lines)


def draw(found: dict[str, Interval], stem: Path) -> None:
    """Reward against mean samples, and against mean seconds."""
    with drawing(stem, (9.0, 3.4)) as (figure, _):
        panels = figure.subplots(1, 2, sharey=True)
        for panel, place, words in zip(panels, (0, 2), ("samples per prompt", "seconds per request"), strict=True):
            for (kind, (colour, marker)), begins in zip(KINDS.items(), ("N", "price"), strict=True):
                points = [one for setting, one in found.items() if setting.startswith(begins)]
                x, reward = (np.array([one.mean[at] for one in points]) for at in (place, 1))
                ends = np.array([[one.mean[1] - one.low[1], one.high[1] - one.mean[1]] for one in points]).T
                panel.errorbar(x, reward, ends, color=colour, marker=marker, markersize=5, capsize=2, label=kind)
            panel.set_xlabel(f"mean {words}")
        panels[0].set_xscale("log", base=2)
        panels[0].xaxis.set_major_formatter("{x:g}")
        panels[0].set_ylabel("mean reward of the winner")
        panels[0].legend(frameon=False)
