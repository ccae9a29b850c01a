"""The learning curve of a training: a figure, and the same numbers as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float

from tailgrad.display.cells import aligned, decimals_of, interval_cell
from tailgrad.display.style import COLOURS, REFERENCE_COLOUR, drawing
from tailgrad.statistics.intervals import CONFIDENCE, Interval, mean_interval
from tailgrad.training.log import TrainingLog

PARTS: Final = 10
"""Into at most so many parts a training is cut, of at least four logged steps each."""

_REWARDS: Final = {
    "reward": "mean reward",
    "tail/best_of_": "best of {}",
    "tail/forecast_best_of_": "best of {}, forecast",
    "eval_reward": "mean reward, evaluation",
}
_KL: Final = "KL per token (nats)"
_OTHERS: Final = {
    "kl": _KL,
    "tail/spread": "tail spread",
    "completions/mean_length": "tokens",
    "tail/groups_without_signal": "without signal",
}

Series = Mapping[str, Float[np.ndarray, " T"]]


def save_learning_curve(log: TrainingLog, stem: Path) -> str:
    """Draw what a training logged of its rewards and its KL, save it as PNG and SVG, and give the table.

    Thin lines are the logged steps. A training is cut into up to ten parts, and thick lines join the means over the
    logged steps of a part, with their 95% intervals; the table has the same means.

    Args:
        log: What it logged.
        stem: Path of the figure's files without ending; the folder must exist.

    Returns:
        The table, as Markdown.

    Raises:
        ModuleNotFoundError: If matplotlib is missing.
    """
    rewards, others = _known(log, _REWARDS), _known(log, _OTHERS)
    parts = np.array_split(np.arange(len(log.steps)), min(PARTS, max(1, len(log.steps) // 4)))
    means = _means(rewards | others, parts)
    colours = dict(zip(rewards, COLOURS, strict=False))
    panels = {"Reward along the training": rewards}
    if _KL in others:
        panels["KL to the reference policy, per token (nats)"] = {_KL: others[_KL]}
    with drawing(stem, (5.4 * len(panels), 4.2)) as (figure, _):
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for panel, (title, series) in zip(axes, panels.items(), strict=True):
            for name, values in series.items():
                _draw(panel, log.steps, values, parts, means[name], colours.get(name, REFERENCE_COLOUR), name)
            panel.set_title(title)
            panel.set_xlabel("step")
        legend = axes[0].get_legend_handles_labels()
        figure.legend(*legend, loc="outside upper left", ncols=4, frameon=False, fontsize=9)
    return _text(log, parts, means)


def _means(series: Series, parts: Sequence[np.ndarray]) -> dict[str, list[Interval]]:
    """The mean of each series over each part, with its interval."""
    values = np.stack([*series.values()], axis=1)
    found = [mean_interval(values[part][None]) for part in parts]
    return {name: [Interval(*(one[at : at + 1] for one in part)) for part in found] for at, name in enumerate(series)}


def _known(log: TrainingLog, headings: Mapping[str, str]) -> dict[str, Float[np.ndarray, " T"]]:
    """The series that were logged, by their headings."""
    found = {}
    for start, heading in headings.items():
        if (named := log.named(start)) is not None and not np.isnan(named[1]).all():
            found[heading.format(named[0])] = named[1]
    return found


def _draw(
    panel: Any,
    steps: np.ndarray,
    values: Float[np.ndarray, " T"],
    parts: Sequence[np.ndarray],
    means: Sequence[Interval],
    colour: str,
    name: str,
) -> None:
    known = ~np.isnan(values)
    panel.plot(steps[known], values[known], color=colour, linewidth=0.8, alpha=0.35)
    middles = np.array([steps[part].mean() for part in parts])
    mean, low, high = (np.array([interval[end][0] for interval in means]) for end in range(3))
    there = ~np.isnan(mean)
    panel.errorbar(
        middles[there],
        mean[there],
        yerr=np.nan_to_num(np.maximum([mean - low, high - mean], 0.0))[:, there],
        color=colour,
        linestyle="--" if name.endswith("forecast") else "-",
        marker="o",
        markersize=4,
        linewidth=1.8,
        elinewidth=1.4,
        label=name,
    )


def _text(log: TrainingLog, parts: Sequence[np.ndarray], means: Mapping[str, Sequence[Interval]]) -> str:
    columns = []
    for name, intervals in means.items():
        decimals = decimals_of(intervals)
        columns.append([name, *(interval_cell(interval, 0, decimals) for interval in intervals)])
    spans = ["steps", *(_span(int(log.steps[part[0]]), int(log.steps[part[-1]])) for part in parts)]
    logged = len(log.steps)
    sentences = [
        f"{_how(log.record)}Mean over the logged steps of each row ({logged} in all) [{CONFIDENCE:.0%} interval].",
        aligned([list(row) for row in zip(spans, *columns, strict=True)]),
        "The rewards are those of the prompts that were trained on. Each step draws other prompts, which is what the "
        "intervals cover, together with how far the policy moved within a row; they do not speak of other training "
        "seeds. `best of m` is exact; the forecast extrapolates. Whether training helped, held-out prompts tell: "
        "`tailgrad sample`, then `tailgrad curve`.",
    ]
    return "\n\n".join(sentences) + "\n"


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} to {last}"


def _how(record: Mapping[str, Any]) -> str:
    """How it was trained, in a sentence; nothing where that is not known."""
    if "estimator" not in record:
        return ""
    options = ", ".join(f"{name} = {value}" for name, value in record.get("options", {}).items())
    more = f" ({options})" if options else ""
    return (
        f"Trained with `{record['estimator']}`{more}: m = {record.get('num_generations')} rollouts per prompt, "
        f"{record.get('prompts_per_step', float('nan')):g} prompts per step, beta = {record.get('beta')}, "
        f"seed {record.get('seed')}. "
    )
