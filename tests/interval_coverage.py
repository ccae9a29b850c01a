"""Data sets with a known truth for the intervals, and the coverage tables of docs/intervals.md.

    python tests/interval_coverage.py

Coverage is measured on K independent data sets at once: one call of `mean_interval`, one column each.
"""

from itertools import product

import numpy as np
from scipy import integrate, special, stats

from tailgrad.curves import best_of_n
from tailgrad.statistics import mean_interval

K = 1500  # binomial standard error of a coverage of 95%: 0.56%
ROUNDS = 8


def coverage(interval, truth):
    return float(np.mean((interval.low <= truth) & (truth <= interval.high)))


def expected_max_normal(n):
    value, _ = integrate.quad(lambda x: x * n * stats.norm.pdf(x) * stats.norm.cdf(x) ** (n - 1), -12, 12)
    return value


def normal_pools(rng, prompts, n, budget):
    mean = rng.normal(size=(prompts, 1))
    scale = rng.uniform(0.5, 1.5, size=(prompts, 1))
    return mean + scale * rng.normal(size=(prompts, n)), expected_max_normal(budget)


def skewed_pools(rng, prompts, n, budget, shape=2.0):
    scale = rng.gamma(shape, size=(prompts, 1))
    return scale * rng.exponential(size=(prompts, n)), shape * sum(1 / i for i in range(1, budget + 1))


def very_skewed_pools(rng, prompts, n, budget):
    return skewed_pools(rng, prompts, n, budget, shape=1.0)


def verifier_pools(rng, prompts, n, budget):
    solved = rng.beta(1, 3, size=(prompts, 1))
    truth = 1 - np.exp(special.betaln(1, 3 + budget) - special.betaln(1, 3))
    return (rng.random((prompts, n)) < solved).astype(float), truth


def values_of(pools, prompts, budget, n=32, seed=0):
    rewards, truth = pools(np.random.default_rng(seed), prompts * K, n, budget)
    return best_of_n(rewards, [budget])[:, 0].reshape(1, prompts, K), truth


def additive(rng, seeds, seed_scale, prompt_scale):
    """Prompt effects, seed effects and an interaction N(0, 0.25); the mean is 0."""
    values = 0.5 * rng.normal(size=(seeds, 50, K))
    values += seed_scale * rng.normal(size=(seeds, 1, K))
    return values + prompt_scale * rng.normal(size=(1, 50, K))


def over_prompts(pools, budget, prompts):
    """Percent of the intervals over prompts that hold the truth."""
    found = (values_of(pools, prompts, budget, seed=seed) for seed in range(ROUNDS))
    return 100 * np.mean([coverage(mean_interval(values), truth) for values, truth in found])


def over_seeds(seeds, prompt_scale, seed_scale):
    """Percent of the intervals over prompts and seeds that hold the truth."""
    found = (
        additive(np.random.default_rng([seeds, round_]), seeds, seed_scale, prompt_scale) for round_ in range(ROUNDS)
    )
    return 100 * np.mean([coverage(mean_interval(values), 0.0) for values in found])


def main():
    for pools, budget in (
        (normal_pools, 16),
        (skewed_pools, 8),
        (very_skewed_pools, 8),
        (verifier_pools, 1),
        (verifier_pools, 16),
    ):
        cells = [f"{over_prompts(pools, budget, prompts):.1f}" for prompts in (2, 3, 5, 10, 20, 50, 100)]
        print(f"| {pools.__name__}, V_{budget} | {' | '.join(cells)} |", flush=True)
    for seeds, prompt_scale in product((5, 3, 2), (1.0, 0.1)):
        cells = [f"{over_seeds(seeds, prompt_scale, seed_scale):.1f}" for seed_scale in (0.0, 0.1, 0.4)]
        print(f"| {seeds} seeds, prompt effect {prompt_scale:g} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
