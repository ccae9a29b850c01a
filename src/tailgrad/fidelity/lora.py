"""The gradient of each response's log-probability with respect to a fresh LoRA adapter, as a short random sketch.

A LoRA adapter adds scale * B A x to what a linear layer makes of x. A training starts from a random A and B = 0. There
the gradient of A is 0, and that of B is what the first steps move:

    dL/dB = scale * sum_t g_t (A x_t)^T,    scale = alpha / r,

with x_t what the layer sees at token t and g_t the gradient of what it gives. A forward pass keeps A x, the backward
pass brings g, and no weight of the policy is differentiated.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tailgrad.fidelity.count_sketch import CountSketch
from tailgrad.models.logprobs import batch_logprobs

RANK: Final = 16
ALPHA: Final = 32
"""TRL's defaults. The scale of all gradients, alpha / r, changes no number of a report."""

ALL_LINEAR: Final = "all-linear"

_BUDGET = 2**30
"""Most float32 numbers that a backward pass needs at once (4 GiB), as far as it can be told beforehand."""

_Take = Callable[[str, Float[Tensor, "b O r"]], None]


@dataclass(frozen=True)
class FreshAdapter:
    """A LoRA adapter before its first step.

    Attributes:
        a: A of every target layer `[r, I]`, by the layer's name; B is 0.
        outputs: Numbers that each of these layers gives for a token.
        scale: alpha / r.
    """

    a: dict[str, Float[Tensor, "r I"]]
    outputs: dict[str, int]
    scale: float

    def sketch(self, *, dim: int, seed: int) -> CountSketch:
        """A sketch of the gradients with respect to B of all layers."""
        parameters = {name: a.new_empty(self.outputs[name], len(a)) for name, a in self.a.items()}
        return CountSketch(parameters, dim=dim, seed=seed)


def default_targets(model: Any) -> tuple[str, ...]:
    """The layers that PEFT adapts in a model of this type where nobody names any.

    Args:
        model: The policy; its weights are not needed.

    Returns:
        Names of modules, or a regular expression.

    Raises:
        ValueError: PEFT has none for this type.
    """
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as OF_TYPE

    targets = OF_TYPE.get(model.config.model_type)
    if targets is None:
        raise ValueError(
            f"PEFT has no default target modules for models of type {model.config.model_type!r}. Name them: "
            f"--lora_target_modules all-linear, or some of {_known(model)}."
        )
    return (targets,) if isinstance(targets, str) else tuple(targets)


def target_layers(model: Any, targets: Sequence[str]) -> list[str]:
    """The linear layers that are adapted, as PEFT finds them.

    Args:
        model: The policy; its weights are not needed.
        targets: Ends of names (`q_proj`), regular expressions for whole names, or `all-linear`: all but the head.

    Returns:
        Their names, in the model's order.

    Raises:
        ValueError: A target matches no layer but the output head, or is no regular expression.
    """
    layers = _linear_layers(model)
    found = set()
    for target in targets:
        try:
            pattern = re.compile(rf"(.*\.)?({target})")
        except re.error as error:
            raise ValueError(f"lora_target_modules has {target!r}, which is no regular expression: {error}.") from error
        matched = {name for name in layers if target == ALL_LINEAR or pattern.fullmatch(name)}
        if not matched:
            raise ValueError(
                f"lora_target_modules has {target!r}, which matches no linear layer of the model. It has "
                f"{_known(model)}; all-linear takes all of them."
            )
        found |= matched
    return [name for name in layers if name in found]


def fresh_adapter(model: Any, targets: Sequence[str], *, r: int = RANK, seed: int = 0) -> FreshAdapter:
    """Draw a LoRA adapter as PEFT does: A uniform within 1 / sqrt(inputs), B = 0.

    Args:
        model: The policy.
        targets: As for `target_layers`.
        r: Rank.
        seed: Seed of A. The sketch may have the same: the numbers are others.

    Returns:
        The adapter.

    Raises:
        ValueError: As for `target_layers`.
    """
    layers = _linear_layers(model)
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence((seed, 1)).generate_state(1)[0]))
    a, outputs = {}, {}
    for name in target_layers(model, targets):
        inputs, outputs[name] = layers[name]
        drawn = torch.rand(r, inputs, generator=generator)
        a[name] = ((2 * drawn - 1) / inputs**0.5).to(model.device)
    return FreshAdapter(a, outputs, ALPHA / r)


def lora_sketches(
    model: Any,
    sketch: CountSketch,
    prompt_token_ids: Sequence[list[int]],
    response_token_ids: Sequence[list[int]],
    *,
    adapter: FreshAdapter,
    temperature: float = 1.0,
    batch_size: int = 32,
    moved: Callable[[int], object] = lambda count: None,
) -> tuple[Float[np.ndarray, "B D"], Float[np.ndarray, " B"]]:
    """Differentiate the log-probability of each response with respect to B of a fresh adapter.

    The log-probability is that of `response_logprobs`. One forward and one backward pass per batch; each layer's
    gradients go into the sketch as soon as they are there.

    Args:
        model: The policy, its parameters frozen.
        sketch: The adapter's.
        prompt_token_ids: Token ids, one list per response.
        response_token_ids: Token ids, one list per response.
        adapter: The adapter.
        temperature: Divides the logits; above 0.
        batch_size: Most responses at once; fewer where they are long or the policy is large.
        moved: Told after each batch how many responses it had.

    Returns:
        The sketches of the gradients `[B, D]`, float32, and the log-probabilities in nats `[B]`.

    Raises:
        ValueError: A target layer does not see the responses one by one.
    """
    pairs = list(zip(prompt_token_ids, response_token_ids, strict=True))
    order = sorted(range(len(pairs)), key=lambda i: sum(map(len, pairs[i])), reverse=True)
    size = max(1, min(batch_size, _BUDGET // _numbers_per_response(model, pairs)))
    sketches = np.empty((len(pairs), sketch.dim), dtype=np.float32)
    logprobs = np.empty(len(pairs), dtype=np.float64)
    for start in range(0, len(pairs), size):
        batch = order[start : start + size]
        prompts, responses = zip(*(pairs[i] for i in batch), strict=True)
        tokens = (len(batch), len(prompts[0]) + len(responses[0]))
        sums = sketch.sums(len(batch), next(iter(adapter.a.values())))
        with _watched(model, adapter, tokens, partial(sketch.add, sums)):
            values = batch_logprobs(model, prompts, responses, temperature)
            torch.autograd.backward(values.sum())
        sketches[batch] = sketch.of(sums).cpu().numpy()
        logprobs[batch] = values.detach().cpu().numpy()
        moved(len(batch))
    return sketches, logprobs


@contextmanager
def _watched(model: Any, adapter: FreshAdapter, tokens: tuple[int, int], take: _Take) -> Iterator[None]:
    """During the backward pass, hand on the gradients of the responses with respect to B, a layer at a time."""
    hooks = [
        model.get_submodule(name).register_forward_hook(_tap(name, a, adapter.scale, tokens, take))
        for name, a in adapter.a.items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _tap(
    name: str, a: Float[Tensor, "r I"], scale: float, tokens: tuple[int, int], take: _Take
) -> Callable[[Any, tuple[Tensor, ...], Tensor], Tensor]:
    """A layer's hook. A layer that is called twice adds twice, as its B would act twice."""

    def hook(_: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if inputs[0].shape[:-1] != tokens:
            raise ValueError(
                f"lora_target_modules has {name!r}, which sees {list(inputs[0].shape[:-1])} rows where a batch has "
                f"{list(tokens)} responses and tokens: its gradient cannot be told apart by response. Leave it out."
            )
        projected = inputs[0].detach().float() @ a.T
        if not output.requires_grad:  # the first layer: from here on there is a graph
            output = output.requires_grad_().clone()
        watch: Any = output.register_hook
        watch(lambda gradient: take(name, scale * gradient.float().mT @ projected))
        return output

    return hook


def _linear_layers(model: Any) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of each linear layer, by name; not of the output head, nor inside PEFT's layers."""
    head, layers = model.get_output_embeddings(), dict[str, tuple[int, int]]()
    for name, module in model.named_modules():
        if module is head or layers.keys() & [*accumulate(name.split("."), "{}.{}".format)]:
            continue
        if type(module).__name__ == "Conv1D":  # transformers' of GPT-2: its weight stands [inputs, outputs]
            layers[name] = (module.weight.shape[0], module.weight.shape[1])
        elif isinstance(getattr(module, "in_features", None), int) and hasattr(module, "out_features"):
            layers[name] = (module.in_features, module.out_features)
    return layers


def _known(model: Any) -> str:
    """The names of the linear layers, each once and without the path."""
    names = dict.fromkeys(name.rsplit(".", 1)[-1] for name in _linear_layers(model))
    return ", ".join([*names][:12]) + (", ..." if len(names) > 12 else "")


def _numbers_per_response(model: Any, pairs: Sequence[tuple[list[int], list[int]]]) -> int:
    """About how many float32 numbers the longest response needs: what the blocks keep, and its logits."""
    config = model.config.get_text_config()
    length = max(len(prompt) + len(response) for prompt, response in pairs)
    kept = length - min(len(prompt) for prompt, _ in pairs) + 1
    blocks = 16 * config.num_hidden_layers * config.hidden_size
    return int(length * blocks + 4 * kept * model.get_input_embeddings().weight.shape[0])
