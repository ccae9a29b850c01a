"""What the plan says of the estimators that were trained, and of those trainings."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from tailgrad.grid import GridConfig, read_grid
from tailgrad.planning.choice import choose
from tailgrad.planning.pool import usable_pool
from tailgrad.planning.replay import replay
from tailgrad.planning.scoring import COMMITTED, PolicyTraits, measures
from tailgrad.rollouts import read_rollouts
from tailgrad.statistics.jackknife import jackknife_interval

HERE = Path(__file__).parent
EXPERIMENTS = HERE.parent
VALUES = HERE / "results" / "values.csv"
COLUMNS: Final = ("value", "low", "high", "of_16_steps", "direction")
STEPS: Final = 16
"""Of how many steps together the noise is that `of_16_steps` has."""
CENTRE: Final = 5.0
"""Of the bent verifiers, as in ../small-instruct/tail_shapes.py."""


@dataclass(frozen=True)
class Trained:
    """Trainings on one reward.

    Attributes:
        name: How tables call them.
        path: Their grid, from the folder of the experiments.
        reward: The reward's name in the grid.
        table: Which table of rewards of the starting policy belongs to it, as `--tables` names it.
        bend: 1 for the heavy and -1 for the light form of the verifier in `table`; 0 as it is.
    """

    name: str
    path: str
    reward: str
    table: str
    bend: int = 0

    @property
    def config(self) -> GridConfig:
        """Their grid."""
        return read_grid(EXPERIMENTS / self.path)

    @property
    def reward_name(self) -> str:
        """The first part of the name."""
        return self.name.split(",")[0]

    @property
    def scaling(self) -> str:
        """How their advantages are scaled."""
        return str(self.config.train["advantage_scaling"])

    def scored_as(self, estimator: str) -> str:
        """An estimator as it was when these were trained: the baseline of `max_at_k` was another by default."""
        old = estimator.startswith("max_at_k") and "tier" in self.path
        return f"{estimator},baseline=subset" if old else estimator


TRAININGS: Final = (
    Trained("quickstart", "quickstart/grid.yaml", "verifier", "quickstart"),
    Trained("quickstart, all estimators", "quickstart/grid-twelve.yaml", "verifier", "quickstart"),
    Trained("verifier, all estimators", "small-instruct/tier3-peers.yaml", "constraints", "verifier"),
    Trained("verifier, scaled by group", "small-instruct/flat-constraints.yaml", "constraints", "verifier"),
    Trained("verifier, small steps", "small-instruct/tier2-small-batch.yaml", "constraints", "verifier"),
    Trained("verifier, large steps", "small-instruct/tier2-large-batch.yaml", "constraints", "verifier"),
    Trained("heavy tail", "small-instruct/tier2-tail-shapes.yaml", "heavy", "verifier", 1),
    Trained("light tail", "small-instruct/tier2-tail-shapes.yaml", "light", "verifier", -1),
    Trained("reward model", "small-instruct/tier2-reward-model.yaml", "reward-model", "reward-model"),
    Trained("reward model, scaled by group", "small-instruct/flat-reward-model.yaml", "reward-model", "reward-model"),
    Trained("larger model's score", "small-instruct/tier3-lm-score.yaml", "lm-score", "lm-score"),
    Trained("larger model's score, scaled by group", "small-instruct/flat-lm-score.yaml", "lm-score", "lm-score"),
)
MEASURED: Final = {
    "quickstart": PolicyTraits(726.0, 0.06, "report"),
    "verifier": PolicyTraits(883.0, 0.0, "report"),
    "reward-model": PolicyTraits(496.0, 0.64, "report"),
    "lm-score": PolicyTraits(497.0, 0.48, "report"),
}
"""What the fidelity reports of the starting policies say, from docs/plan.md."""


def make_values(tables: Mapping[str, str]) -> list[dict[str, Any]]:
    """Score the estimators of every grid whose table is given, at its m, prompts per step and scaling."""
    return [row for of in TRAININGS if of.table in tables for row in _values(of, tables[of.table])]


def _values(of: Trained, table: str) -> list[dict[str, Any]]:
    config = of.config
    ((m, wanted),) = config.m_and_n
    rewards = bent(read_rollouts(table).rewards, of.bend)
    deploy_n = min(wanted, rewards.shape[1] // 2)
    pool, _ = usable_pool(rewards, deploy_n)
    groups = [(of.scored_as(name), m) for name in config.estimators]
    replayed = replay(pool, groups, deploy_n=deploy_n, scaling=of.scaling)
    per_step = np.full(len(groups), config.prompts_per_step)
    found = []
    for plan, traits in [("assumed", COMMITTED), *([] if of.bend else [("report", MEASURED[of.table])])]:
        direction, _, value = measures(replayed, traits, per_step)
        choice = choose(groups, value)
        together = measures(replayed, traits, STEPS * per_step).value[:, 0]
        interval = jackknife_interval(value[:, 0], value[:, 1:].T)
        for place, name in enumerate(config.estimators):
            numbers = (*(part[place] for part in interval[:3]), together[place], direction[place, 0])
            shown = dict(zip(COLUMNS, (f"{one:.4f}" for one in numbers), strict=True))
            setting = {"trainings": of.name, "plan": plan, "N": deploy_n, "m": m}
            setting |= {"prompts_per_step": config.prompts_per_step, "scaling": of.scaling, "estimator": name}
            found.append(setting | shown | {"chosen": int(place == choice.chosen)})
    return found


def bent(rewards: np.ndarray, bend: int) -> np.ndarray:
    """The verifier's score with a heavy (1) or a light (-1) upper tail; as it is with 0."""
    return rewards if bend == 0 else bend * np.exp(bend * (rewards - CENTRE))


def write_values(rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows."""
    VALUES.parent.mkdir(exist_ok=True)
    with VALUES.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_values() -> list[dict[str, str]]:
    """Read the rows."""
    with VALUES.open() as file:
        return list(csv.DictReader(file))
