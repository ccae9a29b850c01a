"""A policy's modules without their weights: what can be asked of a model before it is loaded."""

from __future__ import annotations

from typing import Any

from tailgrad.models.loading import check_model_name, model_errors, model_path
from tailgrad.models.model_files import weight_options


def skeleton(name: str, *, revision: str | None = None) -> Any:
    """Return a causal language model as `load_policy` would load it, with parameters that have shapes and no values.

    Args:
        name: Hub name or local folder (also of a PEFT adapter).
        revision: Branch, tag or commit of the hub.

    Returns:
        The model, on torch's meta device.

    Raises:
        FileNotFoundError: There is no such folder, or the hub does not give the model.
        ValueError: It is not a causal language model.
    """
    check_model_name(name, "model")
    from transformers import AutoModelForCausalLM

    options: dict[str, Any] = {"revision": revision, "device_map": "meta", "ignore_mismatched_sizes": True}
    options |= weight_options()
    with model_errors(name, "model"):
        return AutoModelForCausalLM.from_pretrained(model_path(name), **options)
