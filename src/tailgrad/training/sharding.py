"""A policy that FSDP or DeepSpeed shards over the processes: what is otherwise then, and what is refused before."""

from __future__ import annotations

import os
from typing import Any, Final

import transformers
from packaging.version import Version
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from tailgrad.models.whole import EMPTY_BUT_ON_THE_FIRST

_SHARDS_REFERENCES: Final = Version("5.23")  # of transformers: FSDP gives each process the weights of a reference


def in_parts(trainer: Any) -> bool:
    """Whether a process holds a part of the policy's weights alone, and so runs it only together with all others.

    Args:
        trainer: With its accelerator.
    """
    return bool(trainer.is_fsdp_enabled or is_deepspeed_zero3_enabled())


def uses_deepspeed(args: Any) -> bool:
    """Whether a configuration is one of a training by DeepSpeed.

    Args:
        args: TRL's configuration.
    """
    return getattr(args, "deepspeed_plugin", None) is not None


def check_sharding(trainer: Any) -> None:
    """Refuse a launch whose policy could not be saved, or whose reference policy would have no weights.

    Args:
        trainer: With its models loaded.

    Raises:
        ValueError: It is such a one.
    """
    if trainer.is_fsdp_enabled:
        plugin = trainer.accelerator.state.fsdp_plugin
        if "FULL_STATE_DICT" not in str(plugin.state_dict_type):
            raise ValueError(
                "FSDP was launched with another fsdp_state_dict_type than FULL_STATE_DICT, with which the policy is "
                "not saved. Launch with --fsdp_state_dict_type FULL_STATE_DICT."
            )
        empty = os.environ.get(EMPTY_BUT_ON_THE_FIRST, "").lower() == "true"
        if trainer.ref_model is not None and empty and Version(transformers.__version__) < _SHARDS_REFERENCES:
            raise ValueError(
                f"beta is {trainer.beta}, and with FSDP transformers {transformers.__version__} leaves the reference "
                "policy without weights on all processes but the first. Launch with "
                "--fsdp_cpu_ram_efficient_loading false, or install transformers 5.23."
            )
    if is_deepspeed_zero3_enabled():
        zero = trainer.accelerator.deepspeed_plugin.deepspeed_config.get("zero_optimization", {})
        if not zero.get("stage3_gather_16bit_weights_on_model_save"):
            raise ValueError(
                "DeepSpeed was launched with ZeRO 3 and without zero3_save_16bit_model, so that the policy is not "
                "saved. Launch with --zero3_save_16bit_model true."
            )


def not_sharded(trainer: Any) -> str | None:
    """Say that the FSDP that accelerate was launched with does not act: on a CPU it does not.

    Args:
        trainer: With its accelerator.

    Returns:
        A warning; None where it acts, or was not asked for.
    """
    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() != "true" or trainer.is_fsdp_enabled:
        return None
    return (
        "accelerate was launched with FSDP and does not use it, since it does so on GPUs alone: each of "
        f"{trainer.accelerator.num_processes} processes holds the whole policy."
    )
