"""What a grid would stumble over after hours, looked for before its first command."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.machinery import PathFinder
from typing import Any

from tailgrad.grid.checks import check_known
from tailgrad.grid.commands import train_options
from tailgrad.grid.config import GridConfig
from tailgrad.grid.contents import prompts_of
from tailgrad.grid.trainings import Training, cells
from tailgrad.models.loading import check_model_name
from tailgrad.rewards.names import names_function, names_model
from tailgrad.rewards.options import MODEL_OPTIONS, check_model_options
from tailgrad.runner import flags


def check_start(config: GridConfig) -> None:
    """Refuse a grid of which a command would fail, as far as that can be told without a model.

    Args:
        config: The grid.

    Raises:
        FileNotFoundError: A policy, reward model or data set is not there.
        ValueError: It cannot be used, an option of `train` or `sample` is unknown or out of range, or there are fewer
            prompts than one batch of rollouts takes.
    """
    if config.results.is_dir():
        raise ValueError(f"results {str(config.results)!r} is a folder; name a file, such as rows.parquet.")
    for _, deploy_n in config.m_and_n:
        if deploy_n > config.test_n:
            raise ValueError(
                f"m_and_n has N = {deploy_n}, above test_n = {config.test_n}: V_N is known up to the responses that "
                f"are sampled per test prompt. Give test_n: {deploy_n} or more, or a smaller N."
            )
    for name, given in config.policies.items():
        check_model_name(config.locate(given), f"policy {name!r}")
    for name, given in config.every_reward.items():
        _check_reward(config, f"reward {name!r}", config.locate(given))
    _check_reward_options(config)
    for name in config.prompts:
        for split in ("choose", "test"):
            with _named(f"prompts {name!r}, {split}"):
                prompts_of(config, name, split, config.test_limit if split == "test" else None)
    _check_trainings(config)


def _check_reward(config: GridConfig, what: str, name: str) -> None:
    """Look for a reward model's folder, or for a function's module, which is not imported."""
    if names_model(name):
        check_model_name(name, what)
    if not names_function(name):
        return
    module = name.replace(":", ".").partition(".")[0]
    if PathFinder.find_spec(module, [str(config.folder.resolve()), *sys.path]) is None:
        raise ValueError(
            f"{what}: {name!r} names a function, and there is no module {module!r} in {str(config.folder.resolve())!r} "
            "nor among the installed packages."
        )


def _check_reward_options(config: GridConfig) -> None:
    """Refuse options of reward models that no reward of the grid reads."""
    for rewards, given in ((config.rewards, config.train), (config.every_reward, config.sample)):
        specs = [config.locate(name) for name in rewards.values()]
        check_model_options(specs, [name for name in MODEL_OPTIONS if f"reward_{name}" in given])


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Say first what an error is of."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{what}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error


def _check_trainings(config: GridConfig) -> None:
    """Read the command of every training that has options of its own, and the prompts of every policy."""
    from tailgrad.training.schedule import Schedule

    read: dict[Any, Any] = {}
    rows: dict[Any, Any] = {}
    for cell in cells(config):
        estimator, data = (cell.estimator, cell.m, cell.deploy_n), (cell.policy, cell.prompts)
        if estimator in read and data in rows:
            continue
        training = replace(cell, learning_rate=config.learning_rates[0], seed=config.seeds[0])
        options = _parsed(config, training)
        if data not in rows:
            with _named(f"prompts {cell.prompts!r}, train"):
                rows[data] = _training_rows(*options)
        read[estimator] = options[1]
    for args in read.values():
        for (_, prompts), found in rows.items():
            _check_schedule(config, prompts, Schedule.of(args, found))


def _training_rows(script: Any, args: Any, model: Any, mixture: Any) -> Any:
    """The prompts as `tailgrad train` reads them, looked at for the policy."""
    from tailgrad.training.prompts import load_split

    return load_split(script, args, mixture, model.model_name_or_path, model.model_revision, script.dataset_train_split)


def _parsed(config: GridConfig, training: Training) -> tuple[Any, ...]:
    """The options of a training, as `tailgrad train` reads them."""
    from tailgrad.training.launch import make_parser

    parser = make_parser()
    known = [option.removeprefix("--") for option in parser._option_string_actions if "-" not in option.lstrip("-")]
    for name in config.train:
        check_known("train", name, known)
    what = f"train, for {training.estimator} with m = {training.m}"
    logging.disable(logging.WARNING)  # what the training will say is not said for each
    try:
        with _named(what), warnings.catch_warnings(action="ignore"):
            return parser.read(flags(train_options(config, training)))
    except TypeError as error:
        raise ValueError(f"{what}: {error}") from error
    finally:
        logging.disable(logging.NOTSET)


def _check_schedule(config: GridConfig, prompts: str, schedule: Any) -> None:
    """Refuse too few prompts for a step, and a checkpoint that could not be resumed."""
    if schedule.prompts is not None and schedule.prompts < schedule.batch:
        raise ValueError(
            f"prompts {prompts!r} has {schedule.prompts} prompts to train on, and one batch of rollouts takes "
            f"{schedule.batch} (prompts_per_step = {config.prompts_per_step}), so that no step could be taken. Give "
            "more prompts, or fewer per step."
        )
    for step in config.checkpoints:
        if not schedule.starts_a_batch(step):
            raise ValueError(
                f"checkpoint {step} lies amid a batch of rollouts, which serves {schedule.reuse} backward passes "
                f"({schedule.accumulation} make a step) and is not saved: a training that is interrupted there would "
                "not end as one that is not. Take another step."
            )
