"""`tailgrad train`: the options of `trl grpo` and ours, turned into a trainer that runs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from trl import (
    DatasetMixtureConfig,
    ModelConfig,
    get_peft_config,
    get_quantization_config,
)
from trl.scripts.grpo import GRPOScriptArguments

from tailgrad.files import locked
from tailgrad.models.loading import check_model_name, check_policy_weights, loading_errors, model_path
from tailgrad.options import option, same_option
from tailgrad.rewards import Reward, load_reward
from tailgrad.rewards.names import TRL_REWARDS
from tailgrad.rewards.options import RewardOptions, check_reward_options, model_options
from tailgrad.training.config import TailGRPOConfig
from tailgrad.training.data import train_and_test
from tailgrad.training.parser import TrainParser
from tailgrad.training.progress import TrainingEvents
from tailgrad.training.prompts import load_split, streamed
from tailgrad.training.record import rollouts_per_step
from tailgrad.training.resume import resolve_resume, step_of
from tailgrad.training.schedule import Schedule, check_schedule
from tailgrad.training.trainer import TailGRPOTrainer


@dataclass
class TrainArguments(GRPOScriptArguments):
    """What to train on; the same names as `trl grpo`, and how a reward model is run."""

    dataset_name: str | None = option(
        None,
        "Data set with the prompts: hub name, folder, or .jsonl, .json, .parquet or .csv file (also with .gz).",
    )
    reward_funcs: list[str] | None = option(
        None,
        "Reward functions as package.module.function; modules are also looked for in the current directory. Or one of "
        f"TRL's rewards by name: {', '.join(TRL_REWARDS)}, or the URL of one. Several are summed.",
    )
    prompt_column: str = option("prompt", "Column with the prompts: strings, or lists of messages.")
    reward_url: str | None = same_option(RewardOptions, "reward_url")
    reward_revision: str | None = same_option(RewardOptions, "reward_revision")
    reward_batch_size: int | None = same_option(RewardOptions, "reward_batch_size")
    reward_max_length: int | None = same_option(RewardOptions, "reward_max_length")
    reward_dtype: str | None = same_option(RewardOptions, "reward_dtype")
    reward_device: str | None = same_option(RewardOptions, "reward_device")
    reward_input_format: str | None = same_option(RewardOptions, "reward_input_format")


def make_parser() -> TrainParser:
    """Return the parser of `tailgrad train`."""
    return TrainParser((TrainArguments, TailGRPOConfig, ModelConfig, DatasetMixtureConfig))


def train(argv: Sequence[str]) -> Path:
    """Run `tailgrad train` with these options.

    Args:
        argv: Command-line options; `--config file.yaml` gives defaults.

    Returns:
        The folder of the trained policy.

    Raises:
        ValueError: Options, rewards or data that cannot be used, or another process trains into this folder.
        FileNotFoundError: A model, reward model or data set that is not there.
    """
    script, config, model, mixture = make_parser().read(argv)
    folder = Path(config.output_dir)
    first = config.process_index == 0  # holds the lock for all processes
    with locked(folder / "_tailgrad.lock", f"output_dir {str(folder)!r}") if first else nullcontext():
        _run(script, config, model, mixture)
    return folder


def _run(script: TrainArguments, config: TailGRPOConfig, model: ModelConfig, mixture: DatasetMixtureConfig) -> None:
    policy = _checked_policy(model.model_name_or_path, model.model_revision, config.trust_remote_code)
    reward_names = names_of_rewards(script)
    train_rows, eval_rows = train_and_test(
        partial(load_split, script, config, mixture, policy, model.model_revision),
        train_split=script.dataset_train_split,
        test_split=script.dataset_test_split if config.eval_strategy != "no" else None,
        test_size=mixture.test_split_size,
        seed=config.seed,
    )
    train_rows, eval_rows = (streamed(script, rows) for rows in (train_rows, eval_rows))
    schedule = Schedule.of(config, train_rows)
    check_schedule(schedule, config)
    checkpoint = resolve_resume(config.resume_from_checkpoint, config, schedule)
    rewards = load_rewards(script, reward_names, config)
    trainer = _trainer(policy, rewards, config, model, train_rows, eval_rows)
    trainer.accelerator.print(_size_of_step(config))
    if checkpoint:
        trainer.accelerator.print(_resumption(step_of(checkpoint), schedule.total))
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_state()  # what was logged; before the policy, whose record is the last file that is written
    trainer.save_model(config.output_dir)
    trainer.accelerator.print(f"The trained policy is in {config.output_dir}.")
    if config.push_to_hub:
        trainer.push_to_hub(dataset_name=script.dataset_name)
    if hasattr(trainer, "end"):  # transformers 5.18: trackers are told, and the processes part
        trainer.end()


def _trainer(
    policy: str, rewards: list[Reward], config: TailGRPOConfig, model: ModelConfig, train_rows: Any, eval_rows: Any
) -> TailGRPOTrainer:
    """The trainer, with the policy loaded as the options say."""
    config.model_init_kwargs = {
        "revision": model.model_revision,
        "dtype": model.dtype,
        "attn_implementation": model.attn_implementation,
        "trust_remote_code": config.trust_remote_code,
        **(config.model_init_kwargs or {}),
    }
    with loading_errors(policy, "policy"):
        return TailGRPOTrainer(
            model=policy,
            reward_funcs=rewards,
            args=config,
            train_dataset=train_rows,
            eval_dataset=eval_rows,
            quantization_config=get_quantization_config(model),
            peft_config=get_peft_config(model),
            callbacks=[TrainingEvents()],
        )


def names_of_rewards(script: TrainArguments) -> list[str]:
    """Return the names of the rewards that the options give: a reward model, functions, or both.

    Args:
        script: The options.

    Returns:
        At least one name, the reward model's first.

    Raises:
        ValueError: There is none.
    """
    names = [*filter(None, [script.reward_model_name_or_path]), *(script.reward_funcs or [])]
    if not names:
        raise ValueError(
            "No reward given. Use --reward_funcs package.module.function or --reward_model_name_or_path NAME."
        )
    return names


def load_rewards(script: TrainArguments, names: Sequence[str], config: TailGRPOConfig) -> list[Reward]:
    """Return the rewards of these names."""
    check_reward_options(script, names)
    options = model_options(script) | {"trust_remote_code": config.trust_remote_code, "timeout": config.reward_timeout}
    return [load_reward(name, **options) for name in names]


def _checked_policy(name: str | None, revision: str | None, trust_remote_code: bool) -> str:
    """The policy's hub name or folder, after a look at its files."""
    if not name:
        raise ValueError("No policy given. Use --model_name_or_path with a hub name or a local folder.")
    check_model_name(name, "policy")
    path = model_path(name)
    check_policy_weights(path, "policy", revision=revision, trust_remote_code=trust_remote_code)
    return path


def _size_of_step(config: TailGRPOConfig) -> str:
    """How many prompts a step takes; few are the default, and make it noisy."""
    m = config.num_generations
    prompts = rollouts_per_step(config) / m
    more = "" if prompts >= 8 else " --gradient_accumulation_steps takes more."
    return f"A step takes {prompts:g} prompt{'' if prompts == 1 else 's'} with {m} rollouts each.{more}"


def _resumption(step: int, last: int) -> str:
    return f"The training {f'had reached step {step}, its last' if step >= last else f'goes on from step {step}'}."
