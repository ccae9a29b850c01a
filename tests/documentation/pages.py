"""The pages' fenced blocks, and the tiny models and data that stand in for those that they name."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WORDS = ["<pad>", "<end>", "name", "a", "prime", "seven", "two", "three", "the", "sea", "blue", "old"]


class Block(NamedTuple):
    """A fenced block of a page; shells have no language or bash."""

    page: Path
    number: int
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.number}"


def blocks_of(page: Path) -> list[Block]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [Block(page, number, language or "bash", text) for number, (language, text) in enumerate(found, start=1)]


def save_models(folder: Path, *, policies: Sequence[str] = (), reward_models: Sequence[str] = ()) -> None:
    """Save models of one small layer, in folders that carry the names of hub models; each has its own weights."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        LlamaForSequenceClassification,
        PreTrainedTokenizerFast,
        set_seed,
    )

    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="a"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<end>", unk_token="a")
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = LlamaConfig(
        vocab_size=len(WORDS),
        max_position_embeddings=4096,
        initializer_range=0.3,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
        num_labels=1,
        **sizes,
    )
    kinds = [*((name, LlamaForCausalLM) for name in policies)]
    kinds += [(name, LlamaForSequenceClassification) for name in reward_models]
    for seed, (name, kind) in enumerate(kinds):
        set_seed(seed)
        kind(config).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)


def save_prompts(path: Path, prompts: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
