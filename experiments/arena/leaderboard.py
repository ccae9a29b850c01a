"""Who wins where: differences to a reference for every setting and way of comparing, and their means over settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from contenders import PEERS
from rows import BASE, STEPS, criteria_of

from tailgrad.evaluation import Interval, mean_interval, paired_difference
from tailgrad.evaluation.tables import aligned, interval_cell

GRPO = "grpo"
BEST_MAX = "best max@k"
"""In each setting and way of comparing the max_at_k whose chosen policy is best on the choosing prompts."""
Reference = Callable[[str, str], str]


@dataclass
class Results:
    """The committed rows, by setting, contender and criterion."""

    settings: dict[str, dict[str, Any]]
    chosen: dict[tuple[str, str, str], dict[str, Any]]
    differences: dict[tuple[str, str, str], dict[str, tuple[float, float, float]]] = field(default_factory=dict)

    def names(self, setting: str) -> list[str]:
        """Who competed in a setting, in the order of the rows."""
        return list(dict.fromkeys(name for at, name, _ in self.chosen if at == setting and name != BASE))

    def values(self, setting: str, name: str, criterion: str) -> np.ndarray:
        """V_N on the report prompts, `[S, P]`, in units of the base policy's spread."""
        row = self.chosen[setting, name, criterion]
        return np.array(row["values"], float).reshape(row["seeds"], -1) / self.settings[setting]["base_spread"]

    def best(self, setting: str, criterion: str, names: Iterable[str]) -> str:
        """Which of the contenders is best on the choosing prompts."""
        there = [name for name in names if (setting, name, criterion) in self.chosen]
        return max(there, key=lambda name: float(self.chosen[setting, name, criterion]["on_choosing"]))

    def reference(self, setting: str, criterion: str, name: str) -> str:
        """The reference's name, or for `BEST_MAX` that of the best max_at_k there."""
        return self.best(setting, criterion, PEERS) if name == BEST_MAX else name

    def against(self, setting: str, criterion: str, reference: str) -> dict[str, tuple[float, float, float]]:
        """Difference of every contender to a reference, with its 95% interval over seeds and prompts."""
        key = setting, criterion, reference
        if key not in self.differences:
            other = self.reference(setting, criterion, reference)
            names = self.names(setting)
            stacked = np.stack([self.values(setting, name, criterion) for name in names], axis=2)
            base = np.repeat(self.values(setting, other, criterion)[:, :, None], len(names), axis=2)
            interval = paired_difference(stacked, base)
            ends = zip(interval.mean.tolist(), interval.low.tolist(), interval.high.tolist(), strict=True)
            self.differences[key] = dict(zip(names, ends, strict=True))
        return self.differences[key]

    def gain(self, setting: str, criterion: str, name: str = GRPO) -> float:
        """What a contender has gained over the base policy, in units of the base policy's spread."""
        return float((self.values(setting, name, criterion) - self.values(setting, BASE, criterion)).mean())


def read_results(folder: Path) -> Results:
    """The committed rows of a folder."""
    settings = {row["name"]: row for row in json.loads((folder / "settings.json").read_text())}
    rows = pq.read_table(folder / "chosen.parquet").to_pylist()
    return Results(settings, {(row["setting"], row["contender"], row["criterion"]): row for row in rows})


@dataclass(frozen=True)
class Standing:
    """A contender against a reference over many settings and criteria."""

    mean: Interval
    """Mean difference over settings, each the mean over criteria, in units of the base policy's spread."""
    share: float
    """The same as a share of what the reference gains."""
    wins: int
    losses: int
    compared: int
    settings: int


def standing(
    results: Results, name: str, reference: str, settings: Iterable[str], criteria: Callable[[str], Iterable[str]]
) -> Standing | None:
    """Sum up a contender's differences; None where it never competed."""
    means, gains, cells = [], [], []
    for setting in settings:
        if name not in results.names(setting):
            continue
        asked = list(criteria(results.settings[setting]["world"]))
        cells += (here := [results.against(setting, criterion, reference)[name] for criterion in asked])
        means.append(np.mean([mean for mean, _, _ in here]))
        gains.append(np.mean([results.gain(setting, c, results.reference(setting, c, reference)) for c in asked]))
    if not means:
        return None
    interval = mean_interval(np.array(means)[None, :, None])
    wins, losses = sum(low > 0 for _, low, _ in cells), sum(high < 0 for _, _, high in cells)
    return Standing(interval, float(np.sum(means) / np.sum(gains)), wins, losses, len(cells), len(means))


def equal_kl(world: str) -> list[str]:
    """The criteria at equal KL."""
    return [criterion for criterion in criteria_of(world) if criterion != STEPS]


def equal_steps(world: str) -> list[str]:
    """The criterion of equal steps."""
    return [STEPS]


def overall_table(
    results: Results, settings: list[str], criteria: Callable[[str], Iterable[str]], names: Iterable[str]
) -> str:
    """All contenders against GRPO and against the best max_at_k, the best mean first."""
    lines: list[tuple[float, list[str]]] = []
    for name in names:
        cells = [name]
        to_grpo = standing(results, name, GRPO, settings, criteria)
        if to_grpo is None:
            continue
        for found in (to_grpo, standing(results, name, BEST_MAX, settings, criteria)):
            assert found is not None
            cells += [interval_cell(found.mean, 0, 3, "+"), f"{found.share:+.1%}"]
            cells += [f"{found.wins} / {found.losses} of {found.compared}"]
        lines.append((found_mean(to_grpo), [*cells, str(to_grpo.settings)]))
    heading = ["contender"]
    for other in (GRPO, BEST_MAX):
        heading += [f"minus {other}", "of its gain", "wins / losses"]
    return aligned([[*heading, "settings"], *(cells for _, cells in sorted(lines, key=lambda line: -line[0]))])


def found_mean(found: Standing) -> float:
    """The mean difference as a number."""
    return float(found.mean.mean[0])


def setting_table(results: Results, settings: list[str], criterion: str, name: str) -> str:
    """Setting by setting: the base policy, GRPO, the best max_at_k and a contender, with its differences to both."""
    rows = [["setting", "cosine", "V_N base", "grpo", BEST_MAX, name, f"{name} - grpo", f"{name} - {BEST_MAX}"]]
    for setting in settings:
        if name not in results.names(setting) or criterion not in criteria_of(results.settings[setting]["world"]):
            continue
        peer = results.reference(setting, criterion, BEST_MAX)
        cosine = results.settings[setting]["cosine"]
        means = [results.values(setting, who, criterion).mean() for who in (BASE, GRPO, peer, name)]
        values = [f"{mean:.3f}" for mean in means]
        values[2] += f" ({peer})"
        gaps = [_cell(results.against(setting, criterion, reference)[name]) for reference in (GRPO, BEST_MAX)]
        rows.append([setting, "" if cosine is None else f"{cosine:.2f}", *values, *gaps])
    return aligned(rows)


def _cell(ends: tuple[float, float, float]) -> str:
    mean, low, high = ends
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]" + (" *" if low > 0 or high < 0 else "")
