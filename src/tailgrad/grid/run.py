"""Run a grid: train and measure whatever its results table lacks, then report."""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from tailgrad._version import __version__
from tailgrad.curves import budgets_up_to
from tailgrad.events import EventReader
from tailgrad.files import locked
from tailgrad.grid.choosing import chosen_trainings
from tailgrad.grid.commands import model_folder, model_of, sampling_job, scoring_job, table_of, train_log, training_job
from tailgrad.grid.config import GridConfig
from tailgrad.grid.contents import (
    check_contents,
    check_table,
    check_trained,
    policy_sha256,
    prompts_of,
    reward_sha256,
    train_sha256,
)
from tailgrad.grid.gather import MEASURES
from tailgrad.grid.preflight import check_start
from tailgrad.grid.results import Row, append_result, read_results
from tailgrad.grid.trainings import BASE, Measurement, Training, bases, cells, choosing, key_of, testing, trials
from tailgrad.rewards.names import names_function
from tailgrad.rollouts.generation import TRAINING_RECORD, read_record
from tailgrad.rollouts.read import read_rollouts
from tailgrad.runner import Job, events_beside, run_side_by_side

Work = tuple[Training, list[Measurement]]
"""A training with what is to be measured of it."""


def run_grid(config: GridConfig) -> list[Row]:
    """Train and measure what the results table lacks: starting policies, learning rates, then all seeds.

    Args:
        config: The grid.

    Returns:
        The rows of the results table, also of what was there before.

    Raises:
        RuntimeError: A training or sampling failed; the others of its stage were finished first.
        FileNotFoundError: A policy, reward model or data set is not there.
        ValueError: A command would fail (see `check_start`), the results table cannot be read or was made with other
            policies or prompts, or another grid runs in the same `work`.
    """
    with locked(config.work / "grid.lock", f"the grid's work folder {str(config.work)!r}"):
        return _run_stages(config)


def _run_stages(config: GridConfig) -> list[Row]:
    rows = read_results(config.results)
    if any(_missing(config, wanted, rows) for _, wanted in _stages(config)):
        check_start(config)
        check_contents(config, rows)
    for stage, wanted in _stages(config):
        missing = _missing(config, wanted, read_results(config.results))
        print(f"{stage}: {len(missing)} of {len(wanted)} to do", flush=True)
        chains = [_chain(config, *work) for work in missing]
        run_side_by_side(chains, processes=config.num_processes, overall=stage, keep_going=True)
    return read_results(config.results)


def _stages(config: GridConfig) -> Iterator[tuple[str, list[Work]]]:
    """The stages with all that belongs to them; the last one depends on what the one before has measured."""
    yield "1/3 starting policies", [(base, list(testing(config, base))) for base in bases(config)]
    tried = trials(config)
    if len(tried) > len(cells(config)):
        yield f"2/3 {config.tried}", [(training, choosing(config, training)) for training in tried]
    finals = chosen_trainings(config, read_results(config.results))
    yield "3/3 all seeds", [(training, list(testing(config, training))) for training in finals]


def _missing(config: GridConfig, wanted: Sequence[Work], rows: Sequence[Row]) -> list[Work]:
    """What is not in the results table yet."""
    done = {row["key"] for row in rows}
    left = ((training, [one for one in of if key_of(config, training, one) not in done]) for training, of in wanted)
    return [(training, measurements) for training, measurements in left if measurements]


def _chain(config: GridConfig, training: Training, measurements: list[Measurement]) -> Iterator[Job]:
    """Train, then sample and record one measurement after the other; what is there already is not done again."""
    if not _is_trained(config, training, measurements):
        _forget_if_past(config, training, measurements)
        yield training_job(config, training)
    elif training.estimator != BASE:  # by an earlier run of the grid
        check_trained(config, training, model_of(config, training, measurements[0]))
    for measurement in measurements:
        table, seconds = table_of(config, training, measurement), None
        if not table.is_file():
            start = time.monotonic()
            yield from _table_jobs(config, training, measurement, table)
            seconds = time.monotonic() - start
        row = _row(config, training, measurement, table)
        append_result(config.results, row | {"sample_seconds": seconds})


def _table_jobs(config: GridConfig, training: Training, measurement: Measurement, table: Path) -> Iterator[Job]:
    """Sample; for another reward than the one trained on score the responses that were sampled for that one."""
    own = replace(measurement, scored_by=training.reward)
    sampled = table_of(config, training, own)
    if not sampled.is_file():
        yield sampling_job(config, training, own, sampled)
    if measurement != own:
        yield scoring_job(config, training, measurement, sampled, table)


def _is_trained(config: GridConfig, training: Training, measurements: list[Measurement]) -> bool:
    """Whether there is a whole model for each measurement: the record is the last file that is written of it."""
    models = [Path(model_of(config, training, one)) for one in measurements]
    return training.estimator == BASE or all((model / TRAINING_RECORD).is_file() for model in models)


def _forget_if_past(config: GridConfig, training: Training, measurements: list[Measurement]) -> None:
    """Remove a training that has gone past a step it did not save: resumed, it would not come by it again."""
    folder = model_folder(config, training)
    removed = folder.with_name(f".{folder.name}.removed")
    shutil.rmtree(removed, ignore_errors=True)
    saved = {int(record.parent.name[11:]) for record in folder.glob(f"checkpoint-*/{TRAINING_RECORD}")}
    missing = {one.step for one in measurements} - saved
    if saved and min(missing) < max(saved):
        os.replace(folder, removed)  # in one stroke: half a training would be resumed
        shutil.rmtree(removed)


def _row(config: GridConfig, training: Training, measurement: Measurement, table: Path) -> Row:
    """The measurement as a row of the results table."""
    _check_prompts_per_step(config, training, measurement)
    prompts_sha256 = prompts_of(config, training.prompts, measurement.split, measurement.limit).sha256
    check_table(table, prompts_sha256=prompts_sha256, policy=config.locate(config.policies[training.policy]))
    if training.estimator != BASE:
        scored_by_own = measurement.scored_by == training.reward and _is_function(config, training)
        reward = reward_sha256(table) if scored_by_own else None
        check_trained(config, training, model_of(config, training, measurement), reward)
    run = read_rollouts(table, name=training.estimator)
    known = {name: values.tolist() for name, values in run.measures().items()}
    budgets = sorted({*budgets_up_to(run.n), *(deploy_n for _, deploy_n in config.m_and_n if deploy_n <= run.n)})
    return {
        "key": key_of(config, training, measurement),
        **asdict(training),
        **asdict(measurement),
        "prompt_ids": run.prompt_ids.tolist(),
        "budgets": budgets,
        "v_n": run.best_of_n(budgets).tolist(),
        **{name: known.get(name, [math.nan] * len(run.prompt_ids)) for name in MEASURES},
        "train_seconds": _train_seconds(config, training),
        "policy_sha256": policy_sha256(config, training.policy),
        "prompts_sha256": prompts_sha256,
        "reward_sha256": reward_sha256(table),
        "train_sha256": None if training.estimator == BASE else train_sha256(config, training.prompts),
        "machine": f"{platform.machine()}, {_device()}",
        "versions": _versions(),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _is_function(config: GridConfig, training: Training) -> bool:
    """Whether the reward is a function: a reward model is also known by its options, which may differ in `sample`."""
    return names_function(config.locate(config.rewards[training.reward]))


def _check_prompts_per_step(config: GridConfig, training: Training, measurement: Measurement) -> None:
    """Refuse a policy that was trained with another number of prompts per step than the table would say."""
    if training.estimator == BASE:
        return
    model = model_of(config, training, measurement)
    record = read_record(model)
    found = record.get("prompts_per_step", record.get("prompts_a_step"))  # its name in version 0.1
    if found != config.prompts_per_step:
        raise ValueError(
            f"the policy in {model!r} was trained with {found or 'an unknown number of'} prompts per step, and this "
            f"grid says prompts_per_step = {config.prompts_per_step}. Delete the folder above it, and start the grid "
            "again."
        )


def _train_seconds(config: GridConfig, training: Training) -> float | None:
    """Run time that the training told; None for a starting policy and a training that was interrupted."""
    seconds, started_at = None, None
    for event in EventReader(events_beside(train_log(config, training))).new():
        if event["kind"] == "start":
            seconds, started_at = None, event["step"]
        elif event["kind"] == "end" and started_at == 0:
            seconds = event["seconds"]
    return seconds


def _device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def _versions() -> str:
    others = {name: metadata.version(name) for name in ("torch", "transformers", "trl")}
    return json.dumps({"tailgrad": __version__, **others})
