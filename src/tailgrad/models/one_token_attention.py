"""Attention for one token at a time on a CPU, where a fused kernel takes many times as long as two products."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.models.llama.modeling_llama import eager_attention_forward as llama_eager

NAME: Final = "tailgrad_one_token"
"""By which transformers finds it."""
_KNOWN: Final = {"module", "query", "key", "value", "attention_mask", "scaling", "dropout", "is_causal", "kwargs"}
_UNKNOWN: Final = {"softcap"} | inspect.signature(sdpa_attention_forward).parameters.keys() - _KNOWN
"""Arguments that change what the fused kernel computes, besides these."""
_OF_CODE: Final = ("co_code", "co_consts", "co_names", "co_varnames")


def attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attend from one token, with the heads that share keys and values side by side; hand on everything else.

    Args:
        module: The layer.
        query: `[b, H, q, D]`.
        key: `[b, K, T, D]`, where K divides H.
        value: `[b, K, T, D']`.
        attention_mask: True where a token is attended to, or what is added to the products; `[b or 1, 1 or H, q, T]`.
        scaling: Multiplies the products; 1 / sqrt(D) by default.
        dropout: Share of weights that are left out.
        **others: Further arguments of transformers' attention functions.

    Returns:
        `[b, q, H, D']`, and None in the place of the weights.
    """
    plain = not dropout and all(others.get(name) is None for name in _UNKNOWN)
    if query.shape[2] != 1 or torch.is_grad_enabled() or not plain:
        how = {"scaling": scaling, "dropout": dropout, **others}
        return sdpa_attention_forward(module, query, key, value, attention_mask, **how)
    rows, heads, _, width = query.shape
    together = query.reshape(rows, key.shape[1], -1, width)  # [b, K, H / K, D]
    products = (together @ key.transpose(2, 3)).float() * (width**-0.5 if scaling is None else scaling)
    if attention_mask is not None:
        mask = attention_mask.expand(-1, heads, -1, -1).reshape(-1, *products.shape[1:])
        products = products.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else products + mask
    attended = products.softmax(-1).to(value.dtype) @ value
    return attended.reshape(rows, 1, heads, -1), None


@contextmanager
def one_token_attention(model: Any) -> Iterator[None]:
    """Let a policy on a CPU attend so while it generates, where it would take the fused kernel or the same in steps.

    Args:
        model: The policy; an adapter over one will do.
    """
    under = model.get_base_model() if hasattr(model, "get_base_model") else model
    own = under.config._attn_implementation
    known = own == "sdpa" or (own == "eager" and under._supports_sdpa and _eager_is_plain(under))
    if under.device.type != "cpu" or not known or not under._can_set_attn_implementation():
        yield
        return
    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    under.set_attn_implementation(NAME)
    try:
        yield
    finally:
        under.set_attn_implementation(own)


def _eager_is_plain(model: Any) -> bool:
    """Whether a model's attention in steps computes what the fused kernel does: it has the code that Llama has.

    Others cap products, have sinks, or scale by what only the layer knows.
    """
    own = getattr(sys.modules[type(model).__module__], "eager_attention_forward", None)
    codes = [function.__code__ for function in (own, llama_eager) if function is not None]
    return len(codes) == 2 and all(getattr(codes[0], of) == getattr(codes[1], of) for of in _OF_CODE)
