"""Run a grid: train and measure whatever its results table lacks, then report."""

from __future__ import annotations

import json
import platform
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from tailgrad._version import __version__
from tailgrad.estimators import parse_estimator
from tailgrad.evaluation import Run, budgets_up_to
from tailgrad.events import EventReader
from tailgrad.files import locked
from tailgrad.grid.choosing import chosen_trainings
from tailgrad.grid.config import GridConfig
from tailgrad.grid.contents import check_contents, check_table, policy_sha256, prompts_of
from tailgrad.grid.results import Row, append_result, read_results
from tailgrad.grid.trainings import (
    BASE,
    Measurement,
    Training,
    bases,
    choosing,
    key_of,
    shaping_of_trainings,
    testing,
    trials,
)
from tailgrad.jobs import Job, events_beside, flags, run_side_by_side
from tailgrad.rollouts.generation import TRAINING_RECORD
from tailgrad.rollouts.table import read_table

_SCORING_OPTIONS = (
    *("batch_size", "device", "reward_revision", "reward_batch_size", "reward_max_length", "reward_dtype"),
    *("reward_device", "reward_input_format", "reward_timeout"),
)
"""Options of `tailgrad sample` that `tailgrad score` has too."""


def run_grid(config: GridConfig) -> list[Row]:
    """Train and measure what the results table lacks: starting policies, learning rates, then all seeds.

    Args:
        config: The grid.

    Returns:
        The rows of the results table, also of what was there before.

    Raises:
        RuntimeError: A training or sampling failed; the others of its stage were finished first.
        ValueError: The results table cannot be read or was made with other policies or prompts, or another grid runs
            in the same `work`.
    """
    with locked(config.work / "grid.lock", f"the grid's work folder {str(config.work)!r}"):
        return _run_stages(config)


def _run_stages(config: GridConfig) -> list[Row]:
    _work(config, "1/3 starting policies", [(base, list(testing(config, base))) for base in bases(config)])
    tried = trials(config)
    if len(config.learning_rates) > 1:
        _work(config, "2/3 learning rates", [(training, choosing(config, training)) for training in tried])
    finals = chosen_trainings(config, read_results(config.results))
    _work(config, "3/3 all seeds", [(training, list(testing(config, training))) for training in finals])
    return read_results(config.results)


def _work(config: GridConfig, stage: str, wanted: Sequence[tuple[Training, list[Measurement]]]) -> None:
    """Do what is not in the results table yet."""
    rows = read_results(config.results)
    done = {row["key"] for row in rows}
    chains = []
    for training, measurements in wanted:
        missing = [one for one in measurements if key_of(config, training, one) not in done]
        if missing:
            chains.append(_chain(config, training, missing))
    if chains:
        check_contents(config, rows)
    print(f"{stage}: {len(chains)} of {len(wanted)} to do", flush=True)
    run_side_by_side(chains, processes=config.num_processes, overall=stage, keep_going=True)


def _chain(config: GridConfig, training: Training, measurements: list[Measurement]) -> Iterator[Job]:
    """Train, then sample and record one measurement after the other; what is there already is not done again."""
    folder = config.work / "models" / training.label(config)
    if not _is_trained(config, training, measurements):
        _forget_if_past(config, training, measurements)
        yield _training_job(config, training, folder)
    for measurement in measurements:
        table, seconds = _table(config, training, measurement), None
        if not table.is_file():
            start = time.monotonic()
            yield from _table_jobs(config, training, measurement, table)
            seconds = time.monotonic() - start
        row = _row(config, training, measurement, table)
        append_result(config.results, row | {"sample_seconds": seconds})


def _table(config: GridConfig, training: Training, measurement: Measurement) -> Path:
    name = f"{training.label(config)}-{key_of(config, training, measurement)}.parquet"
    return config.work / "rollouts" / name


def _table_jobs(config: GridConfig, training: Training, measurement: Measurement, table: Path) -> Iterator[Job]:
    """Sample; for another reward than the one trained on score the responses that were sampled for that one."""
    own = replace(measurement, scored_by=training.reward)
    sampled = _table(config, training, own)
    if not sampled.is_file():
        yield _sampling_job(config, training, own, sampled)
    if measurement != own:
        yield _scoring_job(config, training, measurement, sampled, table)


def _is_trained(config: GridConfig, training: Training, measurements: list[Measurement]) -> bool:
    """Whether there is a whole model for each measurement: the record is the last file that is written of it."""
    models = [Path(_model(config, training, one)) for one in measurements]
    return training.estimator == BASE or all((model / TRAINING_RECORD).is_file() for model in models)


def _forget_if_past(config: GridConfig, training: Training, measurements: list[Measurement]) -> None:
    """Remove a training that has gone past a step it did not save: resumed, it would not come by it again."""
    folder = config.work / "models" / training.label(config)
    saved = {int(record.parent.name[11:]) for record in folder.glob(f"checkpoint-*/{TRAINING_RECORD}")}
    missing = {one.step for one in measurements} - saved
    if saved and min(missing) < max(saved):
        shutil.rmtree(folder)


def _model(config: GridConfig, training: Training, measurement: Measurement) -> str:
    """The model to sample from: of the last step too the checkpoint, which an interruption cannot have changed."""
    if training.estimator == BASE:
        return config.locate(config.policies[training.policy])
    folder = (config.work / "models" / training.label(config)).resolve()
    return str(folder / f"checkpoint-{measurement.step}")


def _training_job(config: GridConfig, training: Training, folder: Path) -> Job:
    name, options = parse_estimator(training.estimator)
    reward = config.locate(config.rewards[training.reward])
    given = {
        **config.train,
        "model_name_or_path": config.locate(config.policies[training.policy]),
        "dataset_name": config.locate(config.prompts[training.prompts]["train"]),
        ("reward_model_name_or_path" if Path(reward).is_dir() else "reward_funcs"): reward,
        "output_dir": folder.resolve(),
        "estimator": name,
        **options,
        "deploy_n": training.deploy_n or max(deploy_n for _, deploy_n in config.budgets),
        "num_generations": training.m,
        "per_device_train_batch_size": training.m * config.prompts_a_step,
        "beta": training.kl_weight,
        "learning_rate": training.learning_rate,
        "seed": training.seed,
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": config.save_steps,
        "resume_from_checkpoint": "last",
        "report_to": "none",
        "disable_tqdm": True,
    }
    log = _train_log(config, training)
    return Job(_short(training), ["train", *flags(given)], log, config.steps, folder=config.folder)


def _train_log(config: GridConfig, training: Training) -> Path:
    return config.work / "logs" / f"{training.label(config)}.train.log"


def _sampling_job(config: GridConfig, training: Training, measurement: Measurement, table: Path) -> Job:
    given = {
        "model": _model(config, training, measurement),
        "dataset": config.locate(config.prompts[training.prompts][measurement.split]),
        "reward": config.locate(config.rewards[measurement.scored_by]),
        "reference_model": config.locate(config.policies[training.policy]),
        "n": measurement.n,
        "limit": measurement.limit,
        "out": table.resolve(),
        **(shaping_of_trainings(config) if training.estimator == BASE else {}),
        **config.sample,
    }
    prompts = len(prompts_of(config, training.prompts, measurement.split, measurement.limit).prompts)
    log = config.work / "logs" / f"{table.stem}.sample.log"
    name = f"{_short(training)} {measurement.split} {measurement.step}"
    return Job(name, ["sample", *flags(given)], log, prompts, folder=config.folder)


def _scoring_job(config: GridConfig, training: Training, measurement: Measurement, sampled: Path, table: Path) -> Job:
    given = {
        "table": sampled.resolve(),
        "reward": config.locate(config.every_reward[measurement.scored_by]),
        "out": table.resolve(),
        **{name: value for name, value in config.sample.items() if name in _SCORING_OPTIONS},
    }
    prompts = len(prompts_of(config, training.prompts, measurement.split, measurement.limit).prompts)
    log = config.work / "logs" / f"{table.stem}.score.log"
    name = f"{_short(training)} {measurement.scored_by}"
    return Job(name, ["score", *flags(given)], log, prompts, folder=config.folder)


def _short(training: Training) -> str:
    if training.estimator == BASE:
        return f"{training.policy} {training.prompts}"
    return f"{training.estimator} m{training.m} lr{training.learning_rate:g} seed{training.seed}"


def _row(config: GridConfig, training: Training, measurement: Measurement, table: Path) -> Row:
    """The measurement as a row of the results table."""
    prompts_sha256 = prompts_of(config, training.prompts, measurement.split, measurement.limit).sha256
    check_table(table, prompts_sha256=prompts_sha256, policy=config.locate(config.policies[training.policy]))
    run = Run.from_table(training.estimator, read_table(table))
    budgets = sorted({*budgets_up_to(run.n), *(deploy_n for _, deploy_n in config.budgets if deploy_n <= run.n)})
    return {
        "key": key_of(config, training, measurement),
        **asdict(training),
        **asdict(measurement),
        "prompt_ids": run.prompt_ids.tolist(),
        "budgets": budgets,
        "v_n": run.best_of_n(budgets).tolist(),
        **{name: values.tolist() for name, values in run.measures().items()},
        "train_seconds": _train_seconds(config, training),
        "policy_sha256": policy_sha256(config, training.policy),
        "prompts_sha256": prompts_sha256,
        "machine": f"{platform.machine()}, {_device()}",
        "versions": _versions(),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _train_seconds(config: GridConfig, training: Training) -> float | None:
    """Run time that the training told; None for a starting policy and a training that was interrupted."""
    seconds, started_at = None, None
    for event in EventReader(events_beside(_train_log(config, training))).new():
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
