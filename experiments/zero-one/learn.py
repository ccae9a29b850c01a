"""Training on 0/1 rewards: a linear model shared by all prompts, exact pass@N, equal steps.

    python experiments/zero-one/learn.py

Each of 512 prompts has 16 answers, the first of them right, and a feature vector for each answer; the logits are a
fixed part plus one linear function of the features. Prompts of one topic are about as hard as each other, and their
right answers are alike; the success rates come from Beta(0.3, 3). With 16 topics the question is which of them to push;
with one topic, whose prompts are of any difficulty, every success teaches all prompts. Advantages are scaled to root
mean square one over the batch; every estimator gets its best of the same four learning rates, chosen on five seeds, and
is reported on twelve others. Prints Markdown: means over these seeds, and their 95% intervals (Student's t).
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy import stats
from scipy.special import expit, logit
from torch import Tensor

from tailgrad.estimators import bind

PROMPTS, ANSWERS, FEATURES = 512, 16, 48
BATCH, M, N = 32, 16, 128
STEPS = 60
RATES = (0.5, 2.0, 6.0, 18.0)
CHOOSING, REPORTED = range(100, 105), range(12)
TOPICS = (16, 1)
PRIOR = 0.3, 3.0  # a and b of the Beta distribution of the topics' success rates
SPREAD = 0.5  # of the logits within a topic
ESTIMATORS: dict[str, Callable[[Tensor], Tensor]] = {
    "dr_grpo": bind("dr_grpo"),
    "grpo": bind("grpo"),
    "f_grpo": bind("f_grpo"),
    "max_rl": bind("max_rl"),
    "bon_rl": bind("bon_rl", deploy_n=N),
    "pass_at_k, k = 8": bind("pass_at_k", k=8),
    "max_at_k, k = 4": bind("max_at_k", k=4, baseline="loo"),
    "max_at_k, k = 8": bind("max_at_k", k=8, baseline="loo"),
    "max_at_k, k = 16": bind("bon_max_second"),
    "pass_at_n": bind("pass_at_n", deploy_n=N),
    "pass_at_n, prior = 1+16": bind("pass_at_n", deploy_n=N, prior=(1.0, 16.0)),
}


class Task:
    """Prompts with fixed logits, and features through which one set of weights acts on all of them."""

    def __init__(self, topics: int, seed: int) -> None:
        generator = np.random.default_rng(seed)
        topic = np.arange(PROMPTS) % topics
        of_topic = generator.beta(*PRIOR, size=(PROMPTS if topics == 1 else topics, 1)).clip(1e-6, 1 - 1e-6)
        p = expit(
            logit(of_topic if topics == 1 else of_topic[topic]) + SPREAD * generator.standard_normal((PROMPTS, 1))
        )
        wrong = np.log(generator.dirichlet(np.ones(ANSWERS - 1), size=PROMPTS) + 1e-9)
        self.fixed = torch.from_numpy(np.concatenate([np.log(p), np.log(1 - p) + wrong], axis=1))
        features = generator.standard_normal((PROMPTS, ANSWERS, FEATURES)) / math.sqrt(FEATURES)
        features[:, 0] += (generator.standard_normal((topics, FEATURES)) / math.sqrt(FEATURES))[topic]
        self.features = torch.from_numpy(features)

    def chances(self, weights: Tensor, prompts: Tensor | slice = slice(None)) -> Tensor:
        """Probability of each answer."""
        return (self.fixed[prompts] + self.features[prompts] @ weights).softmax(dim=1)

    def pass_at(self, weights: Tensor, n: int) -> float:
        """Mean pass@n over the prompts, exact."""
        return float((1 - (1 - self.chances(weights)[:, 0]) ** n).mean())


def gradient(features: Tensor, chances: Tensor, answers: Tensor, advantages: Tensor) -> Tensor:
    """Mean over all rollouts of the advantage times the gradient of the answer's log-probability."""
    pull = torch.zeros_like(chances).scatter_add_(1, answers, advantages)
    pull = pull - chances * advantages.sum(dim=1, keepdim=True)
    return torch.einsum("pa,paf->f", pull, features) / answers.numel()


def train(task: Task, estimate: Callable[[Tensor], Tensor], rate: float, seed: int) -> tuple[float, float]:
    """Pass@N and pass@1 after the training."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.zeros(FEATURES, dtype=torch.float64)
    for _ in range(STEPS):
        prompts = torch.randint(PROMPTS, (BATCH,), generator=generator)
        chances = task.chances(weights, prompts)
        answers = torch.multinomial(chances, M, replacement=True, generator=generator)
        advantages = estimate((answers == 0).double())
        advantages = advantages / advantages.square().mean().sqrt().clamp(min=1e-30)
        weights = weights + rate * gradient(task.features[prompts], chances, answers, advantages)
    return task.pass_at(weights, N), task.pass_at(weights, 1)


def interval(values: np.ndarray) -> str:
    """Mean, and the 95% interval of the mean over seeds."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return f"{values.mean():.3f} [{values.mean() - half:.3f}, {values.mean() + half:.3f}]"


def main() -> None:
    """Print a table for each number of topics."""
    for topics in TOPICS:
        rows = {}
        tasks = {seed: Task(topics, seed) for seed in (*CHOOSING, *REPORTED)}
        start = np.array([tasks[seed].pass_at(torch.zeros(FEATURES, dtype=torch.float64), N) for seed in REPORTED])
        for name, estimate in ESTIMATORS.items():
            chosen = [sum(train(tasks[seed], estimate, rate, seed)[0] for seed in CHOOSING) for rate in RATES]
            rate = RATES[int(np.argmax(chosen))]
            rows[name] = rate, np.array([train(tasks[seed], estimate, rate, seed) for seed in REPORTED])
        reference = rows["pass_at_n"][1][:, 0]
        print(f"\nTopics: {topics}; pass@{N} before: {interval(start)}\n")
        print(f"| estimator | learning rate | pass@{N} | less pass_at_n's | pass@1 |\n|---|---|---|---|---|")
        for name, (rate, ends) in rows.items():
            cells = interval(ends[:, 0]), interval(ends[:, 0] - reference), interval(ends[:, 1])
            print(f"| {name} | {rate:g} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
