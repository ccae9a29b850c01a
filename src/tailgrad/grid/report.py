"""From the results table of a grid to its tables and figures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from tailgrad.evaluation import Comparison
from tailgrad.evaluation.figures import drawing, save_figure, styles_of
from tailgrad.evaluation.intervals import Interval
from tailgrad.evaluation.tables import aligned, json_text, markdown_text
from tailgrad.grid.config import GridConfig
from tailgrad.grid.frontier import equal_kl_table, save_frontier
from tailgrad.grid.gather import Method, compare, methods_of, settings
from tailgrad.grid.results import Row
from tailgrad.grid.run import chosen_trainings
from tailgrad.grid.trainings import BASE

POWER = 0.8
MOST_SEEDS = 1000


def write_grid_report(config: GridConfig, rows: Sequence[Row], out: Path) -> str:
    """Write what is known so far: for each setting curves, gains over the reference and the frontier against KL.

    Args:
        config: The grid.
        rows: Its results, with the choosing rows of all cells; methods that are not finished are left out and named.
        out: Folder for grid.md, grid.json and the figures, made if missing.

    Returns:
        The text of grid.md.

    Raises:
        ModuleNotFoundError: If matplotlib is missing.
    """
    out.mkdir(parents=True, exist_ok=True)
    found = {row["key"]: row for row in rows}
    chosen = chosen_trainings(config, rows)
    parts, gains, documents = [], {}, []
    for number, setting in enumerate(settings(config), start=1):
        methods = methods_of(config, setting, chosen, found)
        parts.append(f"## {setting.title}")
        if config.reference not in methods:
            parts.append(f"Not finished: {config.reference} or the starting policy.")
            continue
        comparison = compare(config, setting, methods)
        save_figure(comparison, out / f"curve-{number}", m=setting.m, deploy_n=setting.deploy_n)
        parts += [_methods_table(config, methods), markdown_text(comparison).rstrip()]
        budget = _budget(comparison, setting.deploy_n)
        gains[setting.title] = {curve.name: _at(curve.difference, comparison, budget) for curve in comparison.curves}
        parts.append(_power_table(config, methods, budget))
        if config.checkpoints and setting.scored_by == setting.reward:
            common = min(budget, config.checkpoint_n)
            save_frontier(methods, out / f"frontier-{number}", budget=common, reference=config.reference)
            parts.append(equal_kl_table(methods, budget=common, reference=config.reference))
        documents.append({"setting": setting._asdict(), **json.loads(json_text(comparison))})
    if gains:
        _save_gains(gains, out / "gains", reference=config.reference)
    text = "\n\n".join(parts) + "\n"
    (out / "grid.md").write_text(text, encoding="utf-8")
    (out / "grid.json").write_text(json.dumps(documents, indent=1) + "\n", encoding="utf-8")
    return text


def seeds_needed(deviation: float, difference: float) -> int | None:
    """Seeds that a paired t test at 5% needs to see a mean difference with 80% power.

    Args:
        deviation: Standard deviation over seeds of the difference, prompts averaged.
        difference: The difference to be seen.

    Returns:
        At least 2; None where even 1,000 are too few.

    Example:
        >>> seeds_needed(0.1, 0.2), seeds_needed(0.1, 0.0)
        (5, None)
    """
    for seeds in range(2, MOST_SEEDS + 1):
        power = 1 - stats.nct.cdf(
            stats.t.isf(0.025, seeds - 1), seeds - 1, abs(difference) * math.sqrt(seeds) / deviation
        )
        if power >= POWER:
            return seeds
    return None


def _methods_table(config: GridConfig, methods: Mapping[str, Method]) -> str:
    """What each method was trained with."""
    rows = [["method", "learning rate", "seeds", "training, minutes"]]
    for name, method in methods.items():
        if name != BASE:
            seconds = [path[-1]["train_seconds"] or math.nan for path in method.rows]
            minutes = f"{np.mean(seconds) / 60:.1f}"
            rows.append([name, f"{method.training.learning_rate:g}", str(len(method.rows)), minutes])
    missing = [name for name in config.estimators if name not in methods]
    tried = ", ".join(f"{rate:g}" for rate in config.learning_rates)
    text = f"Each method at its best of the learning rates {tried} on the choosing prompts\n\n{aligned(rows)}"
    return text + (f"\n\nNot finished: {', '.join(missing)}." if missing else "")


def _power_table(config: GridConfig, methods: Mapping[str, Method], budget: int) -> str:
    """How far the differences spread over seeds, and how many seeds would see them."""
    rows = [["method", "difference", "sd over seeds", "seeds for 80% power", "seeds to see 0.1"]]
    reference = methods[config.reference]
    for name, method in methods.items():
        if name in (BASE, config.reference) or len(method.rows) < 2:
            continue
        ours, theirs = (one.v_n(one.steps[-1], [budget]).mean(axis=(1, 2)) for one in (method, reference))
        mean, deviation = float((ours - theirs).mean()), float((ours - theirs).std(ddof=1))
        needed = [seeds_needed(deviation, size) or f"over {MOST_SEEDS}" for size in (mean, 0.1)]
        rows.append([name, f"{mean:+.3f}", f"{deviation:.3f}", *map(str, needed)])
    if len(rows) == 1:
        return "No estimate of power: it needs two seeds."
    return f"V_{budget} less that of {config.reference}: spread over seeds, and power\n\n{aligned(rows)}"


def _budget(comparison: Comparison, deploy_n: int) -> int:
    """The measured N nearest to the one trained for, from below."""
    return max(budget for budget in comparison.budgets if budget <= deploy_n)


def _at(interval: Interval | None, comparison: Comparison, budget: int) -> Interval | None:
    place = comparison.budgets.index(budget)
    return None if interval is None else Interval(*(part[place : place + 1] for part in interval))


def _save_gains(gains: Mapping[str, Mapping[str, Interval | None]], stem: Path, *, reference: str) -> None:
    """Draw the gain over the reference at the trained N, one panel a setting."""
    with drawing(stem, (7.0, 0.9 + sum(0.35 + 0.26 * len(methods) for methods in gains.values()))) as (figure, _):
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
            panel.set_title(title, fontsize=9.5)
        panels[-1].set_xlabel(f"$V_N$ at the trained N, minus {reference}'s (95% intervals)")
