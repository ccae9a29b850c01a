"""Does a model give the same numbers to a text in a batch as alone? Some architectures do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch

from tailgrad.models.chosen import ChosenLogprobs
from tailgrad.models.generate import generate

_LOOKED_AT, _LONGEST, _NEW_TOKENS = 64, 64, 4
"""Prompts of which the shortest and the longest are tried, most tokens of one, and how many are sampled."""

EXACT: Final = 1e-2
"""How far apart numbers in 32 bits may be: rounding makes a thousandth of it."""
ROUNDED: Final = 0.5
"""The same in 16 bits, where rounding makes a tenth of it."""


class MixedRowsError(ValueError):
    """A model gives a text other numbers in a batch than alone."""


def allowed(model: Any) -> float:
    """Return how far apart two computations of one number may be, by the coarsest precision in a model.

    Args:
        model: The model.
    """
    bits = [torch.finfo(one.dtype).bits for one in model.parameters() if one.is_floating_point()]
    is_coarse = getattr(model, "is_quantized", False) or min(bits, default=32) < 32
    return ROUNDED if is_coarse or torch.is_autocast_enabled(model.device.type) else EXACT


def made_up_prompts(tokenizer: Any) -> list[list[int]]:
    """Return a short and a longer prompt, by their tokens.

    Args:
        tokenizer: The policy's.
    """
    return [tokenizer(text)["input_ids"] or [0] for text in ("one", "one two three four five six seven eight")]


def check_batches(
    model: Any,
    tokenizer: Any,
    prompt_token_ids: Sequence[list[int]],
    *,
    name: str,
    instead: str = "Give --batch_size 1",
) -> None:
    """Refuse a policy whose responses in a batch are not those of the policy alone.

    Some recurrent architectures read the padding beside a longer prompt, or mix up the rows of a batch. A few tokens
    are sampled in a batch, and their log-probabilities are computed again one by one. The random numbers of the CPU and
    of CUDA stay as they were.

    Args:
        model: The policy.
        tokenizer: Its tokenizer.
        prompt_token_ids: Prompts that it will be given, by their tokens.
        name: Of the policy, for the message.
        instead: What to do instead, for the message.

    Raises:
        MixedRowsError: As said.
    """
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None) or _LONGEST + _NEW_TOKENS
    longest = max(1, min(_LONGEST, positions - _NEW_TOKENS))
    some = sorted((ids[-longest:] for ids in prompt_token_ids[:_LOOKED_AT]), key=len)
    prompts = [some[0], some[-1]]
    chosen, device = ChosenLogprobs(1.0), model.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        groups = generate(model, tokenizer, prompts, n=2, max_new_tokens=_NEW_TOKENS, chosen=chosen)
    rows = [(prompt, response) for prompt, group in zip(prompts, groups, strict=True) for response in group]
    for (prompt, response), together in zip(rows, chosen.logprobs, strict=True):
        apart = abs(together - _logprob_alone(model, prompt, response)) / len(response)
        if not apart <= allowed(model):
            raise MixedRowsError(
                f"model {name!r} ({model.config.model_type}) gives the tokens of a response other probabilities in a "
                f"batch than alone, {apart:.2g} nats per token: it reads padding, or other rows. {instead}."
            )


def _logprob_alone(model: Any, prompt: list[int], response: list[int]) -> float:
    """The log-probability of a response, by a pass over it alone."""
    ids = torch.tensor([prompt + response], device=model.device)
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, len(prompt) - 1 : -1]
    logprobs = logits.float().log_softmax(dim=-1)
    return float(logprobs.gather(1, ids[0, len(prompt) :, None]).sum())
