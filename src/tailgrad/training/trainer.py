"""`TailGRPOTrainer`: TRL's GRPO trainer with an estimator of this library in the place of GRPO's advantages."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers.trainer_callback import TrainerState
from transformers.trainer_utils import TrainOutput
from trl import GRPOConfig, GRPOTrainer

from tailgrad.estimators import bind, smallest_group
from tailgrad.estimators.batch import advantage_metrics, differ_by_rounding, scale_advantages, sum_rewards
from tailgrad.files import write_json
from tailgrad.processes import num_processes
from tailgrad.rewards import checked_for_trl
from tailgrad.rewards.reward import ARGUMENTS_IN_TRAINING, check_columns
from tailgrad.rollouts.generation import TRAINING_RECORD
from tailgrad.rollouts.prompts import RESERVED_COLUMNS
from tailgrad.training.batches import counted_twice, small_evaluation
from tailgrad.training.cautions import (
    check_generation,
    inert_options,
    masked_after_advantages,
    rounded_by_merging,
)
from tailgrad.training.config import TailGRPOConfig, config_of
from tailgrad.training.dropout import check_no_dropout, turn_off_dropout
from tailgrad.training.log import STATE
from tailgrad.training.progress import show_progress_line
from tailgrad.training.record import card_of, generation_of, make_savable, training_record
from tailgrad.training.resume import exact_checkpoint, say_what_is_overwritten, step_of
from tailgrad.training.same_run import RUN_RECORD, check_same_run, run_record
from tailgrad.training.saving import SaveAtSteps
from tailgrad.training.schedule import Schedule, check_schedule, unused_prompts
from tailgrad.training.seam import AdvantageSeam, PromptSeam
from tailgrad.training.sharding import check_sharding, not_sharded

logger = logging.getLogger(__name__)

LARGEST_LOG_RATIO = 20.0
"""Ratios of rollouts of an older policy are cut to exp(-20) ... exp(20): beyond, they would vanish or overflow."""


class TailGRPOTrainer(AdvantageSeam, PromptSeam, GRPOTrainer):
    """`trl.GRPOTrainer` whose advantages come from `args.estimator`; everything else is TRL's.

    It takes the arguments of `trl.GRPOTrainer`, in the same order and with the same defaults. At every step it logs the
    metrics of `tailgrad.estimators.batch.advantage_metrics` beside TRL's. Reward functions are checked: a wrong number
    of rewards, text, or an infinity is an error that names the reward.

    Args:
        args: The configuration, with the estimator and its options. TRL's `GRPOConfig` is taken as it is, with the
            default estimator. None is the default configuration.

    Raises:
        ValueError: Fewer prompts than one batch of rollouts takes, a `save_steps` that would cut one in two, or
            `off_policy_correction` with dropout.
        TypeError: `args` is not a configuration of TRL's GRPO trainer.

    Examples:
        A TRL script changes in two names::

            from tailgrad.training import TailGRPOConfig, TailGRPOTrainer

            args = TailGRPOConfig(output_dir="policy", num_generations=16, estimator="flat_tea", deploy_n=128)
            trainer = TailGRPOTrainer(model="Qwen/Qwen3-0.6B", reward_funcs=reward, args=args, train_dataset=dataset)
            trainer.train()
    """

    args: TailGRPOConfig
    _run: dict[str, Any] | None = None

    def __init__(
        self,
        model: Any,
        reward_funcs: Any = None,
        args: GRPOConfig | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        reward_processing_classes: Any = None,
        callbacks: Any = None,
        optimizers: Any = (None, None),
        quantization_config: Any = None,
        peft_config: Any = None,
        tools: Any = None,
        rollout_func: Any = None,
        environment_factory: Any = None,
    ) -> None:
        self.started_from = model if isinstance(model, str) else _name_of(model)
        config = config_of(args, self.started_from)
        self._bind_estimator(config)
        self._decided = {
            "adapter": peft_config.to_dict() if peft_config is not None else None,  # before peft fills it in
            "quantization": getattr(quantization_config, "to_dict", lambda: quantization_config)(),
            "called": {"rollout_func": rollout_func, "tools": tools, "environment_factory": environment_factory},
        }
        self._plan_steps(config, reward_funcs, train_dataset, eval_dataset)
        super().__init__(
            model=model,
            reward_funcs=_checked_all(reward_funcs, config.reward_timeout),
            args=config,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            reward_processing_classes=reward_processing_classes,
            callbacks=callbacks,
            optimizers=optimizers,
            quantization_config=quantization_config,
            peft_config=peft_config,
            tools=tools,
            rollout_func=rollout_func,
            environment_factory=environment_factory,
        )
        self._complete_setup()

    def _bind_estimator(self, config: TailGRPOConfig) -> None:
        """Fix the estimator with its options, and those of them that the logged forecast shares."""
        options = config.estimator_options()
        self._estimate: Callable[..., Tensor] = bind(config.estimator_name, **options)
        self._smallest_group = smallest_group(config.estimator_name, **options)
        self._forecast = {name: options[name] for name in ("tail_fraction", "tail") if name in options}

    def _plan_steps(self, config: TailGRPOConfig, rewards: Any, train_dataset: Any, eval_dataset: Any) -> None:
        """Lay the steps out before a model is loaded: refuse what cannot be, and say what does not act."""
        self.schedule = Schedule.of(config, train_dataset)
        check_schedule(self.schedule, config)
        _check_columns(rewards, train_dataset, "the training data")
        if config.eval_strategy != "no":
            _check_columns(rewards, eval_dataset, "the evaluation data")
        _warn(
            config,
            inert_options(config),
            masked_after_advantages(config),
            unused_prompts(self.schedule, config),
            small_evaluation(config, self._smallest_group),
            counted_twice(config, eval_dataset, num_processes()),
        )

    def _complete_setup(self) -> None:
        """What TRL's setup comes before: the loaded policy is looked at, cards and progress line are ours."""
        self.corrects_old_rollouts = self.args.off_policy_correction
        if self.args.disable_dropout:
            turn_off_dropout(self.model)
        if self.corrects_old_rollouts:
            check_no_dropout(self.model)
        check_sharding(self)
        _warn(self.args, rounded_by_merging(self.args, self.model), not_sharded(self))
        check_generation(self)
        self.name_on_cards(*card_of(self.args))
        self.generation = generation_of(self)
        make_savable(self.model.generation_config)
        show_progress_line(self)
        if self.args.save_at_steps:
            self.add_callback(SaveAtSteps(self.args.save_at_steps))

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train, or go on from a checkpoint to the weights of a training that was not interrupted.

        Args:
            resume_from_checkpoint: A checkpoint's folder, or True or `"last"`: the newest in `output_dir` that can be
                resumed exactly. None is what the configuration says.
            *args: As in `transformers.Trainer.train`.
            **kwargs: As there.

        Returns:
            As there. A checkpoint at the last step is loaded, and no step taken.

        Raises:
            ValueError: The checkpoint cannot be resumed exactly, or is one of another run.
            RuntimeError: Not one step was taken.
        """
        checkpoint = None
        if resume_from_checkpoint is None:
            resume_from_checkpoint = self.args.resume_from_checkpoint
        if resume_from_checkpoint and str(resume_from_checkpoint).lower() != "false":
            checkpoint = exact_checkpoint(resume_from_checkpoint, self.args, self.schedule)
            if checkpoint is None and resume_from_checkpoint is True:
                raise ValueError(f"There is no checkpoint in {self.args.output_dir} to go on from.")
        if self.args.should_save and (checkpoint or self.args.save_strategy != "no" or self.args.save_at_steps):
            self._run = run_record(
                self.args,
                model=self.started_from,
                rewards=self.reward_funcs,
                dataset=self.train_dataset,
                **self._decided,
            )
            if checkpoint:  # the first process answers for all
                check_same_run(Path(checkpoint), self._run)
        done = step_of(checkpoint)
        if checkpoint and done >= self.schedule.total:
            if self.is_deepspeed_enabled:  # which saves nothing but what it has trained
                raise ValueError(f"The training had reached its last step, {done}: {checkpoint} is the trained policy.")
            self.state = TrainerState.load_from_json(str(Path(checkpoint, STATE)))
            best = self.state.best_model_checkpoint if self.args.load_best_model_at_end else None
            self._load_from_checkpoint(best or checkpoint)  # resumed there, transformers would take one step more
            return TrainOutput(done, float("nan"), {})
        if not checkpoint and self.args.should_save:
            say_what_is_overwritten(self.args.output_dir)
        self.start_after(self.schedule.epochs_before(done))
        output = super().train(checkpoint, *args, **kwargs)
        if self.state.global_step == done:
            raise RuntimeError(
                f"The training ended without a step: with num_train_epochs = {self.args.num_train_epochs:g} and "
                f"max_steps = {self.args.max_steps} the data set gave no full batch of rollouts."
            )
        return output

    def estimate_advantages(
        self,
        rewards_per_func: Float[Tensor, "B F"],
        num_generations: int,
        log_ratios: Float[Tensor, " B"] | None = None,
    ) -> Float[Tensor, " B"]:
        """Sum the rewards, estimate and scale the advantages, and log what is worth watching.

        Rollouts of an older policy get the estimator's advantages at their ratios, times the scale of those without.

        Args:
            rewards_per_func: One column per reward function, rows of a group adjacent; NaN where not scored.
            num_generations: M, the rollouts of a group.
            log_ratios: Logarithms of the ratios of rollouts of an older policy.
        """
        rewards = sum_rewards(rewards_per_func, self.reward_weights, num_generations)
        rounding = differ_by_rounding(rewards_per_func, self.reward_weights, num_generations)
        estimable = num_generations >= self._smallest_group  # always in training; an evaluation may draw fewer
        raw = self._estimate(rewards) if estimable else torch.zeros_like(rewards)
        if log_ratios is not None:  # the rollouts are logged already
            ratios = log_ratios.view_as(rewards).double().clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO).exp()
            corrected = self._estimate(rewards, ratios)
            return scale_advantages(corrected, self.args.scaling, rounding, as_those=raw).flatten()
        advantages = scale_advantages(raw, self.args.scaling, rounding)
        metrics = advantage_metrics(
            rewards,
            advantages,
            deploy_n=self.args.deploy_n,
            smallest_group=self._smallest_group,
            **self._forecast,
        )
        for name, value in metrics.items():
            self.record_metric(name, value)
        return advantages.flatten()

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model, and beside it a record of how it was trained; in a checkpoint also what decides the run.

        Args:
            output_dir: Where; the training's own folder by default.
        """
        folder, is_checkpoint = Path(output_dir or self.args.output_dir), _internal_call and output_dir
        if self.args.should_save:  # what says that an older model here is whole goes before the model does
            for name in (TRAINING_RECORD, *([STATE] if is_checkpoint else [])):
                (folder / name).unlink(missing_ok=True)
        make_savable(self.model.generation_config)  # transformers has changed special tokens since
        super().save_model(output_dir, _internal_call)
        if self.args.should_save and is_checkpoint and self._run:
            write_json(folder / RUN_RECORD, self._run)
        if self.args.should_save:
            write_json(folder / TRAINING_RECORD, training_record(self.args, self.generation))


def _warn(config: TailGRPOConfig, *warnings: str | None) -> None:
    """Say what there is to say, by the first of the processes."""
    for words in filter(None, warnings if config.process_index == 0 else ()):
        logger.warning(words)


def _name_of(model: Any) -> str:
    return str(getattr(getattr(model, "config", None), "_name_or_path", ""))


def _checked_all(rewards: Any, timeout: float | None) -> list[Any] | None:
    """Check what functions return, async or not; modules and the paths of models are TRL's own business."""
    if rewards is None:
        return None
    return [
        reward if isinstance(reward, str | torch.nn.Module) else checked_for_trl(reward, timeout)
        for reward in (rewards if isinstance(rewards, list) else [rewards])
    ]


def _check_columns(rewards: Any, rows: Any, what: str) -> None:
    """Refuse a function that needs a column which these rows lack, where they say what they have."""
    names = getattr(rows, "column_names", None)
    if not isinstance(names, list) or getattr(rows, "format", {}).get("type") == "custom":  # made when they are read
        return
    columns = [name for name in names if name not in RESERVED_COLUMNS]
    for reward in rewards if isinstance(rewards, list) else [rewards]:
        if callable(reward) and not isinstance(reward, torch.nn.Module):
            check_columns(reward, columns, what, ARGUMENTS_IN_TRAINING)
