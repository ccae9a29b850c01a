"""What a training says before it starts of options that act otherwise than one might think."""

from __future__ import annotations

import logging
from typing import Any

import torch
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from tailgrad.estimators import find_estimator
from tailgrad.models.batching import MixedRowsError, check_batches, made_up_prompts
from tailgrad.training.config import TailGRPOConfig
from tailgrad.training.sharding import uses_deepspeed

logger = logging.getLogger(__name__)


def inert_options(args: TailGRPOConfig) -> str | None:
    """Name TRL's options that act inside the block whose result the estimator replaces.

    Args:
        args: The configuration.

    Returns:
        A warning; None if none of them is set.
    """
    inert = []
    if args.scale_rewards != "group":
        inert.append(f"scale_rewards={args.scale_rewards!r}")
    if args.multi_objective_aggregation != "sum_then_normalize":
        inert.append(f"multi_objective_aggregation={args.multi_objective_aggregation!r}")
    if not inert:
        return None
    return (
        f"{' and '.join(inert)} no longer act{'s' if len(inert) == 1 else ''}: the advantages come from "
        f"estimator={args.estimator!r}. Choose grpo or dr_grpo for GRPO with or without division by the standard "
        "deviation, and --advantage_scaling for their scale."
    )


def masked_after_advantages(args: TailGRPOConfig) -> str | None:
    """Say that responses that were cut off count in their group, though nothing of them is trained on.

    Args:
        args: The configuration.

    Returns:
        A warning; None where nothing is masked, or the estimator is one of the mean, whose advantages all responses
        share.
    """
    if not args.mask_truncated_completions or find_estimator(args.estimator_name).follows_mean:
        return None
    return (
        "mask_truncated_completions takes responses that are cut off out of the loss after "
        f"estimator={args.estimator!r} has made its advantages: where one of them has the largest reward, hardly "
        "anything of its group is trained on. Let the reward tell what is cut off, or raise max_completion_length."
    )


def rounded_by_merging(args: TailGRPOConfig, model: Any) -> str | None:
    """Say that an adapter which is merged for vLLM, and taken out again, rounds the weights that it lies on.

    Args:
        args: The configuration.
        model: The policy.

    Returns:
        A warning; None without vLLM or an adapter, or where the weights are in 32 bits.
    """
    if not (args.use_vllm and hasattr(model, "merge_adapter")):
        return None
    frozen = next((one.dtype for one in model.parameters() if not one.requires_grad), torch.float32)
    instead = "Give --dtype float32; --bf16 keeps the arithmetic in 16 bits."
    if uses_deepspeed(args) and args.bf16:  # it rounds all weights before the first step
        frozen, instead = torch.bfloat16, "Give --bf16 false and --dtype float32, or train without DeepSpeed."
    if torch.finfo(frozen).bits > 16:
        return None
    return (
        f"use_vllm with an adapter on weights in {str(frozen).removeprefix('torch.')}: TRL merges the adapter at every "
        "step and takes it out again, which rounds these weights, and they drift away from the base model that the "
        f"saved adapter is for. {instead}"
    )


def check_generation(trainer: Any) -> None:
    """Refuse a policy whose responses in a batch are not its own, where the trainer generates with it whole and here.

    Args:
        trainer: With its policy loaded.

    Raises:
        MixedRowsError: As `check_batches`.
    """
    tokenizer = getattr(trainer.processing_class, "tokenizer", trainer.processing_class)
    elsewhere = trainer.args.use_vllm or trainer.rollout_func is not None
    if elsewhere or is_deepspeed_zero3_enabled():  # FSDP shards the policy later
        return
    model, was_training = trainer.model, trainer.model.training
    model.eval()
    try:
        instead = "Train another policy, or give --use_vllm true"
        with trainer.accelerator.autocast():  # as in training: some kernels of attention take 16 bits alone
            check_batches(model, tokenizer, made_up_prompts(tokenizer), name=trainer.started_from, instead=instead)
    except MixedRowsError:
        raise
    except Exception as error:  # such as a policy that takes more than made-up prompts
        logger.warning("whether the policy keeps the rows of a batch apart was not checked: %s", error)
    finally:
        model.train(was_training)
