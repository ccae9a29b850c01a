"""A pool too small to tell gradients from noise: the report says how many responses per prompt to take."""

import re

import numpy as np

from tailgrad.fidelity import Fidelity, fidelity_markdown, gradient_fidelity


def of_pool(n: int, seed: int, noise: float = 4.0) -> Fidelity:
    """Two prompts of a Gaussian policy with 60 more parameters that only add noise."""
    generator = np.random.default_rng(seed)
    rewards = generator.normal(size=(2, n))
    scores = np.stack([rewards, rewards**2 - 1], axis=2)
    gradients = np.concatenate([scores, noise * generator.normal(size=(2, n, 60))], axis=2)
    return gradient_fidelity(rewards, gradients, estimators=["tea", "grpo"], m=[8], deploy_n=[16])


def is_unknown(fidelity: Fidelity) -> bool:
    return any(np.isnan(point.measures["direction"].mean[0]) for point in fidelity.points)


def advised(fidelity: Fidelity) -> int | None:
    """The number of responses per prompt that the report asks for."""
    found = re.search(r"Unknown at N = 16: .* at least (\d+) per prompt", fidelity_markdown(fidelity))
    return int(found[1]) if found else None


def test_as_many_responses_as_advised_are_enough() -> None:
    small = [of_pool(32, seed) for seed in range(20)]
    unknown = [seed for seed, fidelity in enumerate(small) if is_unknown(fidelity)]
    assert len(unknown) >= 8
    assert [seed for seed, fidelity in enumerate(small) if advised(fidelity)] == unknown
    sizes = {seed: advised(small[seed]) for seed in unknown}
    assert all(4 * 32 <= n <= 16 * 32 for n in sizes.values())
    still = [seed for seed, n in sizes.items() if is_unknown(of_pool(n, seed + 100))]
    assert len(still) <= 0.15 * len(unknown)


def test_where_all_is_known_nothing_is_advised() -> None:
    assert advised(of_pool(256, 0, noise=0.5)) is None


def test_equal_rewards_are_no_matter_of_more_responses() -> None:
    rewards, gradients = np.ones((2, 64)), np.random.default_rng(0).normal(size=(2, 64, 3))
    text = fidelity_markdown(gradient_fidelity(rewards, gradients, estimators=["tea"], m=[8], deploy_n=[16]))
    assert "no prompt has responses with different rewards" in text
    assert "at least" not in text
