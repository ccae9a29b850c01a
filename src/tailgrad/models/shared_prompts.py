"""Keys and values of prompts, each read once for all of its responses: in generation, and in a pass with gradient."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Any, Final

import torch
from jaxtyping import Int
from torch import Tensor

_UNSHARED: Final = {"num_beams": 1, "guidance_scale": 1, "use_cache": True, "cache_implementation": None}
"""Settings with which rows do not simply go on from one cache, and the value beside None that is without that."""


def shared_prompts(
    model: Any, input_ids: Int[Tensor, "b L"], mask: Int[Tensor, "b L"], generation_config: Any
) -> dict[str, Any]:
    """Return what to give `generate`, beside a batch of prompts, so that each different prompt is read once.

    Args:
        model: The policy.
        input_ids: The prompts, padded on the left.
        mask: 1 where a token is not padding.
        generation_config: How responses are generated; what it leaves open is the model's own, as in `generate`.

    Returns:
        The cache of all but the last token by the model's name for it; empty where no prompt is there twice, where
        beams, guidance or another kind of cache are asked for, or the model keeps anything but keys and values of all
        tokens.
    """
    how = {name: _setting(model, generation_config, name) for name in _UNSHARED}
    if input_ids.shape[1] < 2 or any(how[name] not in (None, off) for name, off in _UNSHARED.items()):
        return {}
    with torch.no_grad():
        return _cache_of_rows(model, input_ids, mask, counted=True)


def once_per_prompt(model: Any, response_length: int) -> Callable[..., Any]:
    """Return a forward pass for log-probabilities that reads each different prompt of a batch once.

    What it returns and its gradient are those of the model's own pass: keys and values of a prompt go on to all of its
    responses, and their gradients come back added up. The model may have no dropout, which differs by row.

    Args:
        model: The policy; or a wrapper that may be called twice before one backward pass, so none of several processes.
        response_length: Tokens at the end of each row that are the response, with its padding.

    Returns:
        A function of `input_ids`, `attention_mask` and `labels` `[b, L + T]`, padded on the left of the prompt and on
        the right of the response; what it returns begins at the last token of the prompt `[b, 1 + T]`. Where no prompt
        is there twice, where the model keeps anything but keys and values of all tokens, and for a batch with more than
        tokens, it is the model's own pass.
    """

    def forward(*, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, **others: Any) -> Any:
        start = input_ids.shape[1] - response_length - 1
        given: dict[str, Any] = {}
        if start > 0 and others.keys() <= {"fused_lm_head"}:
            given = _cache_of_rows(model, input_ids[:, : start + 1], attention_mask[:, : start + 1], counted=False)
        if not given:
            return model(input_ids=input_ids, attention_mask=attention_mask, labels=labels, **others)
        rest = {"input_ids": input_ids[:, start:], "labels": labels[:, start:]}
        outputs = model(**rest, attention_mask=attention_mask, **given, **others)
        if next(iter(given.values())).get_seq_length() != input_ids.shape[1]:
            raise RuntimeError(f"{type(model).__name__} did not read the keys and values of the prompts it was given.")
        return outputs

    return forward


def _cache_of_rows(
    model: Any, input_ids: Int[Tensor, "b L"], mask: Int[Tensor, "b L"], *, counted: bool
) -> dict[str, Any]:
    """The cache of all but each row's last token, by the model's name for it; empty where no row is there twice."""
    distinct, which = torch.unique(torch.stack([input_ids, mask]), dim=1, return_inverse=True)
    if distinct.shape[1] == len(input_ids):
        return {}
    cache = cache_of(model, *distinct[:, :, :-1], counted=counted)
    if cache is None:
        return {}
    cache.batch_select_indices(which)
    return {cache_name(model): cache}


def cache_of(
    model: Any, input_ids: Int[Tensor, "b L"], mask: Int[Tensor, "b L"], *, counted: bool = True
) -> Any | None:
    """Return keys and values of tokens; None for a model that keeps anything else.

    Args:
        model: The policy.
        input_ids: The tokens, padded on the left.
        mask: 1 where a token is not padding.
        counted: Positions count tokens without padding, as in `generate`; else they are the model's own.
    """
    from transformers.cache_utils import DynamicCache, DynamicLayer

    inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": mask, "use_cache": True}
    if counted and "position_ids" in accepted(model):
        inputs["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
    cache = getattr(model(**inputs, **last_logits(model, 1)), cache_name(model), None)
    if not isinstance(cache, DynamicCache) or any(type(layer) is not DynamicLayer for layer in cache.layers):
        return None
    return cache


def _setting(model: Any, generation_config: Any, name: str) -> Any:
    given = getattr(generation_config, name, None)
    return getattr(model.generation_config, name, None) if given is None else given


def cache_name(model: Any) -> str:
    """What the model calls its keys and values; transformers 5.24 renamed them."""
    return "cache" if "cache" in accepted(model) else "past_key_values"


def last_logits(model: Any, kept: int) -> dict[str, int]:
    """The option that keeps the logits of the last positions only, where the model has it."""
    return {"logits_to_keep": kept} if "logits_to_keep" in accepted(model) else {}


def accepted(model: Any) -> Collection[str]:
    """Names of the arguments of a forward pass; an adapter hands on those of the model under it."""
    under = model.get_base_model() if hasattr(model, "get_base_model") else model
    return inspect.signature(under.forward).parameters
