"""A tiny policy saved to disk, prompts, and the options that every trainer test shares."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, set_seed

from tailgrad.quickstart.policy import build_tokenizer
from tailgrad.quickstart.task import build_prompts


@pytest.fixture(scope="session")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy")
    set_seed(0)
    tokenizer = build_tokenizer()
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=96,
        initializer_range=0.2,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        **sizes,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def prompts() -> Dataset:
    return Dataset.from_list(build_prompts("train")[:24])


@pytest.fixture
def options(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Options that `GRPOConfig` and `TailGRPOConfig` share, for two groups of eight rollouts a step."""

    def make(**changes: Any) -> dict[str, Any]:
        common = {
            "output_dir": str(tmp_path / "out"),
            "per_device_train_batch_size": 16,
            "num_generations": 8,
            "max_completion_length": 6,
            "max_steps": 2,
            "learning_rate": 1e-2,
            "beta": 0.05,
            "seed": 3,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "use_cpu": True,
            "bf16": False,
            "gradient_checkpointing": False,
            "disable_tqdm": True,
        }
        return common | changes

    return make
