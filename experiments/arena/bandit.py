"""World A: prompts with 1,024 responses each, where V_N, its gradient and the KL divergence are exact.

The policy is softmax(log base + features . theta), with theta shared by all prompts. A response has a latent z, spread
evenly from -5 to 6; the base policy gives it the normal's mass there, so that good responses are rare and remain to
be found. Of the features some correlate with z (they move the location), some with z^2 (the spread), most with nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from settings import Setting
from shapes import bend
from torch import Tensor

RESPONSES = 1024
FEATURES = 64
MOVERS = 16
"""Features that move the location, and as many that move the spread."""
LOCATION = 0.25
"""Correlation of the latent with the best mix of the features that move the location."""
RAREST = 0.002
"""The lowest success rate of a prompt with 0/1 rewards; the highest is a half."""
PROMPTS = {"train": 64, "choose": 32, "report": 32}


@dataclass
class Rollouts:
    """What a step drew, with what its gradient needs."""

    at: slice
    taken: Tensor
    probabilities: Tensor
    tilt: Tensor
    rewards: Tensor
    """`[S, B, m]`."""


class Bandit:
    """The prompts of a setting, and what a policy of each of S runs does on them."""

    draws = 1

    def __init__(self, setting: Setting) -> None:
        generator = np.random.default_rng(setting.seed)
        prompts = sum(PROMPTS.values())
        latent = np.linspace(-5.0, 6.0, RESPONSES)
        base = stats.norm.pdf(latent)
        self.log_base = torch.tensor(np.log(base / base.sum()), dtype=torch.float32)
        self.features = _features(latent, prompts, setting, generator)
        self.rewards = torch.tensor(_rewards(latent, prompts, setting, generator), dtype=torch.float32)
        self.setting = setting

    @property
    def size(self) -> int:
        """How many parameters a policy has."""
        return FEATURES

    def start(self, runs: int) -> Tensor:
        """The parameters of the base policy, once for each run."""
        return torch.zeros(runs, FEATURES)

    def rollouts(self, parameters: Tensor, step: int, uniform: Tensor) -> Rollouts:
        """Sample m responses to each of the step's prompts, by the inverse of the distribution function."""
        batch = self.setting.batch
        first = step * batch % PROMPTS["train"]
        at = slice(first, first + batch)
        tilt = _tilt(parameters, self.features[at], self.log_base)
        probabilities = (tilt + self.log_base).exp_()
        taken = torch.searchsorted(probabilities.cumsum(2), uniform.squeeze(3).transpose(0, 1).contiguous())
        taken.clamp_(max=RESPONSES - 1)
        runs = len(parameters)
        rewards = self.rewards[at].unsqueeze(1).expand(-1, runs, -1).gather(2, taken)
        return Rollouts(at, taken, probabilities, tilt, rewards.transpose(0, 1).contiguous())

    def gradient(self, rollouts: Rollouts, advantages: Tensor, kl_weight: Tensor) -> Tensor:
        """The sampled policy gradient less the exact gradient of the KL penalty, `[S, D]`."""
        p, tilt = rollouts.probabilities, rollouts.tilt
        advantages = advantages.transpose(0, 1) / advantages.shape[2]
        kl = (p * tilt).sum(2, keepdim=True)
        weights = (tilt - kl).mul_(-kl_weight.view(1, -1, 1)).sub_(advantages.sum(2, keepdim=True)).mul_(p)
        weights.scatter_add_(2, rollouts.taken, advantages)
        return torch.bmm(weights, self.features[rollouts.at]).mean(0)

    def measure(self, parameters: Tensor, budgets: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """KL and V_N of every run on the choosing and the report prompts, exactly.

        Returns:
            KL `[S, P]` and V_N `[S, P, K]`.
        """
        held_out = slice(PROMPTS["train"], None)
        tilt = _tilt(parameters, self.features[held_out], self.log_base)
        p = (tilt + self.log_base).exp_()
        kl = (p * tilt).sum(2)
        return kl.T, best_of(p.cumsum(2), self.rewards[held_out].unsqueeze(1), budgets).transpose(0, 1)

    def description(self) -> dict[str, float | None]:
        """Of the base policy: the mean spread of a prompt's rewards, and how far the mean's gradient is from V_N's.

        The cosine is that of the two exact gradients over the training prompts.
        """
        base = self.log_base.exp()
        rewards = self.rewards
        centred = rewards - (rewards @ base)[:, None]
        gaps = rewards.diff(dim=1, prepend=rewards[:, :1])
        below = torch.cat([torch.zeros(1), base.cumsum(0)[:-1].clamp(max=1.0)])
        influence = (below ** (self.setting.deploy_n - 1) * gaps).cumsum(1)
        influence = influence - (influence @ base)[:, None]
        train, report = slice(PROMPTS["train"]), slice(-PROMPTS["report"], None)
        of_mean, of_best = (
            torch.einsum("pa,a,pad->d", part[train], base, self.features[train]) for part in (centred, influence)
        )
        cosine = torch.cosine_similarity(of_mean, of_best, dim=0)
        return {"base_spread": float((centred[report] ** 2 @ base).sqrt().mean()), "cosine": float(cosine)}


def best_of(cumulative: Tensor, rewards: Tensor, budgets: tuple[int, ...]) -> Tensor:
    """V_N of responses in the order of their rewards: the largest, less the gaps times F^N.

    Args:
        cumulative: Distribution function at each response, along the last axis.
        rewards: Non-decreasing along the last axis.
        budgets: Values of N.

    Returns:
        V_N, the budgets in the last axis.
    """
    gaps = rewards.diff(dim=-1)
    below = cumulative[..., :-1].clamp(max=1.0)
    values = [rewards[..., -1] - (below**n * gaps).sum(-1) for n in budgets]
    return torch.stack(values, dim=-1)


def _tilt(parameters: Tensor, features: Tensor, log_base: Tensor) -> Tensor:
    """Log of policy over base, `[B, S, A]`."""
    logits = torch.matmul(parameters, features.transpose(1, 2))
    return logits - (logits + log_base).logsumexp(2, keepdim=True)


def _features(latent: np.ndarray, prompts: int, setting: Setting, generator: np.random.Generator) -> Tensor:
    features = generator.standard_normal((prompts, RESPONSES, FEATURES), dtype=np.float32)
    movers = [(latent, LOCATION), ((latent**2 - 1) / np.sqrt(2), LOCATION * setting.spread)]
    for kind, (mover, together) in enumerate(movers):
        each = np.sqrt(together**2 / (MOVERS - (MOVERS - 1) * together**2))
        columns = slice(kind * MOVERS, (kind + 1) * MOVERS)
        features[:, :, columns] *= np.sqrt(1 - each**2)
        features[:, :, columns] += (each * mover[:, None]).astype(np.float32)
    return torch.from_numpy(features)


def _rewards(latent: np.ndarray, prompts: int, setting: Setting, generator: np.random.Generator) -> np.ndarray:
    if setting.shape == "success":
        rates = np.exp(generator.uniform(np.log(RAREST), np.log(0.5), prompts))
        return (latent > stats.norm.isf(rates)[:, None]).astype(float)
    scales = np.exp(setting.scale_sd * generator.standard_normal(prompts))
    return scales[:, None] * bend(setting.shape, latent)
