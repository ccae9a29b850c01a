"""The tables of README.md and the figure of the coverage, from the rows."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from distributions import DISTRIBUTIONS, THREE
from distributions import draw as draw_rewards

from tailgrad.curves import best_of_n, budgets_up_to
from tailgrad.display.cells import aligned
from tailgrad.display.style import COLOURS, drawing
from tailgrad.tails import calibrated_forecast

HERE = Path(__file__).parent
MARKERS = "<!-- tables: written by run.py -->", "<!-- end of the tables -->"
FAMILIES = ("pareto", "gaussian", "exponential", "location_scale", "mean_and_std")
SHOWN = 128
"""m of the comparison of families on synthetic rewards."""

Row = Mapping[str, Any]


def write_tables(rows: Sequence[Row], page: Path) -> None:
    """Write the tables between the page's markers, and draw the figure."""
    real = [row for row in rows if row["rewards"] not in (*DISTRIBUTIONS, THREE)]
    known = [row for row in rows if row not in real]
    parts = [
        "## Our interval: percent that hold the truth",
        coverage_table(known),
        coverage_table(real),
        "## Every family: error over the gain of V_N from m to N, and percent of intervals that hold the truth",
        family_table(rows),
    ]
    text = page.read_text(encoding="utf-8")
    before, after = text.split(MARKERS[0])[0], text.split(MARKERS[1])[1]
    page.write_text(before + "\n\n".join([MARKERS[0], *parts, MARKERS[1]]) + after, encoding="utf-8")
    draw(rows)
    draw_example()


def settings_of(rows: Sequence[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    """Rewards and number of prompts, with the rows of each, in the order they were measured."""
    for key in dict.fromkeys((row["rewards"], str(row["prompts"])) for row in rows):
        yield *key, [row for row in rows if (row["rewards"], str(row["prompts"])) == key]


def coverage_table(rows: Sequence[Row]) -> str:
    """Of the intervals that were given, percent that hold the truth, per m and times."""
    ours = [row for row in rows if row["family"] == "calibrated"]
    columns = sorted({(int(row["m"]), int(row["N"]) // int(row["m"])) for row in ours})
    lines = [["rewards", "prompts", *(f"m = {m}, {times} m" for m, times in columns)]]
    for name, prompts, of_setting in settings_of(ours):
        cells = {(int(row["m"]), int(row["N"]) // int(row["m"])): coverage_cell(row) for row in of_setting}
        lines.append([name, prompts, *(cells.get(column, "") for column in columns)])
    return aligned(lines)


def coverage_cell(row: Row) -> str:
    """Such as 95, or 93 of 40 where only 40 of 100 were given."""
    given, repeats = int(row["given"]), int(row["repeats"])
    if not given:
        return "refused"
    covered = f"{100 * float(row['coverage']):.0f}"
    return covered if given == repeats else f"{covered} ({100 * given // repeats}% given)"


def family_table(rows: Sequence[Row]) -> str:
    """Mean error of every family over what V_N gains from m to N, and percent of its intervals that hold the truth."""
    lines = [["rewards", "m", "N", "gain", *FAMILIES]]
    for name, prompts, of_setting in settings_of(rows):
        sizes = [int(row["m"]) for row in of_setting]
        m = SHOWN if SHOWN in sizes and prompts == "48" else max(sizes)
        if prompts == "16":
            continue
        for deploy_n in sorted({int(row["N"]) for row in of_setting if int(row["m"]) == m}):
            at = {row["family"]: row for row in of_setting if (int(row["m"]), int(row["N"])) == (m, deploy_n)}
            cells = [family_cell(at[family]) for family in FAMILIES]
            lines.append([name, str(m), str(deploy_n), f"{float(at['pareto']['gain']):.2f}", *cells])
    return aligned(lines)


def family_cell(row: Row) -> str:
    """Such as -12% +- 20%, 95."""
    if not row["coverage"]:
        return "none"
    gain = float(row["gain"])
    bias, spread = (100 * float(row[key]) / gain for key in ("bias", "spread"))
    return f"{bias:+.0f}% +- {spread:.0f}%, {100 * float(row['coverage']):.0f}"


def draw(rows: Sequence[Row]) -> None:
    """Percent of the intervals that hold the truth, per family, at N = 8 m."""
    at = [row for row in rows if int(row["N"]) == 8 * int(row["m"]) and row["coverage"]]
    names = list(dict.fromkeys(row["rewards"] for row in at))
    shown = ("calibrated", "gaussian", "exponential", "location_scale", "mean_and_std")
    with drawing(HERE / "results" / "coverage", (8.0, 0.34 * len(names) + 1.6)) as (figure, _):
        panel = figure.subplots()
        panel.axvspan(90, 98, color="#E4F1E9", linewidth=0)
        for place, family in enumerate(shown):
            of_family = [row for row in at if row["family"] == family]
            panel.scatter(
                [100 * float(row["coverage"]) for row in of_family],
                [names.index(row["rewards"]) + 0.13 * (place - 2) for row in of_family],
                color=COLOURS[place],
                s=26 if family == "calibrated" else 14,
                label="tailgrad (pareto, with the shape's error)" if family == "calibrated" else family,
                alpha=0.85,
            )
        panel.set_yticks(range(len(names)), names)
        panel.invert_yaxis()
        panel.set_xlim(-2, 102)
        panel.set_xlabel("percent of 95% intervals that hold V_N at N = 8 m")
        panel.legend(loc="upper center", bbox_to_anchor=(0.4, -0.12), ncols=2, frameon=False, fontsize=9)
    (HERE / "results" / "coverage.svg").unlink()


def draw_example() -> None:
    """A curve of 64 responses per prompt, its forecast with the interval for these prompts, and the truth."""
    panels = ("gaussian", "uniform", "exponential")
    with drawing(HERE / "results" / "example", (9.6, 3.2)) as (figure, _):
        for panel, name in zip(figure.subplots(1, len(panels)), panels, strict=True):
            rewards, truth = draw_rewards(name, 48, 64, np.random.default_rng(0))
            exact, far = budgets_up_to(64), (128, 256, 512, 1024, 2048)
            forecast = calibrated_forecast(torch.from_numpy(rewards), far)
            curve = best_of_n(rewards, exact).mean(axis=0)
            ends = [np.append(curve[-1], part) for part in (forecast.mean, forecast.low, forecast.high)]
            panel.fill_between((64, *far), ends[1], ends[2], color=COLOURS[0], alpha=0.15, linewidth=0)
            panel.plot(exact, curve, color=COLOURS[0], marker="o", markersize=3.5, label="exact, from 64 responses")
            panel.plot((64, *far), ends[0], color=COLOURS[0], linestyle=(0, (3, 2)), label="forecast, 95% interval")
            true = [truth(n).mean() for n in far]
            panel.plot(far, true, "o", color=COLOURS[1], markersize=4, label="the truth")
            panel.set_xscale("log", base=2)
            panel.set_xticks([1, 8, 64, 512], ["1", "8", "64", "512"])
            panel.minorticks_off()
            panel.set_title(f"{name} rewards")
            panel.set_xlabel("N")
        figure.axes[0].set_ylabel("$V_N$, mean over 48 prompts")
        figure.axes[0].legend(frameon=False, fontsize=8.5, loc="lower right")
    (HERE / "results" / "example.svg").unlink()
