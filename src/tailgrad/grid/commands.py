"""The commands of a grid: a training, a sampling and a scoring as jobs, and where their files go."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tailgrad.grid.config import GridConfig
from tailgrad.grid.contents import prompts_of
from tailgrad.grid.trainings import BASE, Measurement, Training, key_of, shaping_of_trainings
from tailgrad.rewards.names import reads
from tailgrad.rewards.options import MODEL_OPTIONS
from tailgrad.runner import Job, flags

RESUMES: Final = 10
"""How often a training is saved to go on from, besides the steps that are measured."""

_SCORING_OPTIONS = ("batch_size", "device", "reward_timeout", *(f"reward_{name}" for name in MODEL_OPTIONS))
"""Options of `tailgrad sample` that `tailgrad score` has too."""


def training_job(config: GridConfig, training: Training) -> Job:
    """The training."""
    argv = ["train", *flags(train_options(config, training))]
    return Job(_short(training), argv, train_log(config, training), config.steps, folder=config.folder)


def train_options(config: GridConfig, training: Training) -> dict[str, Any]:
    """The options of `tailgrad train`."""
    passes = config.passes(training.m)
    return {
        **_read_by(config, training.reward, config.train),
        "model_name_or_path": config.locate(config.policies[training.policy]),
        "dataset_name": config.locate(config.prompts[training.prompts]["train"]),
        **reward_option(config, training.reward),
        "output_dir": model_folder(config, training),
        "estimator": training.estimator,
        "deploy_n": training.deploy_n or max(deploy_n for _, deploy_n in config.m_and_n),
        "num_generations": training.m,
        "per_device_train_batch_size": training.m * config.prompts_per_step // passes,
        "gradient_accumulation_steps": passes,
        "beta": training.kl_weight,
        "learning_rate": training.learning_rate,
        "seed": training.seed,
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": _save_steps(config, passes),
        "save_at_steps": [*config.checkpoints, config.steps],
        "resume_from_checkpoint": "last",
        "report_to": "none",
        "disable_tqdm": True,
    }


def reward_option(config: GridConfig, name: str) -> dict[str, str]:
    """The option that gives a command the reward of this name."""
    reward = config.locate(config.every_reward[name])
    return {"reward_model_name_or_path" if Path(reward).is_dir() else "reward_funcs": reward}


def _read_by(config: GridConfig, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options without those of reward models that this reward does not read: another one of the grid may."""
    spec = config.locate(config.every_reward[name])
    idle = {f"reward_{option}" for option in MODEL_OPTIONS if not reads(spec, option)}
    return {option: value for option, value in options.items() if option not in idle}


def _save_steps(config: GridConfig, passes: int) -> int:
    """How often to save: never amid a batch of rollouts, of which a resumed training would lose the rest."""
    reuse = (config.train.get("steps_per_generation") or passes) * (config.train.get("num_iterations") or 1)
    if reuse % passes:
        return config.steps
    every = int(reuse // passes)
    return every * max(1, config.steps // (RESUMES * every))


def model_folder(config: GridConfig, training: Training) -> Path:
    """Where a training writes its policy and its checkpoints."""
    return (config.work / "models" / training.label(config)).resolve()


def model_of(config: GridConfig, training: Training, measurement: Measurement) -> str:
    """The model to sample from: of the last step too the checkpoint, which an interruption cannot have changed."""
    if training.estimator == BASE:
        return config.locate(config.policies[training.policy])
    return str(model_folder(config, training) / f"checkpoint-{measurement.step}")


def train_log(config: GridConfig, training: Training) -> Path:
    """The log of a training."""
    return config.work / "logs" / f"{training.label(config)}.train.log"


def sampling_job(config: GridConfig, training: Training, measurement: Measurement, table: Path) -> Job:
    """The sampling of a policy, scored by the reward trained on."""
    given = {
        "model_name_or_path": model_of(config, training, measurement),
        "dataset_name": config.locate(config.prompts[training.prompts][measurement.split]),
        **reward_option(config, measurement.scored_by),
        "reference_model": config.locate(config.policies[training.policy]),
        "n": measurement.n,
        "limit": measurement.limit,
        "out": table.resolve(),
        **(shaping_of_trainings(config) if training.estimator == BASE else {}),
        **_read_by(config, measurement.scored_by, config.sample),
    }
    prompts = len(prompts_of(config, training.prompts, measurement.split, measurement.limit).prompts)
    log = config.work / "logs" / f"{table.stem}.sample.log"
    name = f"{_short(training)} {measurement.split} {measurement.step}"
    return Job(name, ["sample", *flags(given)], log, prompts, folder=config.folder)


def scoring_job(config: GridConfig, training: Training, measurement: Measurement, sampled: Path, table: Path) -> Job:
    """The scoring of responses that were sampled for the reward trained on, by another reward."""
    options = _read_by(config, measurement.scored_by, config.sample)
    given = {
        **reward_option(config, measurement.scored_by),
        "out": table.resolve(),
        **{name: value for name, value in options.items() if name in _SCORING_OPTIONS},
    }
    prompts = len(prompts_of(config, training.prompts, measurement.split, measurement.limit).prompts)
    log = config.work / "logs" / f"{table.stem}.score.log"
    name = f"{_short(training)} {measurement.scored_by}"
    return Job(name, ["score", str(sampled.resolve()), *flags(given)], log, prompts, folder=config.folder)


def table_of(config: GridConfig, training: Training, measurement: Measurement) -> Path:
    """The rollout table of a measurement."""
    name = f"{training.label(config)}-{key_of(config, training, measurement)}.parquet"
    return config.work / "rollouts" / name


def _short(training: Training) -> str:
    if training.estimator == BASE:
        return f"{training.policy} {training.prompts}"
    return f"{training.estimator} m{training.m} lr{training.learning_rate:g} seed{training.seed}"
