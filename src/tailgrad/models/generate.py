"""The transformers engine: load a policy and sample its responses in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from tailgrad.models.chosen import ChosenLogprobs
from tailgrad.models.probabilities import probabilities_are_numbers
from tailgrad.models.tokens import generate_tokens, lengths


def end_token_ids(model: Any, tokenizer: Any, given: list[int] | None = None) -> list[int]:
    """Return every token that ends a response, as TRL counts them: the tokenizer's and the model's.

    Args:
        model: The policy.
        tokenizer: Its tokenizer.
        given: Other end tokens in their place, where generation was asked for with them.

    Returns:
        Token ids; empty where neither names one.
    """
    if given is not None:
        return given
    declared = model.generation_config.eos_token_id
    ids = list(declared) if isinstance(declared, list) else [declared]
    return [i for i in dict.fromkeys([tokenizer.eos_token_id, *ids]) if i is not None]


def generate(
    model: Any,
    tokenizer: Any,
    prompt_token_ids: Sequence[list[int]],
    *,
    n: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = 0,
    max_new_tokens: int = 512,
    batch_size: int = 256,
    chosen: ChosenLogprobs | None = None,
    **others: Any,
) -> list[list[list[int]]]:
    """Sample n responses to each prompt with torch's global random numbers.

    Each prompt is read once per batch. What is given shapes the responses and nothing else: of the model's own
    generation config only the end tokens are used. `tailgrad.rollouts.generation` says what to give.

    Args:
        model: The policy.
        tokenizer: Its tokenizer.
        prompt_token_ids: Token ids, one list per prompt.
        n: Responses per prompt.
        temperature: Divides the logits; above 0.
        top_p: Nucleus, in (0, 1]; 1 is off.
        top_k: Only the k most likely tokens; 0 is off.
        max_new_tokens: Most tokens of a response, end token included.
        batch_size: Responses sampled at once.
        chosen: Keeps the log-probabilities of the responses, if given.
        **others: Further settings of transformers' `GenerationConfig`.

    Returns:
        For each prompt n responses: token ids, the first end token the last, or `max_new_tokens` ids.
    """
    from transformers import GenerationConfig

    end_ids = end_token_ids(model, tokenizer, others.pop("eos_token_id", None))
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (end_ids or [0])[0]
    generation_config = GenerationConfig(
        **{"do_sample": True, **others},
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        max_new_tokens=max_new_tokens,
        pad_token_id=pad,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=end_ids or None,
        disable_compile=True,
    )
    rows = [ids for ids in prompt_token_ids for _ in range(n)]
    responses: list[list[int]] = []
    with torch.no_grad(), probabilities_are_numbers(), _generation_config(model, generation_config):
        for start in range(0, len(rows), batch_size):
            input_ids, mask = pad_tokens(rows[start : start + batch_size], pad, model.device, side="left")
            tokens = generate_tokens(model, input_ids, mask, generation_config, chosen=chosen)
            new_tokens = tokens[:, input_ids.shape[1] :]
            kept = lengths(new_tokens, torch.tensor(end_ids, dtype=torch.long, device=tokens.device))
            responses += [row[:length] for row, length in zip(new_tokens.tolist(), kept.tolist(), strict=True)]
    return [responses[start : start + n] for start in range(0, len(rows), n)]


def pad_tokens(
    rows: list[list[int]], pad: int, device: torch.device, *, side: str
) -> tuple[Int[Tensor, "b L"], Int[Tensor, "b L"]]:
    """Pad rows of token ids to one length.

    Args:
        rows: Token ids.
        pad: The id to fill with.
        device: Where the tensors go.
        side: "left" or "right".

    Returns:
        The padded ids `[b, L]` and the mask of the ones that are not padding, 0 or 1 `[b, L]`.
    """
    length = max(map(len, rows))
    ids = [([pad] * (length - len(r)) + r) if side == "left" else (r + [pad] * (length - len(r))) for r in rows]
    fill = [([0] * (length - len(r)) + [1] * len(r)) for r in rows]
    mask = fill if side == "left" else [row[::-1] for row in fill]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


@contextmanager
def _generation_config(model: Any, generation_config: Any) -> Iterator[None]:
    """Put our generation config in the place of the model's, which `generate` would otherwise mix in."""
    own = model.generation_config
    model.generation_config = generation_config
    try:
        yield
    finally:
        model.generation_config = own
