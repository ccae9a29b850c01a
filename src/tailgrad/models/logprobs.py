"""Log-probabilities of given responses under a policy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tailgrad.models.generate import pad_tokens
from tailgrad.models.shared_prompts import cache_name, cache_of, last_logits

_LOGITS_BUDGET = 2**28
"""Most float32 logits held at once (1 GiB)."""
_BUSY_CPU = 256
"""From so many tokens on, a forward pass on a CPU takes no longer per token than with more of them."""


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
    over the whole vocabulary: top_p and top_k do not enter. A prompt with responses enough for a batch of their own is
    read once a batch; that takes the memory that generating the batch takes.

    Args:
        model: The policy or the reference policy.
        prompt_token_ids: Token ids, one list per response.
        response_token_ids: Token ids, one list per response.
        temperature: Divides the logits; above 0.
        batch_size: Most responses in one forward pass; fewer where the vocabulary is large.

    Returns:
        Log-probabilities in nats `[B]`, float64.
    """
    pairs = list(zip(prompt_token_ids, response_token_ids, strict=True))
    logprobs = np.empty(len(pairs), dtype=np.float64)
    for together, shared in _by_prompt(model, prompt_token_ids, _enough(model, pairs, batch_size)):
        rows = sorted(together, key=lambda i: len(pairs[i][0]) + len(pairs[i][1]), reverse=True)
        size = _rows_in_budget(model, [pairs[i] for i in rows], batch_size)
        for start in range(0, len(rows), size):
            batch = rows[start : start + size]
            prompts, responses = zip(*(pairs[i] for i in batch), strict=True)
            cache = _cache_of(model, prompts[0][:-1], len(batch)) if shared else None
            with torch.no_grad():
                logprobs[batch] = batch_logprobs(model, prompts, responses, temperature, cache).cpu().numpy()
    return logprobs


def _by_prompt(model: Any, prompts: list[list[int]], enough: int) -> Iterator[tuple[list[int], bool]]:
    """Rows that go together, and whether they share a prompt: those of each prompt with many, then the others."""
    rows: dict[tuple[int, ...], list[int]] = {}
    for i, prompt in enumerate(prompts):
        rows.setdefault(tuple(prompt), []).append(i)
    often = [prompt for prompt, same in rows.items() if len(same) >= enough and len(prompt) > 1]
    if often and _cache_of(model, list(often[0][:-1]), 1) is not None:
        yield from ((rows.pop(prompt), True) for prompt in often)
    yield [i for same in rows.values() for i in same], False


def _enough(model: Any, pairs: list[tuple[list[int], list[int]]], batch_size: int) -> int:
    """How many responses of a prompt are a batch of their own: half a full one; a CPU is busy with fewer tokens."""
    half = _rows_in_budget(model, pairs, batch_size) // 2
    if model.device.type == "cpu":
        half = min(half, _BUSY_CPU // max((len(response) for _, response in pairs), default=1))
    return max(2, half)


def _rows_in_budget(model: Any, pairs: list[tuple[list[int], list[int]]], batch_size: int) -> int:
    lengths = [len(prompt) for prompt, _ in pairs]
    kept = max((len(response) for _, response in pairs), default=1) + max(lengths, default=0) - min(lengths, default=0)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    return max(1, min(batch_size, _LOGITS_BUDGET // (vocabulary * (kept + 1))))


def batch_logprobs(
    model: Any,
    prompts: Sequence[list[int]],
    responses: Sequence[list[int]],
    temperature: float = 1.0,
    cache: Any | None = None,
) -> Float[Tensor, " b"]:
    """Return the log-probabilities of responses in one forward pass; they can be differentiated.

    Args:
        model: The policy.
        prompts: Token ids, one list per response.
        responses: Token ids, one list per response.
        temperature: Divides the logits; above 0.
        cache: That of all but the last token of the prompt, where all rows have one prompt.

    Returns:
        Log-probabilities in nats, float64.
    """
    cached = 0 if cache is None else len(prompts[0]) - 1
    prompts = [prompt[cached:] for prompt in prompts]
    rows = [prompt + response for prompt, response in zip(prompts, responses, strict=True)]
    input_ids, mask = pad_tokens(rows, 0, model.device, side="right")  # a causal model does not see what is right
    length = input_ids.shape[1]
    kept = length - min(map(len, prompts)) + 1
    mask = torch.cat([mask.new_ones(len(rows), cached), mask], dim=1)
    inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": mask, "use_cache": cache is not None}
    inputs |= {} if cache is None else {cache_name(model): cache}
    logits = model(**inputs, **last_logits(model, kept)).logits[:, -kept:][:, :-1].float() / temperature
    targets = input_ids[:, -(kept - 1) :]
    chosen = logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)
    positions = torch.arange(length - kept + 1, length, device=model.device)
    first = torch.tensor([len(prompt) for prompt in prompts], device=model.device).unsqueeze(1)
    last = torch.tensor([len(row) for row in rows], device=model.device).unsqueeze(1)
    in_response = (positions >= first) & (positions < last)
    return torch.where(in_response, chosen.double(), 0.0).sum(-1)


def _cache_of(model: Any, tokens: list[int], rows: int) -> Any | None:
    """Keys and values of the tokens, for so many rows; None for a model that keeps anything else."""
    given = torch.tensor([tokens], device=model.device)
    with torch.no_grad():
        cache = cache_of(model, given, torch.ones_like(given))
    if cache is not None:
        cache.batch_repeat_interleave(rows)
    return cache
