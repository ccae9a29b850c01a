"""The tables of README.md and the figure, from the rows of compare.py."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from pools import NAMES

from tailgrad.display.cells import aligned
from tailgrad.display.style import COLOURS, REFERENCE_COLOUR, drawing

MARKERS = "<!-- tables: written by compare.py -->", "<!-- end of the tables -->"
Row = dict[str, Any]
STYLES = {
    "Pandora's box": (COLOURS[1], "--"),
    "BEACON": (COLOURS[3], "--"),
    "AdaBoN": (COLOURS[4], ":"),
    "SLG": (COLOURS[5], ":"),
    "tail stopping": (COLOURS[0], "-."),
    "tail stopping, prior": (COLOURS[0], "-"),
    "allocation": (COLOURS[2], "-"),
}


def write_report(rows: Sequence[Row], folder: Path) -> None:
    """Write the tables between the page's markers, and draw the figure."""
    page = folder / "README.md"
    text = page.read_text(encoding="utf-8")
    before, after = text.split(MARKERS[0])[0], text.split(MARKERS[1])[1]
    parts = [MARKERS[0], "**Samples saved at equal reward, %**", table(rows, "saved", 0)]
    parts += ["**Ours minus the best peer at equal samples, % of a prompt's standard deviation**"]
    ours = [row for row in rows if row["rule"] in ("tail stopping, prior", "allocation", "tail stopping")]
    parts += [table(ours, "over_best_peer", 1), "**The price at which this many are drawn, in spreads of the prior**"]
    parts += [price_table([row for row in rows if row["rule"] == "tail stopping, prior, batches of 4"]), MARKERS[1]]
    page.write_text(before + "\n\n".join(parts) + after, encoding="utf-8")
    draw(rows, folder / "results" / "saved")


def table(rows: Sequence[Row], key: str, decimals: int) -> str:
    """One line per pool and number of samples, one column per rule."""
    rules = list(dict.fromkeys(row["rule"] for row in rows))
    lines = [["pool", "N", *rules]]
    for pool, samples in dict.fromkeys((row["pool"], row["samples"]) for row in rows):
        of_line = {row["rule"]: row for row in rows if (row["pool"], row["samples"]) == (pool, samples)}
        lines.append([pool, str(samples), *(cell(of_line.get(rule), key, decimals) for rule in rules)])
    return aligned(lines)


def price_table(rows: Sequence[Row]) -> str:
    """One line per pool, one column per number of samples."""
    sizes = sorted({row["samples"] for row in rows})
    lines = [["pool", *(f"N = {size}" for size in sizes)]]
    for pool in dict.fromkeys(row["pool"] for row in rows):
        prices = {row["samples"]: f"{row['price']:g}" for row in rows if row["pool"] == pool}
        lines.append([pool, *(prices.get(size, "") for size in sizes)])
    return aligned(lines)


def cell(row: Row | None, key: str, decimals: int) -> str:
    """A number with its interval."""
    if row is None:
        return ""
    if row[key][0] is None:
        return "not reached"
    unit = 1.0 if key == "saved" else row["spread"] / 100
    value, low, high = (number / unit for number in row[key])
    return f"{value:+.{decimals}f} [{low:+.{decimals}f}, {high:+.{decimals}f}]"


def draw(rows: Sequence[Row], stem: Path) -> None:
    """Reward above uniform at equal samples, in standard deviations, one panel per pool."""
    with drawing(stem, (12.5, 3.6)) as (figure, (_, vector)):
        panels = figure.subplots(1, len(NAMES), sharey=True)
        for panel, (pool, title) in zip(panels, NAMES.items(), strict=True):
            panel.axhline(0, color=REFERENCE_COLOUR, linewidth=1)
            for rule, (colour, line) in STYLES.items():
                of_rule = [
                    row for row in rows if (row["pool"], row["rule"]) == (pool, rule) and row["gain"][0] is not None
                ]
                points = [(row["samples"], *(number / row["spread"] for number in row["gain"])) for row in of_rule]
                if points:
                    samples, gain, low, high = zip(*points, strict=True)
                    panel.plot(samples, gain, color=colour, linestyle=line, marker="o", markersize=3.5, label=rule)
                    if line == "-":
                        panel.fill_between(samples, low, high, color=colour, alpha=0.12, linewidth=0)
            panel.set_xscale("log", base=2)
            panel.set_xticks([8, 16, 32, 64], ["8", "16", "32", "64"])
            panel.minorticks_off()
            panel.set_title(fill(title, 24), fontsize=9.5)
            panel.set_xlabel("samples per prompt")
        panels[0].set_ylabel("reward above uniform, in sd")
        handles, labels = panels[-1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=7, frameon=False, fontsize=9)
    vector.unlink()
