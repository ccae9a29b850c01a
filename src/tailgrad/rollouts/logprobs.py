"""Log-probabilities of given responses under a policy."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tailgrad.rollouts.generate import pad_tokens

_LOGITS_BUDGET = 2**28
"""Most float32 logits held at once (1 GiB)."""
_SHARED = 8
"""From so many responses on, the prompt they have in common is read once for the batch."""


def response_logprobs(
    model: Any,
    prompt_token_ids: list[list[int]],
    response_token_ids: list[list[int]],
    *,
    temperature: float = 1.0,
    batch_size: int = 256,
) -> Float[np.ndarray, " B"]:
    """Return the log-probability of each response given its prompt.

    `sum_t log_softmax(logits_t / temperature)[token_t]` over the response's tokens with the end token, and
    over the whole vocabulary: top_p and top_k do not enter.

    Args:
        model: The policy or the reference policy.
        prompt_token_ids: Token ids, one list a response.
        response_token_ids: Token ids, one list a response.
        temperature: Divides the logits; above 0.
        batch_size: Most responses in one forward pass; fewer where the vocabulary is large.

    Returns:
        Log-probabilities in nats `[B]`, float64.
    """
    pairs = list(zip(prompt_token_ids, response_token_ids, strict=True))
    logprobs = np.empty(len(pairs), dtype=np.float64)
    for together in _by_prompt(prompt_token_ids):
        rows = sorted(together, key=lambda i: len(pairs[i][0]) + len(pairs[i][1]), reverse=True)
        size = _rows_in_budget(model, [pairs[i] for i in rows], batch_size)
        for start in range(0, len(rows), size):
            batch = rows[start : start + size]
            prompts, responses = zip(*(pairs[i] for i in batch), strict=True)
            logprobs[batch] = _batch_logprobs(model, prompts, responses, temperature).cpu().numpy()
    return logprobs


def _by_prompt(prompts: list[list[int]]) -> Iterator[list[int]]:
    """Rows that go together: those of each prompt that has many, then all the others."""
    rows: dict[tuple[int, ...], list[int]] = {}
    for i, prompt in enumerate(prompts):
        rows.setdefault(tuple(prompt), []).append(i)
    yield from (same for same in rows.values() if len(same) >= _SHARED)
    yield [i for same in rows.values() if len(same) < _SHARED for i in same]


def _rows_in_budget(model: Any, pairs: list[tuple[list[int], list[int]]], batch_size: int) -> int:
    lengths = [len(prompt) for prompt, _ in pairs]
    kept = max((len(response) for _, response in pairs), default=1) + max(lengths, default=0) - min(lengths, default=0)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    return max(1, min(batch_size, _LOGITS_BUDGET // (vocabulary * (kept + 1))))


def _batch_logprobs(
    model: Any, prompts: Sequence[list[int]], responses: Sequence[list[int]], temperature: float
) -> Float[Tensor, " b"]:
    with torch.no_grad():
        cache = _cache_of_prompt(model, prompts)
        cached = 0 if cache is None else len(prompts[0]) - 1
        prompts = [prompt[cached:] for prompt in prompts]
        rows = [prompt + response for prompt, response in zip(prompts, responses, strict=True)]
        input_ids, mask = pad_tokens(rows, 0, model.device, side="right")  # a causal model does not see what is right
        length = input_ids.shape[1]
        kept = length - min(map(len, prompts)) + 1
        mask = torch.cat([mask.new_ones(len(rows), cached), mask], dim=1)
        inputs = {"input_ids": input_ids, "attention_mask": mask, "use_cache": cache is not None}
        inputs |= {} if cache is None else {"past_key_values": cache}
        logits = model(**inputs, **_last_logits(model, kept)).logits[:, -kept:][:, :-1].float() / temperature
    targets = input_ids[:, -(kept - 1) :]
    chosen = logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)
    positions = torch.arange(length - kept + 1, length, device=model.device)
    first = torch.tensor([len(prompt) for prompt in prompts], device=model.device).unsqueeze(1)
    last = torch.tensor([len(row) for row in rows], device=model.device).unsqueeze(1)
    in_response = (positions >= first) & (positions < last)
    return torch.where(in_response, chosen.double(), 0.0).sum(-1)


def _cache_of_prompt(model: Any, prompts: Sequence[list[int]]) -> Any | None:
    """Keys and values of all but the last token of the one prompt of all rows.

    None where the rows are few or have several prompts, and where the model keeps more than keys and values of
    every token (sliding windows, recurrent states).
    """
    from transformers.cache_utils import DynamicCache, DynamicLayer

    if len(prompts) < _SHARED or len(prompts[0]) < 2 or any(prompt != prompts[0] for prompt in prompts):
        return None
    start = torch.tensor([prompts[0][:-1]], device=model.device)
    cache = getattr(model(input_ids=start, use_cache=True, **_last_logits(model, 1)), "past_key_values", None)
    if not isinstance(cache, DynamicCache) or any(type(layer) is not DynamicLayer for layer in cache.layers):
        return None
    cache.batch_repeat_interleave(len(prompts))
    return cache


def _last_logits(model: Any, kept: int) -> dict[str, int]:
    """The option that keeps the logits of the last positions only, where the model has it."""
    return {"logits_to_keep": kept} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
