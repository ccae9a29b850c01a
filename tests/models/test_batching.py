"""Architectures that give a text other numbers in a batch than alone are found."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    RecurrentGemmaConfig,
    RwkvConfig,
)

from tailgrad.models.batching import EXACT, ROUNDED, allowed, check_batches
from tiny_configs import TINY_CONFIGS, tiny_model

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 5, 6, 7, 8, 9, 10, 5, 6]]
TOKENIZER = SimpleNamespace(eos_token_id=2, pad_token_id=2, bos_token_id=1)
MIXED: dict[str, Any] = {
    "recurrent_gemma": RecurrentGemmaConfig(
        vocab_size=12, hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, lru_width=16
    ),
    "rwkv": RwkvConfig(vocab_size=12, hidden_size=16, attention_hidden_size=16, num_hidden_layers=2),
}


def visible(config: Any) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.4)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", TINY_CONFIGS)
def test_those_that_keep_rows_apart_pass_and_the_random_numbers_stay(kind: str, dtype: torch.dtype) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    model = tiny_model(kind).to(dtype)
    torch.manual_seed(7)
    check_batches(model, TOKENIZER, PROMPTS, name=kind)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("kind", MIXED)
def test_those_that_read_padding_or_other_rows_are_refused(kind: str) -> None:
    with pytest.raises(ValueError, match=rf"model 'mine' \({kind}\) gives .* Give --batch_size 1"):
        check_batches(visible(MIXED[kind]), TOKENIZER, PROMPTS, name="mine")


def test_where_no_prompt_is_padded_recurrent_gemma_passes() -> None:
    check_batches(visible(MIXED["recurrent_gemma"]), TOKENIZER, [[5, 6, 7], [8, 9, 10]], name="mine")


def test_prompts_are_cut_to_the_positions_that_there_are() -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(GPT2Config(vocab_size=12, n_embd=16, n_layer=1, n_head=2, n_positions=8))
    check_batches(model.eval(), TOKENIZER, [[5], [6] * 30], name="mine")


def test_the_coarsest_precision_counts() -> None:
    model = tiny_model("llama")
    assert allowed(model) == EXACT
    model.lm_head.to(torch.bfloat16)  # its first weights, whose dtype is `model.dtype`, are in 32 bits
    assert allowed(model) == ROUNDED
    exact = tiny_model("llama")
    exact.is_quantized = True
    assert allowed(exact) == ROUNDED
    with torch.autocast("cpu", torch.bfloat16):
        assert allowed(tiny_model("llama")) == ROUNDED
