"""What must agree in a grid: its values are looked at together when the file is read, each alone by `GridConfig`."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

import torch

from tailgrad.estimators import belongs_to_estimators, bind, parse_estimator, with_budget
from tailgrad.option_names import OF_OLD, hint_for
from tailgrad.rollouts.config import SampleConfig

if TYPE_CHECKING:
    from tailgrad.grid.config import GridConfig

SPLITS: Final = ("train", "choose", "test")
_BATCH_OPTIONS: Final = ("gradient_accumulation_steps", "generation_batch_size", "auto_find_batch_size")
_SET_BY_THE_GRID: Final = (
    *("model_name_or_path", "dataset_name", "reward_funcs", "reward_model_name_or_path", "output_dir", "estimator"),
    *("deploy_n", "num_generations", "beta", "learning_rate", "seed", "per_device_train_batch_size", "logging_steps"),
    *("save_steps", "save_strategy", "save_total_limit", "save_at_steps", "save_only_model", "config"),
    *("resume_from_checkpoint", "report_to", "disable_tqdm", "logging_strategy"),
    *("reference_model", "n", "limit", "out"),
)


def check_grid(config: GridConfig) -> None:
    """Refuse a grid with values that do not belong together.

    Args:
        config: The grid.

    Raises:
        ValueError: The message names the key.
    """
    _check_prompts(config)
    _check_options(config)
    _check_steps(config)
    _check_division(config)
    _check_checkpoints(config)
    _check_estimators(config)
    _check_judges(config)


def _check_prompts(config: GridConfig) -> None:
    """Refuse prompt sets that lack a part, and learning rates chosen by what is reported."""
    for key, files in config.prompts.items():
        if set(files) != set(SPLITS):
            raise ValueError(f"prompts {key!r} has the parts {', '.join(files)}; it needs {', '.join(SPLITS)}.")
        if files["choose"] == files["test"]:
            raise ValueError(f"prompts {key!r} chooses on its test prompts: name others for `choose`.")


def _check_options(config: GridConfig) -> None:
    """Refuse options of `train` and `sample` that cannot be given on, or that the grid sets itself."""
    for name in ("train", "sample"):
        options = getattr(config, name)
        for option in ("generation_kwargs", "chat_template_kwargs"):
            _check_kwargs(f"{option} of {name}", options.get(option) or {})
    for option in sorted({*config.train, *config.sample} & {*_SET_BY_THE_GRID}):
        raise ValueError(f"the grid sets {option} itself: leave it out of `train` and `sample`.")
    if "trust_remote_code" in config.sample:
        raise ValueError("trust_remote_code cannot be given in `sample`.")
    for option in config.sample:
        check_known("sample", option, [entry.name for entry in fields(SampleConfig)])
    for option in config.train:
        if option in OF_OLD:  # other names are looked at when the parser of `tailgrad train` is loaded
            check_known("train", option, [new for names in OF_OLD.values() for new in names])
        if of_estimator := belongs_to_estimators(option):
            words = of_estimator.replace("write --estimator", "write in `estimators`")
            raise ValueError(f"{option} in `train` is no option of `tailgrad train`: {words}.")
    for option in sorted({*config.train} & {*_BATCH_OPTIONS}):
        raise ValueError(
            f"{option} in `train` would change how many prompts a step has: leave it out, and say at the top of the "
            "file how many prompts a step has (prompts_per_step) and how many rollouts go through the policy at once "
            "(per_device_train_batch_size)."
        )


def check_known(command: str, name: str, known: Collection[str]) -> None:
    """Refuse an option that a command does not have.

    Args:
        command: "train" or "sample".
        name: The option.
        known: The command's options.

    Raises:
        ValueError: The message has the option that was meant.
    """
    if name not in known:
        hint = hint_for(name, known, f"tailgrad {command}")
        raise ValueError(f"{command} has the option {name!r}, which `tailgrad {command}` does not know{hint}")


def _check_kwargs(name: str, value: Any) -> None:
    """Refuse what is no mapping, nor the JSON text of one."""
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        found = None
    if not isinstance(found, Mapping):
        raise ValueError(f"{name} is {value!r}; it must be a mapping, such as {{min_p: 0.1}}.")


def _check_steps(config: GridConfig) -> None:
    """Refuse options of `train` that count steps and are no whole numbers."""
    if "max_steps" not in config.train:
        raise ValueError("train has no max_steps: say how many optimisation steps a training takes.")
    for name in ("max_steps", "num_iterations", "steps_per_generation"):
        value = config.train.get(name, 1)
        if value is None and name != "max_steps":
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} of train is {value!r}; it must be a whole number, at least 1.")


def _check_division(config: GridConfig) -> None:
    """Refuse groups whose step cannot be divided as asked."""
    size = config.per_device_train_batch_size
    for m, _ in config.m_and_n:
        rollouts = m * config.prompts_per_step
        if size is not None and rollouts % size:
            raise ValueError(
                f"per_device_train_batch_size is {size}, which does not divide the {rollouts} rollouts of a step (m = "
                f"{m} x prompts_per_step = {config.prompts_per_step}): take a divisor of that, such as "
                f"{math.gcd(size, rollouts)}."
            )


def _check_checkpoints(config: GridConfig) -> None:
    """Refuse steps that are not before the last, or out of order."""
    for step in config.checkpoints:
        if step >= config.steps:
            raise ValueError(f"checkpoint {step} does not lie between 0 and max_steps = {config.steps}.")
    if list(config.checkpoints) != sorted(config.checkpoints):
        raise ValueError(f"checkpoints are {list(config.checkpoints)}: give them in increasing order.")


def _check_estimators(config: GridConfig) -> None:
    """Refuse estimators that do not work with every m and N."""
    for spec in config.estimators:
        name, options = parse_estimator(spec)
        if "deploy_n" in options:
            raise ValueError(f"estimator {spec!r} sets deploy_n: say it in `m_and_n`, as [m, N].")
        for m, deploy_n in config.m_and_n:
            try:
                bind(name, **with_budget(name, options, deploy_n))(torch.zeros(1, m))
            except (ValueError, TypeError) as error:
                raise ValueError(f"estimator {spec!r} with [m, N] = [{m}, {deploy_n}]: {error}") from error
    if config.reference not in config.estimators:
        raise ValueError(f"reference {config.reference!r} is not among the estimators {', '.join(config.estimators)}.")


def _check_judges(config: GridConfig) -> None:
    """Refuse names in `also_score` that no reward has, and a name for two rewards."""
    if isinstance(config.also_score, Mapping):
        for name in config.also_score:
            if name in config.rewards:
                raise ValueError(f"also_score gives {name!r} a reward, and so does rewards: name it otherwise.")
        return
    for name in config.also_score:
        if name not in config.rewards:
            raise ValueError(f"also_score names {name!r}, which is not among the rewards {', '.join(config.rewards)}.")
