"""The gradient of each response's log-probability with respect to its parameters, as a short random sketch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

_GRADIENTS_BUDGET = 2**28
"""Most float32 numbers of gradients held at once (1 GiB)."""


class CountSketch:
    """A random linear map from the parameters of a policy to `dim` numbers that keeps inner products.

    Entry j of the parameters goes with a random sign into one of `dim` sums. For vectors a and b,

        E <sketch a, sketch b> = <a, b>,    variance <= (|a|^2 |b|^2 + <a, b>^2) / dim.

    Args:
        parameters: The parameters by name; their order and shapes fix the map together with the seed.
        dim: Length of a sketch, at least 1.
        seed: Seed of buckets and signs.

    Examples:
        >>> a, b = torch.randn(2, 1, 500, generator=torch.Generator().manual_seed(0))
        >>> sketches = [CountSketch({"w": a[0]}, dim=64, seed=seed) for seed in range(400)]
        >>> products = [(s({"w": a}) * s({"w": b})).sum().item() for s in sketches]
        >>> abs(sum(products) / 400 - (a * b).sum().item()) < 3 * 500 / (64 * 400) ** 0.5
        True

    Reference:
        Charikar, Chen and Farach-Colton (2002), Finding frequent items in data streams.
    """

    def __init__(self, parameters: Mapping[str, Tensor], *, dim: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.dim = dim
        # A place below dim adds to that sum, dim + place subtracts from it.
        self.places = {
            name: torch.randint(2 * dim, (value.numel(),), generator=generator).to(value.device)
            for name, value in parameters.items()
        }

    def __call__(self, gradients: Mapping[str, Tensor]) -> Float[Tensor, "B D"]:
        """Sketch B gradients.

        Args:
            gradients: One tensor `[B, *shape]` a parameter.

        Returns:
            The sketches, in the unit of the gradients.
        """
        first = next(iter(gradients.values()))
        sums = self.sums(len(first), first)
        for name in self.places:
            self.add(sums, name, gradients[name])
        return self.of(sums)

    def sums(self, rows: int, like: Tensor) -> Float[Tensor, "B E"]:
        """Nothing yet of B gradients: `add` fills it, one parameter after the other, and `of` gives the sketches.

        Args:
            rows: B.
            like: Says on which device, and how precise if more than float32.

        Returns:
            Zeros.
        """
        dtype = torch.promote_types(like.dtype, torch.float32)
        return torch.zeros(rows, 2 * self.dim, dtype=dtype, device=like.device)

    def add(self, sums: Float[Tensor, "B E"], name: str, gradient: Float[Tensor, B * shape]) -> None:
        """Add the gradients of one parameter, or a part of them.

        Args:
            sums: From `sums`.
            name: The parameter.
            gradient: Its gradients.
        """
        sums.index_add_(1, self.places[name], gradient.flatten(1).to(sums.dtype))

    def of(self, sums: Float[Tensor, "B E"]) -> Float[Tensor, "B D"]:
        """The sketches of what was added.

        Args:
            sums: From `sums`.

        Returns:
            The sketches, in the unit of the gradients.
        """
        return sums[:, : self.dim] - sums[:, self.dim :]


def gradient_sketches(
    model: Any,
    sketch: CountSketch,
    prompt_token_ids: Sequence[Sequence[int]],
    response_token_ids: Sequence[Sequence[int]],
    *,
    temperature: float = 1.0,
    batch_size: int = 32,
    names: Collection[str] | None = None,
    moved: Callable[[int], object] = lambda count: None,
) -> tuple[Float[np.ndarray, "B D"], Float[np.ndarray, " B"]]:
    """Differentiate the log-probability of each response with respect to all parameters of the policy, or some.

    The log-probability is that of `response_logprobs`: the sum over the response's tokens of log_softmax(logits /
    temperature). One backward pass per response, many at once (`torch.func.vmap`); padding stands on the right, where
    a causal model does not see it.

    Args:
        model: The policy, with eager attention (the kernels of the others cannot be batched so).
        sketch: Made of the parameters.
        prompt_token_ids: Token ids, one list per response.
        response_token_ids: Token ids, one list per response.
        temperature: Divides the logits; above 0.
        batch_size: Most responses at once; fewer where the policy is large.
        names: The parameters, by name; None is all. Nothing is differentiated further down than they reach.
        moved: Told after each batch how many responses it had.

    Returns:
        The sketches of the gradients `[B, D]`, float32, in nats per unit of the parameters, and the
        log-probabilities in nats `[B]`.
    """
    chosen = ((name, value) for name, value in model.named_parameters() if names is None or name in names)
    parameters = {name: parameter.detach() for name, parameter in chosen}
    count = sum(parameter.numel() for parameter in parameters.values())
    size = max(1, min(batch_size, _GRADIENTS_BUDGET // count))
    rows = [[*prompt, *response] for prompt, response in zip(prompt_token_ids, response_token_ids, strict=True)]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    sketches = np.empty((len(rows), sketch.dim), dtype=np.float32)
    logprobs = np.empty(len(rows), dtype=np.float64)
    for start in range(0, len(rows), size):
        batch = order[start : start + size]
        gradients, values = _batch_gradients(
            model, parameters, [rows[i] for i in batch], [len(prompt_token_ids[i]) for i in batch], temperature
        )
        sketches[batch] = sketch(gradients).cpu().numpy()
        logprobs[batch] = values.cpu().numpy()
        moved(len(batch))
    return sketches, logprobs


def _batch_gradients(
    model: Any, parameters: dict[str, Tensor], rows: list[list[int]], starts: list[int], temperature: float
) -> tuple[dict[str, Tensor], Float[Tensor, " b"]]:
    """Gradients and log-probabilities of the tokens of each row from its start on."""
    length = max(map(len, rows))
    device = next(iter(parameters.values())).device
    ids = torch.tensor([row + [0] * (length - len(row)) for row in rows], device=device)
    positions = torch.arange(1, length, device=device)
    first, end = (torch.tensor(list(values), device=device)[:, None] for values in (starts, map(len, rows)))
    weights = ((positions >= first) & (positions < end)).float()
    dtype = next(iter(parameters.values())).dtype
    blocked = torch.full((length, length), torch.finfo(dtype).min, dtype=dtype, device=device).triu(1)

    def logprob(
        parameters: dict[str, Tensor], ids: Int[Tensor, " L"], weights: Float[Tensor, " L-1"]
    ) -> Float[Tensor, ""]:
        inputs = {"input_ids": ids[None], "attention_mask": blocked[None, None], "use_cache": False}
        output = torch.func.functional_call(model, parameters, kwargs=inputs)
        logits = output.logits[0, :-1].float() / temperature
        chosen = logits.gather(-1, ids[1:, None]).squeeze(-1) - logits.logsumexp(-1)
        total: Tensor = (chosen * weights).sum()
        return total

    per_response: Any = torch.func.vmap(torch.func.grad_and_value(logprob), in_dims=(None, 0, 0))
    with torch.no_grad():  # for the other parameters; the transform above does not mind
        gradients, values = per_response(parameters, ids, weights)
    return gradients, values
