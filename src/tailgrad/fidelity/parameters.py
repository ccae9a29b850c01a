"""What a response's gradient is taken with respect to: all parameters, those of the last blocks, or a LoRA adapter."""

from __future__ import annotations

import re
from typing import Any, Final

LARGE: Final = 20_000_000
"""With more parameters than this the gradient is taken with respect to a LoRA adapter, unless told otherwise."""

LORA: Final = "lora"
ALL: Final = "all"
_LAST: Final = re.compile(r"last:([1-9]\d*)")


def check_parameters(parameters: str) -> None:
    """Refuse what names no parameters.

    Args:
        parameters: `lora`, `all` or `last:N`.

    Raises:
        ValueError: It is anything else.

    Examples:
        >>> check_parameters("last:2")
    """
    if parameters not in (LORA, ALL) and not _LAST.fullmatch(parameters):
        raise ValueError(
            f"parameters is {parameters!r}; it must be lora, all, or last:N with the number of the last blocks, such "
            "as last:2."
        )


def default_parameters(model: Any) -> str:
    """Which parameters are taken where nobody says.

    Args:
        model: The policy; its weights are not needed.

    Returns:
        `all`, or `lora` of a model with more than `LARGE` parameters.
    """
    return LORA if sum(parameter.numel() for parameter in model.parameters()) > LARGE else ALL


def parameter_names(model: Any, parameters: str) -> list[str]:
    """Names of the policy's own parameters that are differentiated.

    Those of the last N blocks are all that stand in them: attention, MLP, norms, biases; not the norm after the last
    block and not the output head.

    Args:
        model: The policy; its weights are not needed.
        parameters: `all` or `last:N`.

    Returns:
        The names, in the model's order.

    Raises:
        ValueError: The model has not so many blocks, or they share parameters with the rest.
    """
    names = [name for name, _ in model.named_parameters()]
    if parameters == ALL:
        return names
    last = int(parameters.removeprefix("last:"))
    path, count = _blocks(model)
    if last > count:
        raise ValueError(f"parameters is {parameters!r}, and the model has {count} blocks; take last:{count} or less.")
    prefixes = tuple(f"{path}.{block}." for block in range(count - last, count))
    every = {name for name, _ in model.named_parameters(remove_duplicate=False) if name.startswith(prefixes)}
    if shared := sorted(every - set(names)):
        raise ValueError(
            f"parameters is {parameters!r}, and a block among them shares {shared[0]} with an earlier one. Take all "
            "or lora."
        )
    return [name for name in names if name in every]


def _blocks(model: Any) -> tuple[str, int]:
    """Where the model keeps its blocks, and how many it has."""
    from torch.nn import ModuleList

    count = model.config.get_text_config().num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, ModuleList) and len(module) == count:
            return name, count
    raise ValueError(f"parameters is last:N, and the model has no list of its {count} blocks. Take all or lora.")
