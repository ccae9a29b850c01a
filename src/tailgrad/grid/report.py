"""From the results table of a grid to its tables and figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tailgrad.curves import Comparison
from tailgrad.curves.figures import save_figure
from tailgrad.curves.tables import json_text, markdown_text
from tailgrad.display.cells import aligned
from tailgrad.files import write_text
from tailgrad.grid.choosing import Choice, choices_of, chosen_trainings
from tailgrad.grid.config import GridConfig
from tailgrad.grid.frontier import (
    Points,
    best_within_kl,
    equal_kl_table,
    on_shared_prompts,
    over_rates,
    over_steps,
    save_frontier,
    without_start,
)
from tailgrad.grid.gains import gains_table, save_gains
from tailgrad.grid.gather import Method, Setting, compare_methods, methods_of, settings, shared_budgets
from tailgrad.grid.power import power_table
from tailgrad.grid.results import Row
from tailgrad.grid.trainings import BASE
from tailgrad.statistics.intervals import Interval


def write_grid_report(config: GridConfig, rows: Sequence[Row], out: Path) -> str:
    """Write what is known so far: for each setting curves, gains over the reference and the frontier against KL.

    Args:
        config: The grid.
        rows: Its results; methods that are not finished are left out and named.
        out: Folder for grid.md, grid.json and the figures, made if missing.

    Returns:
        The text of grid.md.

    Raises:
        ModuleNotFoundError: If matplotlib is missing.
    """
    out.mkdir(parents=True, exist_ok=True)
    found = {row["key"]: row for row in rows}
    choices, chosen = choices_of(config, rows), chosen_trainings(config, rows)
    parts, gains, documents = [], {}, []
    for number, setting in enumerate(settings(config), start=1):
        methods = methods_of(config, setting, chosen, found)
        parts.append(f"## {setting.title}")
        if config.reference not in methods:
            parts.append(f"Not finished: {config.reference} or the starting policy.")
            continue
        comparison = compare_methods(config, setting, methods)
        budget = _largest(comparison.budgets, setting.deploy_n)
        if setting.scored_by == setting.reward:
            title = setting.title + ("" if budget == setting.deploy_n else f"; here N = {budget}")
            gains[title] = {curve.name: _at(curve.difference, comparison, budget) for curve in comparison.curves}
        drawn = f"![V_N against N](curve-{number}.svg)"
        parts += [_methods_table(config, methods, choices), drawn, markdown_text(comparison).rstrip()]
        parts.append(power_table(methods, budget=budget, reference=config.reference))
        save_figure(comparison, out / f"curve-{number}", m=setting.m, deploy_n=setting.deploy_n)
        if setting.scored_by == setting.reward:
            parts += _report_frontier(config, setting, methods, found, out / f"frontier-{number}")
        documents.append({"setting": setting._asdict(), **json.loads(json_text(comparison))})
    if gains:
        save_gains(gains, out / "gains", reference=config.reference)
        parts.append(f"## Gains over {config.reference} at the trained N")
        parts += ["![Gains of all settings](gains.svg)", gains_table(gains, reference=config.reference)]
    text = "\n\n".join(parts) + "\n"
    write_text(out / "grid.md", text)
    write_text(out / "grid.json", json.dumps(documents, indent=1) + "\n")
    return text


def _report_frontier(
    config: GridConfig, setting: Setting, methods: Mapping[str, Method], rows: Mapping[str, Row], stem: Path
) -> list[str]:
    """Draw V_N against KL, over training steps and over learning rates, and give the tables at equal KL."""
    budget = _largest(shared_budgets(methods, every_step=True), setting.deploy_n)
    panels: dict[str, Mapping[str, Points]] = {}
    texts, unordered = [], []
    if config.checkpoints:
        title = "over training steps, held-out prompts"
        points, who = on_shared_prompts(over_steps(methods, budget), budget)
        table = equal_kl_table(without_start(points), budget=budget, reference=config.reference) if points else ""
        texts += [f"V_{budget} at equal KL, {title}; differences paired", who, table]
        panels |= {title: points} if points else {}
    rates, at = over_rates(config, methods, rows, budget)
    if rates:
        title = f"over {config.tried}, choosing prompts, seed {config.seeds[0]}"
        points, who = on_shared_prompts(rates, at)
        how: Any = {"budget": at, "reference": config.reference, "read": best_within_kl}
        table = equal_kl_table(points, **how) if points else ""
        texts += [f"V_{at} of the best within a KL, {title}; differences paired", who, table]
        panels |= {title: points} if points and at == budget else {}
        unordered += [title] if len(config.betas) > 1 and config.choose_beta else []
    if panels:
        save_frontier(panels, stem, budget=budget, reference=config.reference, unordered=unordered)
        texts.insert(0, f"![V_{budget} against KL]({stem.name}.svg)")
    return [text for text in texts if text]


def _methods_table(config: GridConfig, methods: Mapping[str, Method], choices: Sequence[Choice]) -> str:
    """What each method was trained with."""
    weight = ["KL weight"] if config.choose_beta else []
    rows = [["method", "learning rate", *weight, "seeds", "training, minutes"]]
    for name, method in methods.items():
        if name != BASE:
            seconds = [path[-1]["train_seconds"] for path in method.rows if path[-1]["train_seconds"] is not None]
            minutes = f"{np.mean(seconds) / 60:.1f}" if seconds else ""
            chosen = [method.training.learning_rate, method.training.kl_weight][: 1 + len(weight)]
            rows.append([name, *(f"{value:g}" for value in chosen), str(len(method.rows)), minutes])
    missing = [name for name in config.estimators if name not in methods]
    tried = ", ".join(f"{rate:g}" for rate in config.learning_rates)
    rule = f"Learning rates: of {tried} the smallest within one standard error of the best, on the choosing prompts"
    if config.choose_beta:
        weights = ", ".join(f"{weight:g}" for weight in config.betas)
        rule += f"; together with it a KL weight of {weights}, the largest first"
    trainings = [method.training for method in methods.values()]
    by = _chosen_by([choice for choice in choices if choice.training in trainings])
    parts = [f"{rule}{by}", aligned(rows)]
    if missing:
        parts.append(f"Not finished: {', '.join(missing)}.")
    seeds = methods[config.reference].seeds
    if len(seeds) < len(config.seeds):
        shown = ", ".join(map(str, seeds))
        parts.append(f"Seeds that every method here has finished: {shown} of {', '.join(map(str, config.seeds))}.")
    return "\n\n".join(parts)


def _chosen_by(choices: Sequence[Choice]) -> str:
    """By the best of how many, on how many of the choosing prompts."""
    texts = {
        one.training.estimator: f"the best of {one.budget}"
        + ("" if one.prompts == one.of_prompts else f" on {one.prompts} of the {one.of_prompts}")
        for one in choices
        if one.budget is not None
    }
    if len({*texts.values()}) > 1:
        return ", by " + ", ".join(f"{text} ({name})" for name, text in texts.items())
    return "".join(f", by {text}" for text in list(texts.values())[:1])


def _largest(budgets: Sequence[int], deploy_n: int) -> int:
    """The measured N nearest to the one trained for, from below."""
    return max(budget for budget in budgets if budget <= deploy_n)


def _at(interval: Interval | None, comparison: Comparison, budget: int) -> Interval | None:
    place = comparison.budgets.index(budget)
    return None if interval is None else Interval(*(part[place : place + 1] for part in interval))
