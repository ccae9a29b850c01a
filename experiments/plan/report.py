"""The tables of README.md and its figure: what the plan says against what the trainings showed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from followed import ROUNDS, end_table, followed, within_table
from jaxtyping import Float
from ranks import chance, correlation_interval, pairs_in_order
from values import TRAININGS, Trained

from tailgrad.display.cells import aligned, decimals_of, interval_cell
from tailgrad.display.style import COLOURS, drawing
from tailgrad.grid.choosing import chosen_trainings
from tailgrad.grid.frontier import KL_VALUES, best_within_kl, over_rates
from tailgrad.grid.gather import methods_of, settings
from tailgrad.grid.results import read_results
from tailgrad.grid.trainings import BASE
from tailgrad.statistics import paired_difference
from tailgrad.statistics.intervals import mean_interval

HERE = Path(__file__).parent
MARKERS: Final = "<!-- tables: written by run.py -->", "<!-- end of the tables -->"
REFERENCE: Final = "grpo"
LAST: Final = ("bon_rl", "prefix_tea")
"""Far behind all others on the verifier: the order of those is asked for too."""
WAYS: Final = {
    "value": ("assumed", "value"),
    "with the report": ("report", "value"),
    "16 steps": ("assumed", "of_16_steps"),
    "16 steps, with the report": ("report", "of_16_steps"),
    "direction": ("assumed", "direction"),
}
"""Numbers of the plan that estimators can be put in order by: its plan and column in values.csv."""
PANELS: Final = (
    *("quickstart, all estimators", "verifier, all estimators"),
    *("verifier, scaled by group", "reward model", "larger model's score", "heavy tail", "light tail"),
)
"""Of the figure: one set of trainings, or all on one reward; two wide ones above."""
SHORT: Final = {"max_at_k:": "", ":risk_beta=1": "", "flat_tea:": "flat ", "tail_fraction=": "", "extrapolate_n": "K"}
"""Words of an estimator's name, and what stands for them in the figure."""

Values = dict[str, dict[str, dict[str, str]]]
"""Rows of values.csv by plan and estimator."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What trainings on one reward showed, and what the plan had said.

    Attributes:
        of: The trainings.
        names: Their estimators.
        gains: V_N over that of the starting policy, after the last step on the test prompts.
        nats: The KL divergence at which `within` is.
        within: V_N of the best policy within it, on the choosing prompts.
        values: What the plan says.
    """

    of: Trained
    names: list[str]
    gains: Float[np.ndarray, "E S P"]
    nats: float
    within: Float[np.ndarray, "E 1 P"]
    values: Values

    def said(self, plan: str, column: str) -> Float[np.ndarray, " E"]:
        """A column of the plan's numbers, in the order of `names`."""
        return np.array([float(self.values[plan][name][column]) for name in self.names])

    def without(self, left_out: Sequence[str]) -> "Outcome":
        """The same of fewer estimators."""
        kept = [place for place, name in enumerate(self.names) if name not in left_out]
        return replace(self, names=[self.names[place] for place in kept], gains=self.gains[kept])


def outcome(of: Trained, values: Values) -> Outcome | None:
    """Read what the trainings showed; None until all estimators are finished."""
    config, ((_, deploy_n),) = of.config, of.config.m_and_n
    rows = read_results(config.results)
    found = {row["key"]: row for row in rows}
    (setting,) = (one for one in settings(config) if one.reward == one.scored_by == of.reward)
    methods = methods_of(config, setting, chosen_trainings(config, rows), found)
    if set(methods) != {BASE, *config.estimators}:
        return None
    names = list(config.estimators)
    start = methods[BASE].v_n(0, [deploy_n])
    gains = np.stack([methods[name].v_n(config.steps, [deploy_n]) - start for name in names])[..., 0]
    points, _ = over_rates(config, methods, found, deploy_n)
    nearest = max(kl.min() for kl, _ in points.values())
    nats = next(kl for kl in KL_VALUES if kl >= nearest)
    within = np.stack([best_within_kl(*points[name], nats) for name in names])
    return Outcome(of, names, gains, nats, within, values)


def outcomes(rows: Sequence[dict[str, str]]) -> list[Outcome]:
    """Every set of trainings that is finished and that the plan has scored."""
    found = []
    for of in TRAININGS:
        values: Values = {}
        for row in rows:
            if row["trainings"] == of.name:
                values.setdefault(row["plan"], {})[row["estimator"]] = row
        if values and (one := outcome(of, values)):
            found.append(one)
    return found


def write_report(rows: Sequence[dict[str, str]]) -> None:
    """Write the tables between the page's markers, and draw the figure."""
    found = outcomes(rows)
    page = HERE / "README.md"
    text = page.read_text(encoding="utf-8")
    before, after = text.split(MARKERS[0])[0], text.split(MARKERS[1])[1]
    page.write_text(before + "\n\n".join([MARKERS[0], tables(found), MARKERS[1]]) + after, encoding="utf-8")
    draw(found)


def tables(found: Sequence[Outcome]) -> str:
    """All tables."""
    parts = [
        order_table(found),
        "Where a fidelity report changes the choice:",
        choice_table(found),
        "Pairs in order, by other numbers of the plan:",
        pairs_table(found),
    ]
    rounds = [one for one in map(followed, ROUNDS) if one]
    if rounds:
        parts += ["The trainings that follow the plan, at the end:", end_table(rounds)]
    if any(one.within for one in rounds):
        parts += ["Within the same KL divergence, along training:", within_table(rounds)]
    return "\n\n".join(parts)


def order_table(found: Sequence[Outcome]) -> str:
    """Rank correlation of value and gain per set of trainings, and what the choice gained against the best."""
    heading = ["trainings", "estimators, seeds", "rank correlation", "p", "pairs", "the plan takes", "most gained"]
    lines = [[*heading, "the choice less that"]]
    parts = [part for one in found for part in (one, *([one.without(LAST)] if set(LAST) < set(one.names) else []))]
    for one in parts:
        said = one.said("assumed", "value")
        size = f"{len(one.names)}, {one.gains.shape[1]}"
        by_chance = f"{chance(said, one.gains.mean(axis=(1, 2))):.2g}"
        name = _name(one) + (", without the last two" if one not in found else "")
        pairs = _of(*pairs_in_order(said, one.gains))
        lines.append([name, size, _correlation(said, one.gains), by_chance, pairs, *_against_best(one, "assumed")])
    return aligned(lines)


def choice_table(found: Sequence[Outcome]) -> str:
    """Where a report changes the choice: how much that gained."""
    lines = [["trainings", "the plan takes", "most gained", "the choice less that", "less GRPO"]]
    for one in (one for one in found if "report" in one.values):
        chosen = int(one.said("report", "chosen").argmax())
        if not one.said("assumed", "chosen")[chosen]:
            to_reference = _difference(one, chosen, one.names.index(REFERENCE))
            lines.append([_name(one), *_against_best(one, "report"), to_reference])
    return aligned(lines)


def _against_best(one: Outcome, plan: str) -> list[str]:
    """What a plan chose, what gained most, and the difference."""
    chosen, best = int(one.said(plan, "chosen").argmax()), int(one.gains.mean(axis=(1, 2)).argmax())
    return [f"`{one.names[chosen]}`", f"`{one.names[best]}`", "" if chosen == best else _difference(one, chosen, best)]


def _difference(one: Outcome, chosen: int, other: int) -> str:
    gap = paired_difference(one.gains[chosen][..., None], one.gains[other][..., None])
    return interval_cell(gap, 0, min(decimals_of([gap]), 3), "+")


def pairs_table(found: Sequence[Outcome]) -> str:
    """Pairs in order by other numbers of the plan, and by what was reached at equal KL, per reward and in all."""
    near = list(WAYS)[:2]
    counts: dict[str, np.ndarray] = {}
    for one in found:
        own = [_pairs(one, *way, one.gains) for way in WAYS.values()]
        own += [_pairs(one, *WAYS[way], one.within) for way in near]
        for name in (one.of.reward_name, "all"):
            counts[name] = counts.get(name, 0) + np.array(own)
    heading = ["reward", *WAYS, *(f"{way}, equal KL" for way in near)]
    rows = [[name, *(_of(*pair) if pair[1] else "none" for pair in of.tolist())] for name, of in counts.items()]
    return aligned([heading, *sorted(rows, key=lambda row: row[0] == "all")])


def _pairs(one: Outcome, plan: str, column: str, came: np.ndarray) -> tuple[int, int]:
    return pairs_in_order(one.said(plan, column), came) if plan in one.values else (0, 0)


def _of(right: int, clear: int) -> str:
    return f"{right} of {clear}"


def _name(one: Outcome) -> str:
    """Such as: verifier, 8, batch."""
    return f"{one.of.name.split(',')[0]}, {one.of.config.prompts_per_step}, {one.of.scaling}"


def _correlation(said: np.ndarray, came: np.ndarray) -> str:
    rho, low, high = correlation_interval(said, came)
    return f"{rho:+.2f} [{low:+.2f}, {high:+.2f}]"


def draw(found: Sequence[Outcome]) -> None:
    """Gain against value, one panel per reward, of steps of eight prompts."""
    shown = [one for one in found if one.of.config.prompts_per_step == 8]
    with drawing(HERE / "results" / "gain", (12.0, 7.0)) as (figure, _):
        wide, narrow = PANELS[:2], PANELS[2:]
        panels = figure.subplot_mosaic([[one for one in wide for _ in narrow], [one for one in narrow for _ in wide]])
        for title, panel in panels.items():
            points = [point for one in shown if title in (one.of.name, one.of.reward_name) for point in _points(one)]
            many = len(points) > 8
            for place, (value, gain, name, colour) in enumerate(sorted(points)):
                panel.errorbar(value, gain[0], gain[1], fmt="o", ms=4, color=colour, elinewidth=0.8, alpha=0.85)
                above = place % 2 == 0
                style = {"va": "bottom" if above else "top", "ha": "center", "color": colour}
                style |= {"xytext": (0, 3 if above else -3), "fontsize": 7 if many else 8, "rotation": 90 * many}
                end = gain[0] + (gain[1][1][0] if above else -gain[1][0][0])
                panel.annotate(name, (value, end), textcoords="offset points", **style)
            panel.set_title(title)
            panel.margins(*(0.05, 0.5) if many else (0.2, 0.2))
        figure.supxlabel("the plan's value of a step")
        figure.supylabel("gain of $V_{128}$ over the starting policy")
        handles = [panel.plot([], [], "o", color=colour)[0] for colour in COLOURS[:2]]
        labels = ["advantages scaled over the batch", "scaled by group"]
        figure.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False)
    (HERE / "results" / "gain.svg").unlink()


def _points(one: Outcome) -> list[tuple[float, tuple[float, list[list[float]]], str, str]]:
    """Value, gain with what an error bar is drawn from, short name and colour of each estimator."""
    gain, value = mean_interval(np.moveaxis(one.gains, 0, 2)), one.said("assumed", "value")
    names = [name.split(",")[0] for name in one.names]
    for long, short in SHORT.items():
        names = [name.replace(long, short) for name in names]
    bars = [
        (mean, [[mean - low], [high - mean]]) for mean, low, high in zip(gain.mean, gain.low, gain.high, strict=True)
    ]
    colour = COLOURS[0 if one.of.scaling == "batch" else 1]
    return list(zip(value.tolist(), bars, names, [colour] * len(names), strict=True))
