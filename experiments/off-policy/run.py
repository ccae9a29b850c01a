"""Does it pay to estimate the advantages anew on rollouts of an older policy? Small policies with a known V_N.

    python experiments/off-policy/run.py --out DIR

Each policy is a softmax over 256 responses to each of 48 prompts, linear in 24 features of a response that all prompts
share, and so is a part of the reward: what is learnt holds for 48 other prompts, on which V_N is computed exactly. A
batch of rollouts serves 1, 4, 16 or 32 steps of Adam on the clipped loss of GRPO with a KL penalty, as TRL's trainer
has it, 320 steps in all; once with the advantages of the policy that drew the rollouts, once, as with
`off_policy_correction`, with those at the ratios of the policy now. Writes `rows.json` and `table.md`.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tailgrad.estimators import bind, parse_estimator, with_budget

RESPONSES, FEATURES, PROMPTS = 256, 24, 48
STEPS, ROLLOUTS, LEARNING_RATE, KL_WEIGHT, DEPLOY_N = 320, 256, 0.1, 0.02, 128
ESTIMATORS = ("max_at_k:k=4", "max_at_k:k=8", "tea:tail_fraction=0.5", "flat_tea")
STALENESS = ((1, 0.2), (4, 0.2), (16, 0.2), (16, math.inf), (32, math.inf))
"""Steps on one batch of rollouts, and the clip of the ratios in the loss."""
GROUPS = (16, 64)
SEEDS = 12


class Tasks(NamedTuple):
    """One task per seed: features `[S, X, A, D]` and rewards `[S, X, A]` of all responses; half the prompts train."""

    features: Tensor
    rewards: Tensor


class Result(NamedTuple):
    """Of the trained policies on the held-out prompts, `[S]` each."""

    v_n: Tensor
    v_1: Tensor
    kl: Tensor
    ratio_spread: Tensor
    """Standard deviation of the log-ratios of a group at the last step on its rollouts, mean over the training."""


def make_tasks() -> Tasks:
    """Rewards of variance 1, 0.36 of it by the features, which a policy can learn, the rest by each response alone."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(SEEDS, 2 * PROMPTS, RESPONSES, FEATURES, generator=generator) / math.sqrt(FEATURES)
    direction = torch.randn(SEEDS, 1, FEATURES, 1, generator=generator)
    learnable = (features @ direction).squeeze(3) * math.sqrt(FEATURES) / direction.norm(dim=2)
    return Tasks(features, 0.6 * learnable + 0.8 * torch.randn(learnable.shape, generator=generator))


def best_of(n: int, probabilities: Tensor, rewards: Tensor) -> Tensor:
    """V_n exactly, mean over the prompts."""
    ascending, order = rewards.sort(dim=2)
    below = probabilities.gather(2, order).cumsum(dim=2).clamp(max=1) ** n
    first = torch.zeros_like(below[..., :1])
    return (below.diff(dim=2, prepend=first) * ascending).sum(dim=2).mean(dim=1)


def train(tasks: Tasks, estimate: Callable[..., Tensor], m: int, reuse: int, clip: float, *, correct: bool) -> Result:
    """Train from the uniform policy, all seeds side by side; both ways see the same random numbers."""
    generator = torch.Generator().manual_seed(m)
    theta = torch.zeros(SEEDS, FEATURES, requires_grad=True)
    optimizer = torch.optim.Adam([theta], lr=LEARNING_RATE)
    spreads = []
    for _ in range(STEPS // reuse):
        prompts = torch.randperm(PROMPTS, generator=generator)[: ROLLOUTS // m]
        features = tasks.features[:, prompts]
        old = log_policy(features, theta.detach())
        drawn = torch.multinomial(old.flatten(0, 1).exp(), m, replacement=True, generator=generator).view(
            *old.shape[:2], m
        )
        rewards = tasks.rewards[:, prompts].gather(2, drawn)
        advantages = estimate(rewards.flatten(0, 1)).view_as(rewards)
        for step in range(reuse):
            now = log_policy(features, theta).gather(2, drawn)
            log_ratios = now - old.gather(2, drawn)
            if correct and step:
                ratios = log_ratios.detach().exp().flatten(0, 1)
                advantages = estimate(rewards.flatten(0, 1), ratios).view_as(rewards)
            scaled = advantages / advantages.square().mean(dim=(1, 2), keepdim=True).sqrt().clamp(min=1e-6)
            loss = clipped_loss(now, log_ratios.exp(), scaled, clip)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        spreads.append(log_ratios.detach().std(dim=2).mean(dim=1))
    held_out = log_policy(tasks.features[:, PROMPTS:], theta.detach())
    kl = (held_out.exp() * (held_out + math.log(RESPONSES))).sum(dim=2).mean(dim=1)
    v_n, v_1 = (best_of(n, held_out.double().exp(), tasks.rewards[:, PROMPTS:]) for n in (DEPLOY_N, 1))
    return Result(v_n, v_1, kl, torch.stack(spreads).mean(dim=0))


def log_policy(features: Tensor, theta: Tensor) -> Tensor:
    """Log pi of every response of these prompts, `[S, P, A]`."""
    return (features @ theta[:, None, :, None]).squeeze(3).log_softmax(dim=2)


def clipped_loss(now: Tensor, ratios: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """GRPO's loss, one token per response, summed over the seeds; the reference policy is uniform."""
    gain = torch.minimum(ratios * advantages, ratios.clamp(1 - clip, 1 + clip) * advantages)
    to_reference = -math.log(RESPONSES) - now
    return -(gain - KL_WEIGHT * (to_reference.exp() - to_reference - 1)).mean(dim=(1, 2)).sum()


def compare(tasks: Tasks, estimator: str, m: int, reuse: int, clip: float) -> dict[str, Any]:
    """Both ways: means over the seeds, and the difference in V_N with its 95% interval over seeds."""
    name, options = parse_estimator(estimator)
    estimate = bind(name, **with_budget(name, options, DEPLOY_N), validate=False)
    plain, corrected = (train(tasks, estimate, m, reuse, clip, correct=correct) for correct in (False, True))
    difference = corrected.v_n - plain.v_n
    return {
        "estimator": estimator,
        "m": m,
        "steps_per_batch": reuse,
        "clip": f"{clip:g}",
        "plain": {name: float(values.mean()) for name, values in plain._asdict().items()},
        "corrected": {name: float(values.mean()) for name, values in corrected._asdict().items()},
        "difference": float(difference.mean()),
        "half_width": 2.2 * float(difference.std()) / math.sqrt(SEEDS),  # Student's t, 11 degrees of freedom
    }


def main() -> None:
    """Train all, and write the rows and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for rows.json and table.md")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    tasks = make_tasks()
    rows = []
    for name, m, stale in product(ESTIMATORS, GROUPS, STALENESS):
        rows.append(compare(tasks, name, m, *stale))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / "rows.json").write_text(json.dumps(rows, indent=1) + "\n")
    (out / "table.md").write_text(table(rows))


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    lines = [
        "| estimator | m | steps, clip | ratio spread | V_128, KL | V_128, KL corrected | difference |",
        "|---" * 7 + "|",
    ]
    for row in rows:
        plain, corrected, stale = row["plain"], row["corrected"], f"{row['steps_per_batch']}, {row['clip']}"
        lines.append(
            f"| {row['estimator']} | {row['m']} | {stale} | {plain['ratio_spread']:.2f} "
            f"| {plain['v_n']:.2f}, {plain['kl']:.1f} | {corrected['v_n']:.2f}, {corrected['kl']:.1f} "
            f"| {row['difference']:+.3f} +- {row['half_width']:.3f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
