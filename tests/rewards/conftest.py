"""Tiny reward models saved to disk."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

from tiny_policies import WORDS

CHAT_TEMPLATE = "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} </s> {% endfor %}"


def word_tokenizer(*, begin: bool = False, **options: Any) -> PreTrainedTokenizerFast:
    """A tokenizer of words; with `begin` it puts the end token before plain text, as some do."""
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    if begin:
        tokenizer.post_processor = TemplateProcessing(single="</s> $A", special_tokens=[("</s>", 2)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", eos_token="</s>", **options)


def saved_reward_model(
    path: Path,
    *,
    architecture: str = "llama",
    pad_token_id: int | None = None,
    num_labels: int = 1,
    chat_template: str | None = CHAT_TEMPLATE,
    **tokenizer_options: Any,
) -> Path:
    torch.manual_seed(0)
    common: dict[str, Any] = {
        "vocab_size": len(WORDS),
        "num_labels": num_labels,
        "pad_token_id": pad_token_id,
    }
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model: Any
    if architecture == "gpt2":
        config = GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=64, bos_token_id=2, eos_token_id=2, **common)
        model = GPT2ForSequenceClassification(config)
    elif architecture == "bert":
        model = BertForSequenceClassification(BertConfig(max_position_embeddings=64, **sizes, **common))
    else:
        config = LlamaConfig(max_position_embeddings=64, bos_token_id=None, eos_token_id=2, **sizes, **common)
        model = (LlamaForCausalLM if architecture == "causal" else LlamaForSequenceClassification)(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(path)
    tokenizer = word_tokenizer(**tokenizer_options)
    tokenizer.chat_template = chat_template
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture
def make_reward_model(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str = "rm", **options: Any) -> Path:
        return saved_reward_model(tmp_path / name, **options)

    return make
