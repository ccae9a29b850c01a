"""A small grid, and results of one that no training was needed for."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tailgrad.grid.config import GridConfig, read_grid
from tailgrad.grid.results import Row
from tailgrad.grid.trainings import Measurement, Training, key_of

WriteGrid = Callable[..., Path]
MakeGrid = Callable[..., GridConfig]
MakeRow = Callable[..., Row]


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
            "budgets": [[8, 16]],
            "learning_rates": [0.003, 0.03],
            "seeds": [0, 1],
            "prompts_a_step": 2,
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
            "machine": "",
            "versions": "{}",
            "finished_at": "",
        }

    return make
