"""What a grid of trainings compares, read from a YAML file."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from tailgrad.estimators import accepted_options, bind, parse_estimator

SPLITS: Final = ("train", "choose", "test")
_NEEDED_MAPPINGS: Final = ("policies", "rewards", "prompts")
_NEEDED_LISTS: Final = ("estimators", "budgets", "learning_rates", "kl_weights", "seeds")
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
        learning_rates: Tried with the first seed by every method, judged by V_N on `choose`; see `smallest_good`.
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
        also_score: Rewards that score the response which the one trained on picks out of N: names of `rewards`, or a
            mapping from names to further rewards, which nothing is trained on.
        reference: The method that the others are compared with.
        processes: Commands at once; None is one a core, or one where there is a GPU.
        folder: What relative paths of policies, rewards and prompts start from, and where the commands run.

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
    also_score: tuple[str, ...] | dict[str, str] = ()
    reference: str = "grpo"
    processes: int | None = None
    folder: Path = Path()

    def __post_init__(self) -> None:
        _check_kinds(self)
        _check_numbers(self)
        for name, files in self.prompts.items():
            if not isinstance(files, Mapping) or set(files) != set(SPLITS):
                parts = ", ".join(files) if isinstance(files, Mapping) else repr(files)
                raise ValueError(f"prompts {name!r} has the parts {parts}; it needs {', '.join(SPLITS)}.")
            if files["choose"] == files["test"]:
                raise ValueError(f"prompts {name!r} chooses on its test prompts: name others for `choose`.")
        for name in sorted({*self.train, *self.sample} & {*_SET_BY_THE_GRID}):
            raise ValueError(f"the grid sets {name} itself: leave it out of `train` and `sample`.")
        _check_estimators(self)
        _check_judges(self)

    @property
    def steps(self) -> int:
        """Optimisation steps of a training."""
        return int(self.train["max_steps"])

    @property
    def every_reward(self) -> dict[str, str]:
        """The rewards that are trained on and those that only score, by name."""
        return self.rewards | (self.also_score if isinstance(self.also_score, dict) else {})

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


def read_grid(path: str | Path, **changes: Any) -> GridConfig:
    """Read a grid from a YAML file.

    Args:
        path: The file; its keys are the attributes of `GridConfig`.
        **changes: Attributes in the place of the file's; one that is None leaves the file's.

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
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"grid {str(path)!r} is not YAML: {error}") from error
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
    values |= {name: folder / str(values[name]) for name in ("results", "work")}
    for name in ("learning_rates", "kl_weights"):  # YAML reads 1e-3 as text
        if isinstance(values.get(name), tuple):
            values[name] = tuple(_number(value) for value in values[name])
    values |= {name: value for name, value in changes.items() if value is not None}
    return GridConfig(**values, folder=folder)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def _number(value: Any) -> Any:
    """A text that is a number as that number; anything else as it is, for the checks to name."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def _check_kinds(config: GridConfig) -> None:
    """Refuse what is no list or mapping where one is needed, what is empty and what is given twice."""
    for name in (*_NEEDED_MAPPINGS, "train", "sample"):
        if not isinstance(getattr(config, name), Mapping):
            raise ValueError(f"{name} is {getattr(config, name)!r}; it must be a mapping, such as {{name: value}}.")
    judges = () if isinstance(config.also_score, Mapping) else ("also_score",)
    for name in (*_NEEDED_LISTS, "checkpoints", *judges):
        values = getattr(config, name)
        if not isinstance(values, list | tuple):
            raise ValueError(f"{name} is {values!r}; it must be a list, such as [{values}].")
        twice = [value for place, value in enumerate(values) if value in values[:place]]
        if twice:
            raise ValueError(f"{name} has {twice[0]!r} twice.")
    for name in (*_NEEDED_MAPPINGS, *_NEEDED_LISTS):
        if not getattr(config, name):
            raise ValueError(f"{name} is empty: name at least one.")


def _check_numbers(config: GridConfig) -> None:
    """Refuse numbers that are none or out of range."""
    if "max_steps" not in config.train:
        raise ValueError("train has no max_steps: say how many optimisation steps a training takes.")
    _check_whole("max_steps of train", config.train["max_steps"])
    for name in ("prompts_a_step", "test_n", "checkpoint_n", "choose_n"):
        _check_whole(name, getattr(config, name))
    for name in ("test_prompts", "processes"):
        if getattr(config, name) is not None:
            _check_whole(name, getattr(config, name))
    for seed in config.seeds:
        _check_whole("a seed", seed, least=0)
    for pair in config.budgets:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ValueError(f"budgets has {pair!r}; write pairs [m, N], such as [[16, 128]].")
        _check_whole("m", pair[0], least=2)
        _check_whole("N", pair[1])
    for name, above in (("learning_rates", True), ("kl_weights", False)):
        for value in getattr(config, name):
            if not isinstance(value, int | float) or not math.isfinite(value) or value < 0 or (above and value == 0):
                raise ValueError(f"{name} has {value!r}; each must be a number {'above' if above else 'from'} 0.")
    for step in config.checkpoints:
        _check_whole("a checkpoint", step)
        if step >= config.steps:
            raise ValueError(f"checkpoint {step} does not lie between 0 and max_steps = {config.steps}.")
    if list(config.checkpoints) != sorted(config.checkpoints):
        raise ValueError(f"checkpoints are {list(config.checkpoints)}: give them in increasing order.")


def _check_whole(name: str, value: Any, *, least: int = 1) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} is {value!r}; it must be a whole number, at least {least}.")


def _check_judges(config: GridConfig) -> None:
    """Refuse names in `also_score` that no reward has, and a name for two rewards."""
    for name in config.also_score:
        if isinstance(config.also_score, Mapping):
            if name in config.rewards:
                raise ValueError(f"also_score gives {name!r} a reward, and so does rewards: name it otherwise.")
        elif name not in config.rewards:
            raise ValueError(f"also_score names {name!r}, which is not among the rewards {', '.join(config.rewards)}.")


def _check_estimators(config: GridConfig) -> None:
    """Try every estimator on groups of every size, as `tailgrad train` does before it loads a model."""
    import torch

    for spec in config.estimators:
        name, options = parse_estimator(spec)
        if "deploy_n" in options:
            raise ValueError(f"estimator {spec!r} sets deploy_n: say it in `budgets`, as [m, N].")
        accepted = accepted_options(name)
        given = {option: value for option, value in config.train.items() if option in accepted} | options
        for m, deploy_n in config.budgets:
            known = {"deploy_n": deploy_n} if "deploy_n" in accepted else {}
            try:
                bind(name, **given, **known)(torch.zeros(1, m))
            except ValueError as error:
                raise ValueError(f"estimator {spec!r} with [m, N] = [{m}, {deploy_n}]: {error}") from error
    if config.reference not in config.estimators:
        raise ValueError(f"reference {config.reference!r} is not among the estimators {', '.join(config.estimators)}.")
