"""World B: a small autoregressive policy that writes eight of twelve tokens; V_N from samples, KL summed per token.

The reward of a sequence is a sum of potentials, of each token at its place (which the prompt changes) and of each pair
of neighbours, standardised for each prompt under the base policy and bent to a shape. The policy sees the last
two tokens, the place and the prompt.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from settings import Setting
from shapes import bend
from torch import Tensor

from tailgrad.curves import best_of_n

TOKENS, LENGTH, HIDDEN, CONTEXT = 12, 8, 16, 8
PROMPTS = {"train": 64, "choose": 16, "report": 16}
SAMPLES = 256
"""Sequences per prompt from which V_N is measured, by the unbiased U-statistic."""
_SIZES = {
    "last": (LENGTH, TOKENS + 1, HIDDEN),
    "before": (1, TOKENS + 1, HIDDEN),
    "prompt": (CONTEXT, HIDDEN),
    "out": (HIDDEN, TOKENS),
    "bias": (LENGTH, TOKENS),
}
_GRID = np.linspace(-8.0, 8.0, 16_001)


@dataclass
class Written:
    """Sequences of each run and prompt, with the sums over their tokens."""

    tokens: Tensor
    """`[S, B, m, L]`."""
    log_prob: Tensor
    kl: Tensor


@dataclass
class Rollouts:
    """What a step drew, with the graph that its gradient needs."""

    parameters: Tensor
    written: Written
    rewards: Tensor


class Sequences:
    """The prompts of a setting, the base policy, and what a policy of each of S runs writes."""

    draws = LENGTH

    def __init__(self, setting: Setting) -> None:
        generator = torch.Generator().manual_seed(setting.seed)
        prompts = sum(PROMPTS.values())
        self.setting = setting
        self.context = torch.randn(prompts, CONTEXT, generator=generator)
        self.base = torch.cat([_initial(name, shape, generator).flatten() for name, shape in _SIZES.items()])
        self.base_log_probs = self._base_log_probs()
        own = torch.randn(LENGTH, TOKENS, generator=generator)
        with_prompt = torch.randn(LENGTH, TOKENS, CONTEXT, generator=generator) / CONTEXT**0.5
        self.unary = own + torch.einsum("ltc,pc->plt", with_prompt, self.context)
        self.pairs = torch.randn(TOKENS, TOKENS, generator=generator)
        numbers = torch.rand(1, prompts, 2048, LENGTH, generator=generator)
        raw = self._potential(self._write(self.base[None], slice(None), numbers).tokens, slice(None))[0]
        self.mean, self.deviation = raw.mean(1, keepdim=True), raw.std(1, keepdim=True)
        self.scale = (setting.scale_sd * torch.randn(prompts, 1, generator=generator)).exp()
        rates = torch.rand(prompts, 1, generator=generator) * 4.5 - 5.2  # 0.0055 to 0.5, as logarithms
        self.needed = torch.special.ndtri(1 - rates.exp())
        shape = "gaussian" if setting.shape == "success" else setting.shape
        self.table = torch.tensor(bend(shape, _GRID), dtype=torch.float32)
        self.numbers = torch.rand(1, prompts - PROMPTS["train"], SAMPLES, LENGTH, generator=generator)

    @property
    def size(self) -> int:
        """How many parameters a policy has."""
        return len(self.base)

    def start(self, runs: int) -> Tensor:
        """The parameters of the base policy, once for each run."""
        return self.base.repeat(runs, 1)

    def rollouts(self, parameters: Tensor, step: int, uniform: Tensor) -> Rollouts:
        """Write m sequences to each of the step's prompts."""
        first = step * self.setting.batch % PROMPTS["train"]
        at = slice(first, first + self.setting.batch)
        parameters = parameters.clone().requires_grad_()
        with torch.enable_grad():
            written = self._write(parameters, at, uniform)
        return Rollouts(parameters, written, self._reward(written.tokens, at))

    def gradient(self, rollouts: Rollouts, advantages: Tensor, kl_weight: Tensor) -> Tensor:
        """The policy gradient less that of the KL penalty, both sampled; the KL of each token is exact."""
        with torch.enable_grad():
            gain = (advantages * rollouts.written.log_prob).mean((1, 2))
            objective = gain - kl_weight * rollouts.written.kl.mean((1, 2))
            return torch.autograd.grad(objective.sum(), rollouts.parameters)[0]

    def measure(self, parameters: Tensor, budgets: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """KL `[S, P]` and V_N `[S, P, K]` on the choosing and the report prompts; all runs from the same numbers."""
        at = slice(PROMPTS["train"], None)
        runs = len(parameters)
        written = self._write(parameters, at, self.numbers.expand(runs, -1, -1, -1))
        rewards = self._reward(written.tokens, at)
        values = best_of_n(rewards.flatten(0, 1).numpy(), budgets)
        return written.kl.mean(2), torch.from_numpy(values).float().view(runs, -1, len(budgets))

    def description(self) -> dict[str, float | None]:
        """Of the base policy: the mean spread of a report prompt's rewards; the gradients are not known exactly."""
        at = slice(-PROMPTS["report"], None)
        rewards = self._reward(self._write(self.base[None], at, self.numbers[:, at]).tokens, at)
        return {"base_spread": float(rewards.std(2).mean()), "cosine": None}

    def _write(self, parameters: Tensor, at: slice, uniform: Tensor) -> Written:
        """Sample sequences token by token, by the inverse of the distribution function."""
        runs, prompts, m, _ = uniform.shape
        policy = _Policy(parameters, self.context[at])
        base = self.base_log_probs[:, at]
        rows = torch.arange(prompts).repeat_interleave(m) * (TOKENS + 1) ** 2
        last = before = torch.full((runs, prompts * m), TOKENS)
        tokens, log_prob, kl = [], 0.0, 0.0
        for place in range(LENGTH):
            logits = policy.logits(place, last, before, m)
            reference = base[place].reshape(-1, TOKENS)[rows + last * (TOKENS + 1) + before]
            weights = logits.exp()
            cumulative = weights.detach().cumsum(2)
            total = weights.sum(2)
            reach = (uniform[..., place].reshape(runs, -1) * total.detach())[..., None]
            taken = (reach > cumulative).sum(2).clamp_(max=TOKENS - 1)
            log_total = total.log()
            log_prob = log_prob + logits.gather(2, taken[..., None]).squeeze(2) - log_total
            kl = kl + (weights * (logits - reference)).sum(2) / total - log_total
            tokens.append(taken)
            last, before = taken, last
        shape = (runs, prompts, m)
        return Written(torch.stack(tokens, 2).view(*shape, LENGTH), log_prob.view(shape), kl.view(shape))

    def _base_log_probs(self) -> Tensor:
        """Of every next token after every two, `[L, P, V + 1, V + 1, V]`: the place, the prompt, the last two."""
        policy = _Policy(self.base[None], self.context)
        pairs = torch.cartesian_prod(torch.arange(TOKENS + 1), torch.arange(TOKENS + 1)).repeat(len(self.context), 1)
        last, before = pairs.T[:, None]
        tables = [policy.logits(place, last, before, (TOKENS + 1) ** 2) for place in range(LENGTH)]
        table = torch.stack(tables).log_softmax(3)
        return table.view(LENGTH, len(self.context), TOKENS + 1, TOKENS + 1, TOKENS)

    def _potential(self, tokens: Tensor, at: slice) -> Tensor:
        """Sum of the potentials, `[S, B, m]`."""
        table = self.unary[at]  # [B, L, V]
        prompts = torch.arange(len(table)).view(1, -1, 1, 1)
        places = torch.arange(LENGTH)
        return table[prompts, places, tokens].sum(3) + self.pairs[tokens[..., :-1], tokens[..., 1:]].sum(3)

    def _reward(self, tokens: Tensor, at: slice) -> Tensor:
        latent = (self._potential(tokens, at) - self.mean[at]) / self.deviation[at]
        if self.setting.shape == "success":
            return (latent > self.needed[at]).float()
        place = ((latent.clamp(-8.0, 8.0) + 8.0) * (len(_GRID) - 1) / 16.0).round().long()
        return self.scale[at] * self.table[place]


class _Policy:
    """Logits of the next token under S sets of parameters."""

    def __init__(self, parameters: Tensor, context: Tensor) -> None:
        parts = parameters.split([int(np.prod(shape)) for shape in _SIZES.values()], dim=1)
        runs = len(parameters)
        self.parts = {name: part.reshape(runs, *_SIZES[name]) for name, part in zip(_SIZES, parts, strict=True)}
        self.prompt = torch.matmul(context, self.parts["prompt"])  # [S, B, H]
        self.rows = (torch.arange(runs) * (TOKENS + 1))[:, None]

    def logits(self, place: int, last: Tensor, before: Tensor, m: int) -> Tensor:
        """`[S, B m, V]`, for m sequences of each prompt."""
        seen = self._look_up("last", place, last) + self._look_up("before", 0, before)
        runs, _, hidden = seen.shape
        seen = (seen.view(runs, -1, m, hidden) + self.prompt[:, :, None]).view(runs, -1, hidden).tanh()
        return torch.baddbmm(self.parts["bias"][:, place, None], seen, self.parts["out"])

    def _look_up(self, name: str, place: int, tokens: Tensor) -> Tensor:
        table = self.parts[name][:, place].reshape(-1, HIDDEN)
        return table.index_select(0, (tokens + self.rows).flatten()).view(*tokens.shape, HIDDEN)


def _initial(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator) * {"out": 0.15, "bias": 0.3}.get(name, 0.5)
