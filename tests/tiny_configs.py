"""Configurations of tiny models that keep different things of the tokens they have read."""

import copy
from typing import Any, Final

import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    MixtralConfig,
    PreTrainedConfig,
    Qwen3Config,
)

_SIZES: Final[dict[str, Any]] = {
    "vocab_size": 12,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
TINY_CONFIGS: Final[dict[str, PreTrainedConfig]] = {
    "llama": LlamaConfig(**_SIZES),
    "qwen3": Qwen3Config(head_dim=8, **_SIZES),
    "gpt2": GPT2Config(vocab_size=12, n_embd=16, n_layer=2, n_head=2, n_positions=64),
    "mixtral": MixtralConfig(num_local_experts=4, num_experts_per_tok=2, **_SIZES),
    "sliding window": MistralConfig(head_dim=8, sliding_window=3, **_SIZES),
    "recurrent": MambaConfig(vocab_size=12, hidden_size=16, num_hidden_layers=2, state_size=4),
}
KEEP_ALL_TOKENS: Final = {"llama", "qwen3", "gpt2", "mixtral"}
"""Those that keep keys and values of all tokens, and nothing else."""


def tiny_model(kind: str, *, seed: int = 0) -> Any:
    """A model with random weights of visible size, so that its logits differ from uniform."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(copy.deepcopy(TINY_CONFIGS[kind])).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model
