"""`TailGRPOTrainer`: TRL's GRPO trainer with an estimator of this library in the place of GRPO's advantages."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from trl import GRPOTrainer

from tailgrad.estimators import bind, smallest_group
from tailgrad.rewards import checked_for_trl
from tailgrad.rollouts.generation import TRAINING_RECORD
from tailgrad.training.advantages import advantage_metrics, differ_by_rounding, scale_advantages, sum_rewards
from tailgrad.training.config import TailGRPOConfig
from tailgrad.training.record import generation_of, training_record
from tailgrad.training.saving import SaveAtSteps
from tailgrad.training.seam import AdvantageSeam, PromptSeam

logger = logging.getLogger(__name__)


class TailGRPOTrainer(AdvantageSeam, PromptSeam, GRPOTrainer):
    """`trl.GRPOTrainer` whose advantages come from `args.estimator`; everything else is TRL's.

    Besides TRL's metrics it logs those of `tailgrad.training.advantages.advantage_metrics` at every step. Reward
    functions are checked: a wrong number of rewards, text, or an infinity is an error that names the reward.

    Args:
        model: As in TRL.
        reward_funcs: As in TRL: functions, a sequence-classification model or its path, or a list of these.
        args: The configuration, with the estimator and its options.
        **kwargs: All other arguments of `trl.GRPOTrainer`.

    Raises:
        TypeError: `args` is not a `TailGRPOConfig`.

    Example:
        A TRL script changes in two names::

            from tailgrad.training import TailGRPOConfig, TailGRPOTrainer

            args = TailGRPOConfig(output_dir="policy", num_generations=16, estimator="tea", deploy_n=128)
            trainer = TailGRPOTrainer(model="Qwen/Qwen3-0.6B", reward_funcs=reward, args=args, train_dataset=dataset)
            trainer.train()
    """

    args: TailGRPOConfig

    def __init__(self, model: Any, reward_funcs: Any, args: TailGRPOConfig, **kwargs: Any) -> None:
        if not isinstance(args, TailGRPOConfig):
            raise TypeError(
                f"args must be a tailgrad.training.TailGRPOConfig (GRPOConfig with an estimator), "
                f"not {type(args).__name__}."
            )
        self._estimate: Callable[[Tensor], Tensor] = bind(args.estimator, **args.estimator_options())
        self._smallest_group = smallest_group(args.estimator, **args.estimator_options())
        _say_what_no_longer_acts(args)
        funcs = reward_funcs if isinstance(reward_funcs, list) else [reward_funcs]
        super().__init__(
            model=model, reward_funcs=[_check_function(f, args.reward_timeout) for f in funcs], args=args, **kwargs
        )
        self.generation = generation_of(self)
        if self.args.save_at_steps:
            self.add_callback(SaveAtSteps(self.args.save_at_steps))

    def estimate_advantages(self, rewards_per_func: Float[Tensor, "B F"], num_generations: int) -> Float[Tensor, " B"]:
        """Sum the rewards, estimate and scale the advantages, and log what is worth watching."""
        rewards = sum_rewards(rewards_per_func, self.reward_weights, num_generations)
        rounding = differ_by_rounding(rewards_per_func, self.reward_weights, num_generations)
        advantages = scale_advantages(self._estimate(rewards), self.args.advantage_scaling, rounding)
        metrics = advantage_metrics(
            rewards,
            advantages,
            deploy_n=self.args.deploy_n,
            tail_fraction=self.args.tail_fraction,
            smallest_group=self._smallest_group,
        )
        for name, value in metrics.items():
            self.record_metric(name, value)
        return advantages.flatten()

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model, and beside it a record of how it was trained."""
        super().save_model(output_dir, _internal_call)
        if self.args.should_save:
            record = training_record(self.args, self.generation)
            Path(output_dir or self.args.output_dir, TRAINING_RECORD).write_text(json.dumps(record, indent=2) + "\n")


def _check_function(reward: Any, timeout: float | None) -> Any:
    """Check what a function returns, async or not; modules and the paths of models are TRL's own business."""
    return reward if isinstance(reward, str | torch.nn.Module) else checked_for_trl(reward, timeout)


def _say_what_no_longer_acts(args: TailGRPOConfig) -> None:
    """Warn of TRL options that act inside the block whose result the estimator replaces."""
    inert = []
    if args.scale_rewards != "group":
        inert.append(f"scale_rewards={args.scale_rewards!r}")
    if args.multi_objective_aggregation != "sum_then_normalize":
        inert.append(f"multi_objective_aggregation={args.multi_objective_aggregation!r}")
    if inert:
        logger.warning(
            "%s no longer act%s: the advantages come from estimator=%r. Choose grpo or dr_grpo for GRPO with or "
            "without division by the standard deviation, and --advantage_scaling for their scale.",
            " and ".join(inert),
            "s" if len(inert) == 1 else "",
            args.estimator,
        )
