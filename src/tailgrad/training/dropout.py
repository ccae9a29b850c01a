"""Dropout of a policy: whether there is any, also where a model applies it without a layer, and turning it off."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch


def dropout_of(model: torch.nn.Module) -> float:
    """Return the largest rate of dropout in a model: of its layers, and of what modules keep to apply it themselves.

    Args:
        model: The model.

    Returns:
        A rate; 0 for none.

    Examples:
        >>> dropout_of(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(0.1)))
        0.1
    """
    layers = [part.p for part in model.modules() if isinstance(part, torch.nn.Dropout)]
    return max([*layers, *(rate for _, _, rate in _rates(model))], default=0.0)


def turn_off_dropout(model: torch.nn.Module) -> None:
    """Turn off the dropout that modules apply themselves, which TRL, looking at layers alone, leaves on.

    Args:
        model: The model, changed in place.
    """
    for part, name, _ in list(_rates(model)):
        setattr(part, name, 0.0)


def check_no_dropout(model: torch.nn.Module) -> None:
    """Refuse to correct old rollouts with dropout: two forward passes of one policy would differ.

    Args:
        model: The model.

    Raises:
        ValueError: There is some.
    """
    rate = dropout_of(model)
    if rate > 0:
        raise ValueError(
            f"off_policy_correction compares probabilities that dropout ({rate:g}) makes noise: set --disable_dropout "
            "true, --lora_dropout 0 with an adapter, or attention_dropout 0 in the policy's config.json."
        )


def _rates(model: torch.nn.Module) -> Iterator[tuple[Any, str, float]]:
    """Modules, the names of their rates, such as OPT's `dropout`, and the rates."""
    for part in model.modules():
        for name, rate in vars(part).items():
            if ("dropout" in name or name == "layerdrop") and isinstance(rate, float) and rate > 0:
                yield part, name, rate
