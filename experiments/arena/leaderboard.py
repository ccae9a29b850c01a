"""Who wins where: differences to a reference for every setting and way of comparing, and their means over settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from contenders import FLATS, PEERS
from rows import BASE, STEPS, criteria_of

from tailgrad.display.cells import aligned, interval_cell
from tailgrad.statistics import Interval, mean_interval, paired_difference

GRPO = "grpo"
BEST_MAX = "best max@k"
"""In each setting and way of comparing the max_at_k whose chosen policy is best on the choosing prompts."""
BEST_FLAT = "best flat"
"""Likewise the best of four kinds of flat TEA."""
BEST_PEER = "best peer"
"""Likewise the best of all contenders but flat TEA's."""
REFERENCES = (GRPO, BEST_MAX, BEST_PEER)


@dataclass
class Results:
    """The committed rows, by setting, contender and criterion."""

    settings: dict[str, dict[str, Any]]
    chosen: dict[tuple[str, str, str], dict[str, Any]]
    differences: dict[tuple[str, str, str], dict[str, tuple[float, float, float]]] = field(default_factory=dict)

    def names(self, setting: str) -> list[str]:
        """Who competed in a setting, in the order of the rows; the best max_at_k and the best flat TEA at the end."""
        found = dict.fromkeys(name for at, name, _ in self.chosen if at == setting and name != BASE)
        return [*found, BEST_MAX, BEST_FLAT]

    def values(self, setting: str, name: str, criterion: str) -> np.ndarray:
        """V_N on the report prompts, `[S, P]`, in units of the base policy's spread."""
        row = self.chosen[setting, self.reference(setting, criterion, name), criterion]
        return np.array(row["values"], float).reshape(row["seeds"], -1) / self.settings[setting]["base_spread"]

    def best(self, setting: str, criterion: str, names: Iterable[str]) -> str:
        """Which of the contenders is best on the choosing prompts."""
        there = [name for name in names if (setting, name, criterion) in self.chosen]
        return max(there, key=lambda name: float(self.chosen[setting, name, criterion]["on_choosing"]))

    def reference(self, setting: str, criterion: str, name: str) -> str:
        """A contender's name; for the best max_at_k, flat TEA or peer the name of who that is there."""
        peers = [who for at, who, what in self.chosen if (at, what) == (setting, criterion) and who != BASE]
        kinds = {BEST_MAX: PEERS, BEST_FLAT: FLATS, BEST_PEER: [who for who in peers if not who.startswith("flat")]}
        return self.best(setting, criterion, kinds[name]) if name in kinds else name

    def against(self, setting: str, criterion: str, reference: str) -> dict[str, tuple[float, float, float]]:
        """Difference of every contender to a reference, with its 95% interval over seeds and prompts."""
        key = setting, criterion, reference
        if key not in self.differences:
            names = self.names(setting)
            stacked = np.stack([self.values(setting, name, criterion) for name in names], axis=2)
            base = np.repeat(self.values(setting, reference, criterion)[:, :, None], len(names), axis=2)
            interval = paired_difference(stacked, base)
            ends = zip(interval.mean.tolist(), interval.low.tolist(), interval.high.tolist(), strict=True)
            self.differences[key] = dict(zip(names, ends, strict=True))
        return self.differences[key]

    def gain(self, setting: str, criterion: str, name: str = GRPO) -> float:
        """What a contender has gained over the base policy, in units of the base policy's spread."""
        return float((self.values(setting, name, criterion) - self.values(setting, BASE, criterion)).mean())

    def unit(self, setting: str) -> float:
        """What GRPO gains within the largest KL divergence: differences are given in percent of it."""
        return self.gain(setting, criteria_of(self.settings[setting]["world"])[-1]) or np.nan


def read_results(folder: Path) -> Results:
    """The committed rows of a folder."""
    settings = {row["name"]: row for row in json.loads((folder / "settings.json").read_text())}
    rows = pq.read_table(folder / "chosen.parquet").to_pylist()
    return Results(settings, {(row["setting"], row["contender"], row["criterion"]): row for row in rows})


@dataclass(frozen=True)
class Standing:
    """A contender against a reference over many settings and criteria."""

    percent: Interval
    """Mean over settings and criteria of the difference, in percent of GRPO's gain within the largest KL divergence."""
    wins: int
    """In how many settings, times criteria, the interval over seeds and prompts is above zero."""
    losses: int
    compared: int
    settings: int


def standing(
    results: Results, name: str, reference: str, settings: Iterable[str], criteria: Callable[[str], Iterable[str]]
) -> Standing | None:
    """Sum up a contender's differences; None where it never competed."""
    percents, cells = [], []
    for setting in settings:
        if name not in results.names(setting):
            continue
        asked = list(criteria(results.settings[setting]["world"]))
        cells += (here := [results.against(setting, criterion, reference)[name] for criterion in asked])
        percents.append(100 * np.mean([mean for mean, _, _ in here]) / results.unit(setting))
    if not percents:
        return None
    interval = mean_interval(np.array(percents)[None, :, None])
    wins, losses = sum(low > 0 for _, low, _ in cells), sum(high < 0 for _, _, high in cells)
    return Standing(interval, wins, losses, len(cells), len(percents))


def equal_kl(world: str) -> list[str]:
    """The criteria at equal KL."""
    return [criterion for criterion in criteria_of(world) if criterion != STEPS]


def equal_steps(world: str) -> list[str]:
    """The criterion of equal steps."""
    return [STEPS]


def overall_table(
    results: Results, settings: list[str], criteria: Callable[[str], Iterable[str]], names: Iterable[str]
) -> str:
    """All contenders against GRPO, the best max_at_k and the best peer, the best mean first."""
    lines: list[tuple[float, list[str]]] = []
    for name in names:
        found = [standing(results, name, reference, settings, criteria) for reference in REFERENCES]
        cells = [name]
        for one in found:
            if one is not None:
                cells += [interval_cell(one.percent, 0, 1, "+"), f"{one.wins} / {one.losses}"]
        if found[0] is not None:
            lines.append((float(found[0].percent.mean[0]), [*cells, str(found[0].compared), str(found[0].settings)]))
    heading = ["contender", *(word for name in REFERENCES for word in (f"- {name}, %", "won / lost"))]
    ranked = sorted(lines, key=lambda line: -line[0])
    return aligned([[*heading, "compared", "settings"], *(cells for _, cells in ranked)])


def duel_table(results: Results, name: str, settings: list[str]) -> str:
    """One contender against every other one, over the settings where both competed."""
    others = dict.fromkeys(other for setting in settings for other in results.names(setting) if other != name)
    rows = [[f"{name} against", "equal KL, %", "won / lost", "equal steps, %", "won / lost", "settings"]]
    for other in others:
        both = [setting for setting in settings if other in results.names(setting)]
        cells, count = [other], 0
        for criteria in (equal_kl, equal_steps):
            found = standing(results, name, other, both, criteria)
            if found is not None:
                cells += [interval_cell(found.percent, 0, 1, "+"), f"{found.wins} / {found.losses} of {found.compared}"]
                count = found.settings
        rows.append([*cells, str(count)])
    return aligned(rows)


def scores(results: Results, settings: list[str]) -> dict[str, tuple[float, float, float]]:
    """Score, difference to GRPO at equal KL and at equal steps, in percent; of those that competed everywhere."""
    everywhere = set.intersection(*(set(results.names(setting)) for setting in settings))
    found = {}
    for name in everywhere:
        both = [standing(results, name, GRPO, settings, criteria) for criteria in (equal_kl, equal_steps)]
        percents = [float(one.percent.mean[0]) for one in both if one is not None]
        found[name] = float(np.mean(percents)), percents[0], percents[1]
    return dict(sorted(found.items(), key=lambda item: -item[1][0]))


def choice_table(results: Results, settings: list[str]) -> str:
    """The scores as a table, the best first."""
    rows = [[name, *(f"{value:+.1f}" for value in row)] for name, row in scores(results, settings).items()]
    return aligned([["contender", "score, %", "equal KL - grpo, %", "equal steps - grpo, %"], *rows])


def setting_table(results: Results, settings: list[str], criterion: str, name: str) -> str:
    """Setting by setting: the base policy, GRPO, the best max_at_k and a contender, with its differences to both."""
    rows = [["setting", "cosine", "V_N base", "grpo", BEST_MAX, name, f"{name} - grpo", f"{name} - {BEST_MAX}"]]
    for setting in settings:
        if name not in results.names(setting) or criterion not in criteria_of(results.settings[setting]["world"]):
            continue
        peer = results.reference(setting, criterion, BEST_MAX)
        cosine = results.settings[setting]["cosine"]
        means = [results.values(setting, who, criterion).mean() for who in (BASE, GRPO, BEST_MAX, name)]
        values = [f"{mean:.3f}" for mean in means]
        values[2] += f" ({peer})"
        gaps = [_cell(results.against(setting, criterion, reference)[name]) for reference in (GRPO, BEST_MAX)]
        rows.append([setting, "" if cosine is None else f"{cosine:.2f}", *values, *gaps])
    return aligned(rows)


LEVELS: dict[str, dict[str, Callable[[dict[str, Any]], bool]]] = {
    "cosine of the mean's gradient with V_N's": {
        "below 0.6": lambda row: row["cosine"] is not None and row["cosine"] < 0.6,
        "0.6 to 0.85": lambda row: row["cosine"] is not None and 0.6 <= row["cosine"] < 0.85,
        "0.85 and more": lambda row: row["cosine"] is not None and row["cosine"] >= 0.85,
        "unknown (sequences)": lambda row: row["cosine"] is None,
    },
    "rollouts per step": {
        "128 to 256": lambda row: row["m"] * row["batch"] <= 256,
        "512": lambda row: row["m"] * row["batch"] == 512,
        "1,024 to 4,096": lambda row: row["m"] * row["batch"] >= 1024,
    },
    "m": {str(m): lambda row, m=m: row["m"] == m for m in (4, 8, 16, 32, 64)},
    "N / m": {
        "2 to 7": lambda row: row["deploy_n"] / row["m"] < 8,
        "8 to 15": lambda row: 8 <= row["deploy_n"] / row["m"] < 16,
        "16 and more": lambda row: row["deploy_n"] / row["m"] >= 16,
    },
    "scale differs between prompts": {
        "no": lambda row: row["scale_sd"] == 0,
        "by a factor of 1.6": lambda row: row["scale_sd"] == 0.5,
        "by a factor of 2.7": lambda row: row["scale_sd"] == 1,
    },
}
"""Groups of settings by what they have in common; every shape of the rewards is one more."""


def where_table(results: Results, settings: list[str], names: list[str], criteria: Callable[..., Iterable[str]]) -> str:
    """Differences to GRPO in groups of settings."""
    shapes = dict.fromkeys(results.settings[name]["shape"] for name in settings)
    levels = LEVELS | {"shape": {shape: lambda row, shape=shape: row["shape"] == shape for shape in shapes}}
    rows = [["", "", *names, "settings"]]
    for title, groups in levels.items():
        for label, belongs in groups.items():
            members = [name for name in settings if belongs(results.settings[name])]
            found = [standing(results, name, GRPO, members, criteria) for name in names]
            cells = ["" if one is None else f"{float(one.percent.mean[0]):+.1f}" for one in found]
            if members:
                rows.append([title, label, *cells, str(len(members))])
                title = ""
    return aligned(rows)


def _cell(ends: tuple[float, float, float]) -> str:
    mean, low, high = ends
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]" + (" *" if low > 0 or high < 0 else "")
