"""Responses that leave the batch when they end, against those of one plain call of transformers' `generate`."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GenerationConfig

from tailgrad.models import tokens as under_test
from tailgrad.models.chosen import ChosenLogprobs
from tailgrad.models.generate import pad_tokens
from tailgrad.models.tokens import generate_tokens, lengths
from tiny_configs import KEEP_ALL_TOKENS, TINY_CONFIGS, tiny_model

PROMPTS = [[5, 6, 7, 8, 9], [10, 11], [5, 6, 7, 8, 9], [10, 11], *([i] for i in range(3, 12))]
SETTINGS: dict[str, Any] = {"max_new_tokens": 13, "pad_token_id": 1, "eos_token_id": [2, 3]}


def rows_generated(model: Any, **settings: Any) -> tuple[Tensor, list[float], list[int]]:
    """Responses, their log-probabilities, and the rows of each call of `generate`."""
    calls: list[int] = []
    own = model.generate

    def counting(**given: Any) -> Any:
        calls.append(len(given["input_ids"]))
        return own(**given)

    ids, mask = pad_tokens(PROMPTS, 1, model.device, side="left")
    chosen = ChosenLogprobs(1.0)
    config = GenerationConfig(**SETTINGS | settings)
    found = generate_tokens(model, ids, mask, config, chosen=chosen, own_generate=counting)
    return found[:, ids.shape[1] :], chosen.logprobs, calls


@pytest.mark.parametrize("kind", TINY_CONFIGS)
def test_the_most_likely_tokens_in_pieces(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "PIECE", 3)
    model = tiny_model(kind, seed=5)
    ids, mask = pad_tokens(PROMPTS, 1, model.device, side="left")
    config = GenerationConfig(**SETTINGS, do_sample=False)
    theirs = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)[:, ids.shape[1] :]
    ours, logprobs, calls = rows_generated(model, do_sample=False)
    assert torch.equal(ours, theirs)
    assert len(logprobs) == len(PROMPTS)
    if kind in KEEP_ALL_TOKENS:
        assert calls[0] == len(PROMPTS)
        assert calls == sorted(calls, reverse=True)
        assert 1 < len(calls) <= 5
    else:
        assert calls == [len(PROMPTS)]


def test_responses_end_at_different_pieces() -> None:
    """Or the test above would prove nothing of them."""
    ours, _, _ = rows_generated(tiny_model("llama", seed=5), do_sample=False)
    assert len(set(lengths(ours, torch.tensor([2, 3])).tolist())) > 2


@pytest.mark.parametrize("settings", [{"temperature": 0.7}, {"top_k": 3}, {"top_p": 0.8, "repetition_penalty": 1.3}])
def test_log_probabilities_are_summed_over_pieces(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the same responses in one plain forward pass; a penalty acts on logits, so that it is left out there."""
    monkeypatch.setattr(under_test, "PIECE", 4)
    model = tiny_model("llama", seed=5)
    torch.manual_seed(0)
    found, logprobs, calls = rows_generated(model, **{"do_sample": True, "top_k": 0} | settings)
    assert len(calls) > 1
    if "repetition_penalty" in settings:
        return
    for prompt, row, length, logprob in zip(
        PROMPTS, found, lengths(found, torch.tensor([2, 3])), logprobs, strict=True
    ):
        with torch.no_grad():
            logits = model(input_ids=torch.cat([torch.tensor(prompt), row[:length]])[None]).logits[0].double()
        of_each = logits.log_softmax(-1)[len(prompt) - 1 : -1].gather(-1, row[:length, None])
        assert logprob == pytest.approx(of_each.sum().item(), abs=1e-4)


@pytest.mark.parametrize(
    "settings",
    [{"min_new_tokens": 5}, {"exponential_decay_length_penalty": (2, 1.5)}, {"return_dict_in_generate": True}],
)
def test_what_counts_from_the_prompt_is_generated_at_once(settings: dict[str, Any]) -> None:
    model, calls = tiny_model("llama", seed=5), []
    own = model.generate

    def counting(**given: Any) -> Any:
        calls.append(given)
        return own(**given)

    ids, mask = pad_tokens(PROMPTS, 1, model.device, side="left")
    config = GenerationConfig(**SETTINGS | {"max_new_tokens": 40}, do_sample=True, top_k=0, **settings)
    generate_tokens(model, ids, mask, config, own_generate=counting)
    (call,) = calls
    assert call["generation_config"] is config
    assert "logits_processor" not in call


def test_a_response_may_end_with_token_0_of_the_models_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "PIECE", 3)
    model = tiny_model("llama", seed=5)
    ids, mask = pad_tokens(PROMPTS, 1, model.device, side="left")
    with torch.no_grad():
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            layer.weight[[0, 8]] = layer.weight[[8, 0]]  # a token that some responses reach
    model.generation_config.eos_token_id = 0
    config = GenerationConfig(max_new_tokens=13, pad_token_id=1, do_sample=False)
    theirs = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
    assert 0 < (theirs == 0).any(-1).sum() < len(PROMPTS)
    assert torch.equal(generate_tokens(model, ids, mask, config), theirs)
