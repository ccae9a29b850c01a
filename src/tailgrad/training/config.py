"""The training configuration: everything TRL's `GRPOConfig` holds, and the estimator with its options."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from trl import GRPOConfig

from tailgrad.estimators import ESTIMATORS, bind, find_estimator, parse_estimator, with_budget
from tailgrad.estimators.batch import SCALINGS
from tailgrad.options import option
from tailgrad.processes import num_processes
from tailgrad.training.batches import eval_batch_size, train_batch_size

logger = logging.getLogger(__name__)


@dataclass
class TailGRPOConfig(GRPOConfig):
    """`trl.GRPOConfig` with the estimator of the advantages and N; m is `num_generations`.

    Write the estimator with its options, as everywhere: `tea:tail_fraction=0.5`. A batch size that is left at None is
    TRL's 8 if that holds whole groups, and otherwise `num_generations`.

    Raises:
        ValueError: An unknown estimator or scaling, or an option or a batch out of range for `num_generations`.
    """

    per_device_train_batch_size: int | None = option(
        None, "Rollouts per backward pass on one device (default: 8 if that makes whole groups, else num_generations)."
    )
    per_device_eval_batch_size: int | None = option(
        None, "Rollouts that one device evaluates at once (default: 8 if that makes whole groups, else one group)."
    )

    estimator: str = option(
        "flat_tea",
        "Estimator of the advantages, with its options after a colon: max_at_k:k=4,baseline=loo. The list of "
        "estimators is at the end.",
    )
    deploy_n: int = option(128, "N: responses per prompt at deployment, of which the best is served.")
    advantage_scaling: str | None = option(
        None,
        "Scale the advantages to root mean square one: in each group (group), over the whole batch (batch), or not "
        "(none). Default: group for "
        f"{', '.join(name for name, row in ESTIMATORS.items() if row.scaling == 'group')}, none for the others.",
    )
    off_policy_correction: bool = option(
        False,
        "Compute the advantages anew, at the present policy, before each further step on the same rollouts. For "
        f"{', '.join(name for name, row in ESTIMATORS.items() if row.takes_ratios)}, and a policy without dropout. Not "
        "unbiased, because the ratios in the loss are per token and clipped.",
    )
    resume_from_checkpoint: str | None = option(
        None,
        "last: go on from the newest checkpoint that can be resumed exactly, or start anew if there is none; or the "
        "path of a checkpoint.",
    )
    save_at_steps: list[int] | None = option(
        None, "Save and keep checkpoints after these steps; of all others only the newest stays."
    )
    reward_timeout: float | None = option(
        None,
        "Most seconds that one call of a reward may take; a longer call is an error. For a remote one, seconds until a "
        "request is tried again (default 60).",
    )

    def __post_init__(self) -> None:
        """Choose device and batches, check TRL's options, then ours."""
        _without_accelerator(self)
        processes = num_processes()
        self.per_device_train_batch_size = train_batch_size(self, processes)
        self.per_device_eval_batch_size = eval_batch_size(self, processes)
        super().__post_init__()
        self.check()

    def check(self) -> None:
        """Refuse options that do not fit together.

        Raises:
            ValueError: The estimator or the scaling is unknown, an option is out of range for `num_generations`, the
                estimator has no form for `off_policy_correction`, or what is to stay would be removed.
            TypeError: The value of an estimator's option is not of its kind.
        """
        if self.scaling not in SCALINGS:
            raise ValueError(
                f"advantage_scaling = {self.advantage_scaling!r} is unknown; choose one of {', '.join(SCALINGS)}."
            )
        if self.save_at_steps and self.save_total_limit is not None:
            raise ValueError(
                f"save_total_limit = {self.save_total_limit} would remove checkpoints of save_at_steps = "
                f"{self.save_at_steps}: leave it out, since of all other checkpoints only the newest stays."
            )
        if self.save_at_steps and self.load_best_model_at_end:
            raise ValueError(
                "load_best_model_at_end needs the best checkpoint at the end, and save_at_steps keeps those of its "
                "steps and the newest alone: use one of the two."
            )
        options = self.estimator_options()
        worst = float(options.get("levels", [0.0])[0])
        bind(self.estimator_name, **options)(torch.full((1, self.num_generations), worst))
        if self.off_policy_correction:
            self._check_correction()

    def _check_correction(self) -> None:
        """Refuse a correction that the estimator has no form for, and one of rollouts that serve one step only."""
        if not find_estimator(self.estimator_name).takes_ratios:
            raise ValueError(
                f"off_policy_correction has no form for estimator = {self.estimator!r}; choose one of "
                f"{', '.join(name for name, row in ESTIMATORS.items() if row.takes_ratios)}, or leave it out."
            )
        group = torch.zeros(1, self.num_generations)
        bind(self.estimator_name, **self.estimator_options())(group, torch.ones_like(group))
        if self.mask_truncated_completions:
            raise ValueError(
                "off_policy_correction has no ratio of a response that mask_truncated_completions leaves out: use one "
                "of the two."
            )
        passes = self.steps_per_generation * self.num_iterations
        if self.gradient_accumulation_steps % passes == 0:
            raise ValueError(
                f"off_policy_correction has nothing to correct: rollouts serve {passes} backward passes, a step takes "
                f"{self.gradient_accumulation_steps}, so each has its own. Leave it out, or use --num_iterations 2."
            )

    @property
    def scaling(self) -> str:
        """How advantages are scaled: `advantage_scaling`, or the estimator's own scaling where that is None."""
        return self.advantage_scaling or find_estimator(self.estimator_name).scaling

    @property
    def estimator_name(self) -> str:
        """The estimator without its options."""
        return parse_estimator(self.estimator)[0]

    def estimator_options(self) -> dict[str, Any]:
        """Return the options to give the estimator, `deploy_n` among them where it takes one."""
        return with_budget(*parse_estimator(self.estimator), self.deploy_n)


def config_of(args: GRPOConfig | None, model: str) -> TailGRPOConfig:
    """Return the configuration of a trainer that was given this one.

    Args:
        args: Ours, as it is; TRL's, all of it with the default estimator; None is the default configuration.
        model: Name of the policy.

    Returns:
        The configuration.

    Raises:
        TypeError: It is another trainer's.
        ValueError: The default estimator needs more rollouts than TRL's configuration has.
    """
    if args is None:
        return TailGRPOConfig(f"{Path(model).name}-TailGRPO")
    if isinstance(args, TailGRPOConfig):
        return args
    if not isinstance(args, GRPOConfig):
        raise TypeError(
            "args must be a tailgrad.training.TailGRPOConfig (GRPOConfig with an estimator) or a GRPOConfig, "
            f"not {type(args).__name__}."
        )
    own = {name: field.default for name, field in TailGRPOConfig.__dataclass_fields__.items() if name not in vars(args)}
    config = object.__new__(TailGRPOConfig)  # its `__post_init__` would derive a second time what TRL's has derived
    config.__dict__ |= own | vars(args)
    config.check()
    words = "args is TRL's GRPOConfig: training with estimator=%r, deploy_n=%d. Use TailGRPOConfig to choose."
    logger.warning(words, config.estimator, config.deploy_n)
    return config


def _without_accelerator(config: Any) -> None:
    """Train on the CPU, in float32, where there is nothing else and no precision was asked for.

    TRL's own default is bfloat16, which many processors emulate slowly; transformers refuses it without `use_cpu`.
    """
    if config.bf16 is None and not config.fp16 and not torch.accelerator.is_available():
        config.bf16 = False
        if not config.use_cpu:
            config.use_cpu = True
            logger.warning("There is no GPU here: training on the CPU, in float32.")
