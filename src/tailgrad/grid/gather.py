"""From the results table to comparisons: which rows belong together, and their values as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from tailgrad.curves.compare import Comparison, compare_values
from tailgrad.grid.config import GridConfig
from tailgrad.grid.results import Row
from tailgrad.grid.trainings import BASE, Training, key_of, testing

MEASURES = ("kl", "response_length", "distinct", "cut_off", "unscored")


class Setting(NamedTuple):
    """What the methods of one comparison share."""

    policy: str
    reward: str
    prompts: str
    m: int
    deploy_n: int
    kl_weight: float | None  # None: chosen for each method
    scored_by: str

    @property
    def title(self) -> str:
        """A line for headings."""
        scored = "" if self.scored_by == self.reward else f", the best by it scored by {self.scored_by}"
        weight = "chosen" if self.kl_weight is None else f"{self.kl_weight:g}"
        return (
            f"{self.policy} policy, {self.prompts} prompts, {self.reward} reward{scored}: "
            f"m = {self.m}, N = {self.deploy_n}, KL weight {weight}"
        )


@dataclass(frozen=True, eq=False)
class Method:
    """One method in a setting, with the seeds that every method of it has finished.

    Attributes:
        training: The training of the first seed.
        steps: Measured steps, 0 (the starting policy) first and the last step last.
        rows: For each seed one row a measured step, all on the same prompts.
    """

    training: Training
    steps: tuple[int, ...]
    rows: tuple[tuple[Row, ...], ...]

    def v_n(self, step: int, budgets: Sequence[int]) -> Float[np.ndarray, "S P K"]:
        """V_N after a step at each budget; every row must have them."""
        of_step = [rows[self.steps.index(step)] for rows in self.rows]
        columns = [[row["budgets"].index(budget) for budget in budgets] for row in of_step]
        return np.stack([np.array(row["v_n"], float)[:, at] for row, at in zip(of_step, columns, strict=True)])

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of `rows`."""
        return tuple(rows[-1]["seed"] for rows in self.rows)

    def measure(self, step: int, name: str) -> Float[np.ndarray, "S P"]:
        """What stands beside V_N after a step."""
        return np.array([rows[self.steps.index(step)][name] for rows in self.rows], float)


def settings(config: GridConfig) -> list[Setting]:
    """Every comparison of the grid."""
    weights: tuple[float | None, ...] = (None,) if config.choose_beta else config.betas
    found = product(config.policies, config.rewards, config.prompts, config.m_and_n, weights)
    return [
        Setting(policy, reward, prompts, m, deploy_n, weight, scored_by)
        for policy, reward, prompts, (m, deploy_n), weight in found
        for scored_by in dict.fromkeys([reward, *config.also_score])
    ]


def methods_of(
    config: GridConfig, setting: Setting, chosen: Sequence[Training], rows: Mapping[str, Row]
) -> dict[str, Method]:
    """The methods of a setting of which the first seed is finished, and the starting policy.

    All come with the same seeds in one order, so that differences pair: those that every method has finished.

    Args:
        config: The grid.
        setting: The setting.
        chosen: The trainings to report, see `chosen_trainings`.
        rows: All results by their key.

    Returns:
        Methods by name, "base" first; empty where the starting policy is not measured.
    """
    base = Training(setting.policy, setting.reward, setting.prompts, BASE)
    start = _row(config, base, 0, setting, rows)
    if start is None:
        return {}
    paths: dict[Training, dict[int, tuple[Row, ...]]] = {}
    for training in chosen:
        if _belongs(training, setting) and (path := _path(config, training, setting, rows)):
            paths.setdefault(replace(training, seed=config.seeds[0]), {})[training.seed] = (start, *path)
    finished = {training: by_seed for training, by_seed in paths.items() if training.seed in by_seed}
    common = [seed for seed in config.seeds if all(seed in by_seed for by_seed in finished.values())]
    steps = (0, *_steps(config, setting))
    methods = {
        training.estimator: Method(training, steps, tuple(by_seed[seed] for seed in common))
        for training, by_seed in finished.items()
    }
    return {BASE: Method(base, (0,), ((start,),)), **methods}


def compare_methods(config: GridConfig, setting: Setting, methods: Mapping[str, Method]) -> Comparison:
    """The methods after their last step, with paired differences to the grid's reference."""
    picked = {} if setting.scored_by == setting.reward else {"selection_reward": setting.reward}
    last = {name: method.steps[-1] for name, method in methods.items()}
    budgets = shared_budgets(methods)
    return compare_values(
        {name: method.v_n(last[name], budgets) for name, method in methods.items()},
        {name: {key: method.measure(last[name], key) for key in MEASURES} for name, method in methods.items()},
        budgets=budgets,
        n=budgets[-1],
        reference=config.reference,
        sampling={"reward": setting.scored_by} | picked,
    )


def shared_budgets(methods: Mapping[str, Method], *, every_step: bool = False) -> tuple[int, ...]:
    """Values of N, in increasing order, that every method has after its last step, or after every step."""
    paths = [path if every_step else path[-1:] for method in methods.values() for path in method.rows]
    return tuple(sorted(set.intersection(*(set(row["budgets"]) for path in paths for row in path))))


def _belongs(training: Training, setting: Setting) -> bool:
    ours = (training.policy, training.reward, training.prompts, training.m)
    theirs = (setting.policy, setting.reward, setting.prompts, setting.m)
    of_weight = setting.kl_weight in (None, training.kl_weight)
    return ours == theirs and of_weight and training.deploy_n in (None, setting.deploy_n)


def _steps(config: GridConfig, setting: Setting) -> tuple[int, ...]:
    return (*config.checkpoints, config.steps) if setting.scored_by == setting.reward else (config.steps,)


def _path(config: GridConfig, training: Training, setting: Setting, rows: Mapping[str, Row]) -> tuple[Row, ...]:
    """Rows of the measured steps of one training; empty if one is missing."""
    found = [_row(config, training, step, setting, rows) for step in _steps(config, setting)]
    return tuple(row for row in found if row is not None) if None not in found else ()


def _row(config: GridConfig, training: Training, step: int, setting: Setting, rows: Mapping[str, Row]) -> Row | None:
    for measurement in testing(config, training):
        if measurement.step == step and measurement.scored_by == setting.scored_by:
            return rows.get(key_of(config, training, measurement))
    return None
