"""Prompts, and the options that every trainer test shares."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from tailgrad.quickstart.task import build_prompts


@pytest.fixture(scope="session")
def prompts() -> Dataset:
    return Dataset.from_list(build_prompts("train")[:24])


@pytest.fixture
def options(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Options that `GRPOConfig` and `TailGRPOConfig` share, for two groups of eight rollouts per step."""

    def make(**changes: Any) -> dict[str, Any]:
        common = {
            "output_dir": str(tmp_path / "out"),
            "per_device_train_batch_size": 16,
            "num_generations": 8,
            "max_completion_length": 6,
            "max_steps": 2,
            "learning_rate": 1e-2,
            "beta": 0.05,
            "seed": 3,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "use_cpu": True,
            "bf16": False,
            "gradient_checkpointing": False,
            "disable_tqdm": True,
        }
        return common | changes

    return make
