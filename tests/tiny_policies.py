"""Tiny policies with random weights saved to disk, prompts, and rewards: fixtures of the folders that import them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = [
    "[UNK]",
    "[PAD]",
    "</s>",
    "<user>",
    "<assistant>",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
]
CHAT_TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} </s> {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)
PROMPTS = ["one two three", "four", "five six", "seven one one four two", "three"]


def save_policy(
    path: Path,
    *,
    architecture: str = "llama",
    seed: int = 0,
    pad_token: str | None = None,
    chat_template: str | None = None,
    vocab_size: int = len(WORDS),
) -> Path:
    """Save a policy with random weights of visible size, so that its logits differ from uniform."""
    torch.manual_seed(seed)
    common: dict[str, Any] = {"vocab_size": vocab_size, "bos_token_id": None, "eos_token_id": 2}
    model: Any
    if architecture == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=64, **common))
    else:
        sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        model = LlamaForCausalLM(LlamaConfig(max_position_embeddings=64, **sizes, **common))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    model.save_pretrained(path)
    save_tokenizer(path, pad_token=pad_token, chat_template=chat_template)
    return path


def save_tokenizer(path: Path, *, pad_token: str | None, chat_template: str | None) -> None:
    """Save a tokenizer of words."""
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="[UNK]", eos_token="</s>", pad_token=pad_token
    )
    tokenizer.chat_template = chat_template
    tokenizer.save_pretrained(path)


def save_prompts(path: Path, prompts: list[Any], column: str = "prompt", **columns: list[Any]) -> Path:
    rows = [
        {column: prompt, **{name: values[i] for name, values in columns.items()}} for i, prompt in enumerate(prompts)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def word_count(*, completions: list[str], **columns: Any) -> list[float]:
    return [float(len(text.split())) for text in completions]


@pytest.fixture(scope="session")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_policy(tmp_path_factory.mktemp("policy"), pad_token="[PAD]")


@pytest.fixture(scope="session")
def chat_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_policy(tmp_path_factory.mktemp("chat_policy"), pad_token="[PAD]", chat_template=CHAT_TEMPLATE)


@pytest.fixture
def make_policy(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str = "policy", **options: Any) -> Path:
        return save_policy(tmp_path / name, **options)

    return make


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return save_prompts(tmp_path / "prompts.jsonl", PROMPTS, answer=["a", "b", "c", "d", "e"])


@pytest.fixture
def options(policy: Path, dataset: Path, tmp_path: Path) -> dict[str, Any]:
    """Arguments of a small SampleConfig."""
    return {
        "model_name_or_path": str(policy),
        "dataset_name": str(dataset),
        "reward_funcs": word_count,
        "out": tmp_path / "rollouts.parquet",
        "n": 4,
        "max_completion_length": 8,
        "batch_size": 8,
    }
