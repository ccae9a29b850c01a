"""Small models, responses of different lengths, and their gradients by autograd, one after the other."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tailgrad.fidelity.count_sketch import CountSketch

SIZES: dict[str, Any] = {
    "vocab_size": 12,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
GPT2 = {"vocab_size": 12, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
MODELS: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "tied llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=8)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT2, bos_token_id=None, eos_token_id=2)),
}
PROMPTS = [[5, 6, 7, 8, 9], [5], [10, 11], [6, 5, 5]] * 2
RESPONSES = [[5, 6, 2], [2], [7, 8, 9, 10, 11, 5, 6], [9], [3, 3], [4, 2], [10, 2], [11, 7, 5, 2]]


def small_model(name: str) -> Any:
    """A model with random weights of visible size."""
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


class Flat(CountSketch):
    """A sketch that loses nothing: the gradients side by side."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        ends = np.cumsum([value.numel() for value in parameters.values()]).tolist()
        sizes = zip(ends, parameters.items(), strict=True)
        self.places: Any = {name: slice(end - value.numel(), end) for end, (name, value) in sizes}
        self.dim = ends[-1]

    def sums(self, rows: int, like: Tensor) -> Tensor:
        return torch.zeros(rows, self.dim)

    def add(self, sums: Tensor, name: str, gradient: Tensor) -> None:
        sums[:, self.places[name]] += gradient.flatten(1).float()

    def of(self, sums: Tensor) -> Tensor:
        return sums


def by_autograd(
    model: Any, prompt: list[int], response: list[int], temperature: float, by: list[Tensor] | None = None
) -> tuple[np.ndarray, float]:
    """One response: its tokens' log-probabilities read one by one from a plain forward, and their gradient."""
    logprobs = (model(input_ids=torch.tensor([prompt + response])).logits[0] / temperature).log_softmax(-1)
    total = sum(logprobs[len(prompt) + t - 1, token] for t, token in enumerate(response))
    gradients = torch.autograd.grad(total, list(model.parameters()) if by is None else by)
    return torch.cat([gradient.flatten() for gradient in gradients]).numpy(), total.item()
