"""A small grid, and results of one that no training was needed for."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tailgrad.curves import budgets_up_to
from tailgrad.grid.choosing import chosen_trainings
from tailgrad.grid.config import GridConfig
from tailgrad.grid.reading import read_grid
from tailgrad.grid.results import Row
from tailgrad.grid.trainings import Measurement, Training, bases, choosing, key_of, trials
from tailgrad.grid.trainings import testing as measurements_of
from tailgrad.quickstart.task import build_prompts

WriteGrid = Callable[..., Path]
MakeGrid = Callable[..., GridConfig]
MakeRow = Callable[..., Row]

TRAIN = {
    "max_steps": 2,
    "max_completion_length": 6,
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "lr_scheduler_type": "constant",
}
"""Options of a training that takes a second."""


@pytest.fixture(scope="session")
def write_grid() -> WriteGrid:
    """Write the YAML of a small grid into a folder, with changes; a key that is None is left out."""

    def write(folder: Path, **changes: Any) -> Path:
        values = {
            "results": "results.parquet",
            "work": "work",
            "policies": {"tiny": "policy"},
            "rewards": {"verifier": "tailgrad.quickstart.task.verifier"},
            "prompts": {"tasks": {"train": "train.jsonl", "choose": "choose.jsonl", "test": "test.jsonl"}},
            "estimators": ["grpo", "tea"],
            "m_and_n": [[8, 16]],
            "learning_rates": [0.003, 0.03],
            "seeds": [0, 1],
            "prompts_per_step": 2,
            "train": {"max_steps": 2},
            "checkpoints": [1],
            "test_n": 16,
            "checkpoint_n": 8,
            "choose_n": 8,
            "processes": 1,
        } | changes
        path = folder / "grid.yaml"
        path.write_text(yaml.safe_dump({name: value for name, value in values.items() if value is not None}))
        return path

    return write


@pytest.fixture
def make_grid(write_grid: WriteGrid, tmp_path: Path) -> MakeGrid:
    """The small grid, with changes."""
    return lambda **changes: read_grid(write_grid(tmp_path, **changes))


@pytest.fixture(scope="session")
def new_grid(write_grid, policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], GridConfig]:
    """Make grids that can be run: a policy and prompts beside the YAML."""

    def make() -> GridConfig:
        folder = tmp_path_factory.mktemp("grid")
        shutil.copytree(policy, folder / "policy")
        splits = {"train": ("train", 8), "choose": ("validation", 3), "test": ("test", 5)}
        for name, (split, count) in splits.items():
            rows = build_prompts(split)[:count]
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return read_grid(
            write_grid(
                folder, train=TRAIN, sample={"max_completion_length": 6}, test_limit=4, per_device_train_batch_size=4
            )
        )

    return make


@pytest.fixture
def make_row() -> MakeRow:
    """A row of the results table with given V_N `[P, K]` at budgets and given KL `[P]`."""

    def make(
        config: GridConfig,
        training: Training,
        measurement: Measurement,
        v_n: Any,
        *,
        budgets: tuple[int, ...],
        kl: Any = 0.0,
    ) -> Row:
        values = np.asarray(v_n, float)
        prompts = len(values)
        measures = {name: [0.0] * prompts for name in ("response_length", "distinct", "cut_off", "unscored")}
        return {
            "key": key_of(config, training, measurement),
            **asdict(training),
            **asdict(measurement),
            "prompt_ids": list(range(prompts)),
            "budgets": list(budgets),
            "v_n": values.tolist(),
            "kl": np.broadcast_to(kl, prompts).tolist(),
            **measures,
            "train_seconds": 120.0,
            "sample_seconds": 1.0,
            "policy_sha256": None,
            "prompts_sha256": None,
            "reward_sha256": None,
            "train_sha256": None,
            "machine": "",
            "versions": "{}",
            "finished_at": "",
        }

    return make


@pytest.fixture
def fill(make_row: MakeRow) -> Callable[..., list[Row]]:
    """Rows of a whole grid: choosing rows that prefer the smallest rate, and V_N and KL from functions.

    `value(training, step, scored_by)` gives V_N `[P, K]`, of which as many columns are taken as
    there are budgets, and `kl(training, step)` the KL.
    """

    def make(
        config: GridConfig, value: Callable[..., Any], kl: Callable[..., Any] = lambda training, step: 0.0
    ) -> list[Row]:
        rows = []
        for training in trials(config):
            for one in choosing(config, training):
                budgets = budgets_up_to(one.n)
                level = [[-training.learning_rate] * len(budgets)] * 2
                rows.append(make_row(config, training, one, level, budgets=budgets))
        for training in [*bases(config), *chosen_trainings(config, rows)]:
            for one in measurements_of(config, training):
                budgets = budgets_up_to(one.n)
                v_n = np.asarray(value(training, one.step, one.scored_by), float)[:, : len(budgets)]
                rows.append(make_row(config, training, one, v_n, budgets=budgets, kl=kl(training, one.step)))
        return rows

    return make
