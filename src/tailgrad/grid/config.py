"""What a grid of trainings compares, read from a YAML file."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from tailgrad.estimators import parse_estimator

SPLITS: Final = ("train", "choose", "test")
_SET_BY_THE_GRID: Final = (
    *("model_name_or_path", "dataset_name", "reward_funcs", "reward_model_name_or_path", "output_dir", "estimator"),
    *("deploy_n", "num_generations", "beta", "learning_rate", "seed", "per_device_train_batch_size", "logging_steps"),
    *("save_steps", "save_strategy", "save_total_limit", "resume_from_checkpoint", "report_to", "disable_tqdm"),
    *("model", "dataset", "reward", "reference_model", "n", "limit", "out"),
)


@dataclass(frozen=True)
class GridConfig:
    """Every combination of these is trained and measured; paths are relative to the folder of the YAML file.

    Attributes:
        results: The results table (Parquet): one row a measurement; the grid goes on from it.
        work: Folder for models, rollout tables and logs, which may be deleted when the grid is done.
        policies: Folder or hub name of each starting policy, by the name used in tables.
        rewards: `package.module.function`, or folder or hub name of a reward model, by name.
        prompts: For each prompt set by name the data of `train`, `choose` (to choose learning rates) and `test`.
        estimators: Estimators with their options, such as `tea` or `max_at_k:k=4`.
        budgets: Pairs [m, N]: rollouts a prompt in training, responses a prompt at deployment.
        learning_rates: Tried with the first seed by every method; the one with the best V_N on `choose` is taken.
        kl_weights: `beta` of the trainings.
        seeds: Training seeds.
        prompts_a_step: Prompts of an optimisation step.
        train: Further options of `tailgrad train`; `max_steps` is required.
        sample: Further options of `tailgrad sample`.
        checkpoints: Steps before the last that are measured too, for the frontier of V_N against KL.
        test_n: Responses a prompt of the test split after the last step.
        checkpoint_n: The same at `checkpoints`.
        choose_n: Responses a prompt of the choosing split.
        test_prompts: Only so many prompts of the test split; None is all.
        also_score: Rewards, by name, that the trained policies are measured with beside the one trained on.
        reference: The method that the others are compared with.
        processes: Commands at once; None is one a core, or one where there is a GPU.

    Raises:
        ValueError: A value out of range, an unknown name, or an option that the grid sets itself.
    """

    results: Path
    work: Path
    policies: dict[str, str]
    rewards: dict[str, str]
    prompts: dict[str, dict[str, str]]
    estimators: tuple[str, ...]
    budgets: tuple[tuple[int, int], ...]
    learning_rates: tuple[float, ...]
    train: dict[str, Any]
    kl_weights: tuple[float, ...] = (0.0,)
    seeds: tuple[int, ...] = (0, 1, 2)
    prompts_a_step: int = 8
    sample: dict[str, Any] = field(default_factory=dict)
    checkpoints: tuple[int, ...] = ()
    test_n: int = 512
    checkpoint_n: int = 128
    choose_n: int = 128
    test_prompts: int | None = None
    also_score: tuple[str, ...] = ()
    reference: str = "grpo"
    processes: int | None = None
    folder: Path = Path()

    def __post_init__(self) -> None:
        for name in (
            "policies",
            "rewards",
            "prompts",
            "estimators",
            "budgets",
            "learning_rates",
            "kl_weights",
            "seeds",
        ):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty: name at least one.")
        for spec in self.estimators:
            if "deploy_n" in parse_estimator(spec)[1]:
                raise ValueError(f"estimator {spec!r} sets deploy_n: say it in `budgets`, as [m, N].")
        if self.reference not in self.estimators:
            raise ValueError(f"reference {self.reference!r} is not among the estimators {', '.join(self.estimators)}.")
        for name, files in self.prompts.items():
            if set(files) != set(SPLITS):
                raise ValueError(f"prompts {name!r} has the parts {', '.join(files)}; it needs {', '.join(SPLITS)}.")
        for name in sorted({*self.train, *self.sample} & {*_SET_BY_THE_GRID}):
            raise ValueError(f"the grid sets {name} itself: leave it out of `train` and `sample`.")
        if "max_steps" not in self.train:
            raise ValueError("train has no max_steps: say how many optimisation steps a training takes.")
        for step in self.checkpoints:
            if not 0 < step < self.steps:
                raise ValueError(f"checkpoint {step} does not lie between 0 and max_steps = {self.steps}.")
        for name in self.also_score:
            if name not in self.rewards:
                raise ValueError(
                    f"also_score names {name!r}, which is not among the rewards {', '.join(self.rewards)}."
                )

    @property
    def steps(self) -> int:
        """Optimisation steps of a training."""
        return int(self.train["max_steps"])

    @property
    def save_steps(self) -> int:
        """How often a training is saved, so that every measured step is."""
        return math.gcd(self.steps, *self.checkpoints)

    @property
    def num_processes(self) -> int:
        """Commands at once."""
        if self.processes is not None:
            return self.processes
        import torch

        return 1 if torch.cuda.is_available() else os.cpu_count() or 1

    def locate(self, name: str) -> str:
        """A path of the YAML file as it is from here; a name that is no path there is left as it is."""
        inside = self.folder / name
        return str(inside.resolve()) if inside.exists() else name


def read_grid(path: str | Path, *, processes: int | None = None) -> GridConfig:
    """Read a grid from a YAML file.

    Args:
        path: The file; its keys are the attributes of `GridConfig`.
        processes: Commands at once, in the place of the file's.

    Returns:
        The grid.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a mapping, lacks a key, has an unknown one, or a value out of range.
    """
    import yaml

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"grid {str(path)!r}: there is no such file.")
    given = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(given, Mapping):
        raise ValueError(f"grid {str(path)!r} is not a mapping of keys to values.")
    known = {entry.name: entry for entry in fields(GridConfig) if entry.name != "folder"}
    for name in given:
        if name not in known:
            raise ValueError(f"grid {str(path)!r} has the unknown key {name!r}; known are {', '.join(known)}.")
    for name, entry in known.items():
        if entry.default is MISSING and entry.default_factory is MISSING and name not in given:
            raise ValueError(f"grid {str(path)!r} lacks the key {name!r}.")
    values = {name: _frozen(value) for name, value in given.items()}
    folder = path.parent
    values |= {name: folder / values[name] for name in ("results", "work")}
    for name in ("learning_rates", "kl_weights"):  # YAML reads 1e-3 as text
        if name in values:
            values[name] = tuple(float(value) for value in values[name])
    if processes is not None:
        values["processes"] = processes
    return GridConfig(**values, folder=folder)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
