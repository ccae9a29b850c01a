"""What a grid may say: every value is looked at when the file is read, and what is wrong is said with its key."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import torch

from tailgrad.estimators import belongs_to_estimators, bind, parse_estimator, with_budget

if TYPE_CHECKING:
    from tailgrad.grid.config import GridConfig

SPLITS: Final = ("train", "choose", "test")
_NAMES: Final = ("policies", "rewards", "prompts")
_LISTS: Final = ("estimators", "budgets", "learning_rates", "kl_weights", "seeds")
_BATCH_OPTIONS: Final = ("gradient_accumulation_steps", "generation_batch_size", "auto_find_batch_size")
_SET_BY_THE_GRID: Final = (
    *("model_name_or_path", "dataset_name", "reward_funcs", "reward_model_name_or_path", "output_dir", "estimator"),
    *("deploy_n", "num_generations", "beta", "learning_rate", "seed", "per_device_train_batch_size", "logging_steps"),
    *("save_steps", "save_strategy", "save_total_limit", "save_at_steps", "save_only_model", "config"),
    *("resume_from_checkpoint", "report_to", "disable_tqdm", "logging_strategy"),
    *("reference_model", "n", "limit", "out"),
)


def check_grid(config: GridConfig) -> None:
    """Refuse a grid with a value that is none of its kind or out of range, or with names that do not belong together.

    Args:
        config: The grid.

    Raises:
        ValueError: The message names the key.
    """
    _check_names(config)
    _check_lists(config)
    _check_options(config)
    _check_numbers(config)
    _check_budgets(config)
    _check_checkpoints(config)
    _check_estimators(config)
    _check_judges(config)


def check_text(name: str, value: Any) -> None:
    """Refuse what is no text, or an empty one.

    Args:
        name: The key, for the message.
        value: Its value.

    Raises:
        ValueError: The message names the key.
    """
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} is {value!r}; it must be a text that is not empty.")


def _check_mapping(name: str, value: Any) -> None:
    """Refuse what is no mapping from texts."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} is {value!r}; it must be a mapping, such as {{name: value}}.")
    for key in value:
        check_text(f"a name in {name}", key)


def _check_names(config: GridConfig) -> None:
    """Refuse policies, rewards and prompt sets that are not named texts."""
    for name in _NAMES:
        values = getattr(config, name)
        _check_mapping(name, values)
        if not values:
            raise ValueError(f"{name} is empty: name at least one.")
        for key, value in values.items() if name != "prompts" else ():
            check_text(f"{key!r} of {name}", value)
    for key, files in config.prompts.items():
        if not isinstance(files, Mapping) or set(files) != set(SPLITS):
            parts = ", ".join(map(str, files)) if isinstance(files, Mapping) else repr(files)
            raise ValueError(f"prompts {key!r} has the parts {parts}; it needs {', '.join(SPLITS)}.")
        for part, value in files.items():
            check_text(f"{part!r} of prompts {key!r}", value)
        if files["choose"] == files["test"]:
            raise ValueError(f"prompts {key!r} chooses on its test prompts: name others for `choose`.")


def _check_lists(config: GridConfig) -> None:
    """Refuse what is no list where one is needed, what is empty and what is given twice."""
    judges = () if isinstance(config.also_score, Mapping) else ("also_score",)
    for name in (*_LISTS, "checkpoints", *judges):
        values = getattr(config, name)
        if not isinstance(values, list | tuple):
            such_as = f", such as [{values}]" if isinstance(values, str | int | float) else ""
            raise ValueError(f"{name} is {values!r}; it must be a list{such_as}.")
        twice = [value for place, value in enumerate(values) if value in values[:place]]
        if twice:
            raise ValueError(f"{name} has {twice[0]!r} twice.")
        if not values and name in _LISTS:
            raise ValueError(f"{name} is empty: name at least one.")
    for name in ("estimators", *judges):
        for value in getattr(config, name):
            check_text(f"an entry of {name}", value)


def _check_options(config: GridConfig) -> None:
    """Refuse options of `train` and `sample` that cannot be given on, or that the grid sets itself."""
    for name in ("train", "sample"):
        options = getattr(config, name)
        _check_mapping(name, options)
        for option, value in options.items():
            try:
                json.dumps(value)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"{option} of {name} is {value!r}; it must be text, a number, true or false, or a "
                    "list or mapping of these."
                ) from error
        for option in ("generation_kwargs", "chat_template_kwargs"):
            _check_kwargs(f"{option} of {name}", options.get(option) or {})
    for option in sorted({*config.train, *config.sample} & {*_SET_BY_THE_GRID}):
        raise ValueError(f"the grid sets {option} itself: leave it out of `train` and `sample`.")
    for option in config.train:
        if of_estimator := belongs_to_estimators(option):
            words = of_estimator.replace("write --estimator", "write in `estimators`")
            raise ValueError(f"{option} in `train` is no option of `tailgrad train`: {words}.")
    for option in sorted({*config.train} & {*_BATCH_OPTIONS}):
        raise ValueError(
            f"{option} in `train` would change how many prompts a step has: leave it out, and say at the top of the "
            "file how many prompts a step has (prompts_a_step) and how many rollouts go through the policy at once "
            "(per_device_train_batch_size)."
        )


def _check_kwargs(name: str, value: Any) -> None:
    """Refuse what is no mapping, nor the JSON text of one."""
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        found = None
    if not isinstance(found, Mapping):
        raise ValueError(f"{name} is {value!r}; it must be a mapping, such as {{min_p: 0.1}}.")


def _check_numbers(config: GridConfig) -> None:
    """Refuse numbers that are none or out of range."""
    if "max_steps" not in config.train:
        raise ValueError("train has no max_steps: say how many optimisation steps a training takes.")
    for name in ("max_steps", "num_iterations", "steps_per_generation"):
        if name == "max_steps" or config.train.get(name) is not None:
            check_whole(f"{name} of train", config.train[name])
    for name in ("prompts_a_step", "test_n", "checkpoint_n", "choose_n"):
        check_whole(name, getattr(config, name))
    for name in ("test_prompts", "processes", "per_device_train_batch_size"):
        if getattr(config, name) is not None:
            check_whole(name, getattr(config, name))
    if not isinstance(config.choose_kl_weight, bool):
        raise ValueError(f"choose_kl_weight is {config.choose_kl_weight!r}; it must be true or false.")
    for seed in config.seeds:
        check_whole("a seed", seed, least=0)
        if seed >= 2**32:
            raise ValueError(f"a seed is {seed}; it must be below 2^32.")
    for name, above in (("learning_rates", True), ("kl_weights", False)):
        for value in getattr(config, name):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 <= value <= sys.float_info.max or (above and value == 0):
                raise ValueError(f"{name} has {value!r}; each must be a number {'above' if above else 'from'} 0.")


def check_whole(name: str, value: Any, *, least: int = 1) -> None:
    """Refuse what is no whole number, or one that is too small.

    Args:
        name: The key, for the message.
        value: Its value.
        least: The smallest number allowed.

    Raises:
        ValueError: The message names the key.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} is {value!r}; it must be a whole number, at least {least}.")


def _check_budgets(config: GridConfig) -> None:
    """Refuse pairs [m, N] that are none, or whose step cannot be divided as asked."""
    size = config.per_device_train_batch_size
    for pair in config.budgets:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ValueError(f"budgets has {pair!r}; write pairs [m, N], such as [[16, 128]].")
        m, deploy_n = pair
        check_whole("m", m, least=2)
        check_whole("N", deploy_n)
        rollouts = m * config.prompts_a_step
        if size is not None and rollouts % size:
            raise ValueError(
                f"per_device_train_batch_size is {size}, which does not divide the {rollouts} rollouts of a step (m = "
                f"{m} x prompts_a_step = {config.prompts_a_step}): take a divisor of that, such as "
                f"{math.gcd(size, rollouts)}."
            )


def _check_checkpoints(config: GridConfig) -> None:
    """Refuse steps that are none, or not before the last."""
    for step in config.checkpoints:
        check_whole("a checkpoint", step)
        if step >= config.steps:
            raise ValueError(f"checkpoint {step} does not lie between 0 and max_steps = {config.steps}.")
    if list(config.checkpoints) != sorted(config.checkpoints):
        raise ValueError(f"checkpoints are {list(config.checkpoints)}: give them in increasing order.")


def _check_estimators(config: GridConfig) -> None:
    """Refuse estimators that do not work with every m and N."""
    for spec in config.estimators:
        name, options = parse_estimator(spec)
        if "deploy_n" in options:
            raise ValueError(f"estimator {spec!r} sets deploy_n: say it in `budgets`, as [m, N].")
        for m, deploy_n in config.budgets:
            try:
                bind(name, **with_budget(name, options, deploy_n))(torch.zeros(1, m))
            except (ValueError, TypeError) as error:
                raise ValueError(f"estimator {spec!r} with [m, N] = [{m}, {deploy_n}]: {error}") from error
    if config.reference not in config.estimators:
        raise ValueError(f"reference {config.reference!r} is not among the estimators {', '.join(config.estimators)}.")


def _check_judges(config: GridConfig) -> None:
    """Refuse names in `also_score` that no reward has, and a name for two rewards."""
    if isinstance(config.also_score, Mapping):
        _check_mapping("also_score", config.also_score)
        for name, value in config.also_score.items():
            check_text(f"{name!r} of also_score", value)
            if name in config.rewards:
                raise ValueError(f"also_score gives {name!r} a reward, and so does rewards: name it otherwise.")
        return
    for name in config.also_score:
        if name not in config.rewards:
            raise ValueError(f"also_score names {name!r}, which is not among the rewards {', '.join(config.rewards)}.")
