"""What to differentiate, and with respect to what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from tailgrad.fidelity.lora import ALPHA, RANK, default_targets, target_layers
from tailgrad.fidelity.parameters import LORA, check_parameters, default_parameters, parameter_names
from tailgrad.models.skeleton import skeleton

DTYPES: Final = ("float32", "bfloat16")


@dataclass(frozen=True)
class GradientConfig:
    """What `sketch_gradients` needs to know.

    Attributes:
        table: A rollout table with token ids, whose sampling was shaped by nothing but a temperature.
        model_name_or_path: The policy that sampled it: hub name or local folder.
        out: Folder of the sketches; those that are there are kept.
        parameters: What the gradient is taken with respect to: `lora` (B of a fresh adapter), `last:N` (the last N
            blocks) or `all`. None is `all` up to 20 million parameters, and `lora` above.
        lora_r: Rank of that adapter; None is 16.
        lora_target_modules: Its layers, as PEFT names them: `q_proj`, ..., a regular expression, or `all-linear`. None
            is PEFT's choice for the type of model.
        dim: Length of a sketch.
        batch_size: Responses differentiated at once; fewer where the policy is large.
        seed: Seed of the sketch, and of the adapter's A.
        model_revision: Revision of the policy on the hub.
        dtype: Precision of the policy, float32 or bfloat16; gradients are summed up in float32.
        device: A torch device name; None is the GPU where there is one, else the CPU.
    """

    table: str | Path
    model_name_or_path: str
    out: str | Path
    dim: int = 4096
    batch_size: int = 32
    seed: int = 0
    model_revision: str | None = None
    device: str | None = None
    parameters: str | None = None
    lora_r: int | None = None
    lora_target_modules: Sequence[str] | None = None
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name, least in (("dim", 1), ("batch_size", 1), ("seed", 0), ("lora_r", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}; it must be at least {least}.")
        if self.parameters is not None:
            check_parameters(self.parameters)
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype is {self.dtype!r}; it must be one of {', '.join(DTYPES)}.")
        for name in ("lora_r", "lora_target_modules"):
            if self.parameters not in (None, LORA) and getattr(self, name) is not None:
                raise ValueError(f"{name} is given, and parameters is {self.parameters!r}; it belongs to lora.")

    @property
    def by_size(self) -> bool:
        """Whether the policy's size decides what the gradient is taken with respect to."""
        return self.parameters is None and self.lora_r is None and self.lora_target_modules is None

    @property
    def settings(self) -> dict[str, Any]:
        """What is recorded of the parameters and the precision; JSON types."""
        lora = (
            {}
            if self.parameters != LORA
            else {
                "lora_r": self.lora_r,
                "lora_alpha": ALPHA,
                "lora_target_modules": list(self.lora_target_modules or ()),
            }
        )
        return {"parameters": self.parameters, "dtype": self.dtype, **lora}


def complete(config: GradientConfig) -> GradientConfig:
    """Fill in what is left to the policy: the parameters, the adapter's rank and layers.

    Args:
        config: What to differentiate.

    Returns:
        The same, with nothing left open.

    Raises:
        FileNotFoundError: The policy does not exist.
        ValueError: The policy has no such layers or blocks.
    """
    return complete_for(skeleton(config.model_name_or_path, revision=config.model_revision), config)


def complete_for(model: Any, config: GradientConfig) -> GradientConfig:
    """The same for a policy at hand.

    Args:
        model: The policy; its weights are not needed.
        config: What to differentiate.

    Returns:
        The same, with nothing left open.

    Raises:
        ValueError: The policy has no such layers or blocks.
    """
    parameters = config.parameters or (default_parameters(model) if config.by_size else LORA)
    if parameters != LORA:
        parameter_names(model, parameters)
        return replace(config, parameters=parameters)
    targets = tuple(config.lora_target_modules or default_targets(model))
    target_layers(model, targets)
    return replace(config, parameters=LORA, lora_r=config.lora_r or RANK, lora_target_modules=targets)


def described(config: GradientConfig, given: GradientConfig) -> str:
    """Say in one line what the gradients are taken with respect to.

    Args:
        config: From `complete`.
        given: What it was made from.

    Returns:
        The line.

    Examples:
        >>> config = GradientConfig("t", "m", "o", parameters="last:2")
        >>> described(config, config)
        'Gradients with respect to the parameters of the last 2 blocks.'
    """
    if config.parameters != LORA:
        last = (config.parameters or "").partition(":")[2]
        blocks = f"the parameters of the last {last} blocks" if last != "1" else "the parameters of the last block"
        return f"Gradients with respect to {blocks if last else 'all parameters'}."
    layers = ", ".join(config.lora_target_modules or ())
    why = (
        ", as the policy has more than 20 million parameters; --parameters all takes them all" if given.by_size else ""
    )
    return f"Gradients with respect to B of a fresh LoRA adapter (r = {config.lora_r}, {layers}){why}."
