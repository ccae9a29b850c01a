"""A pool too small to tell gradients from noise: the report says so, and how many responses per prompt to take."""

import re
from dataclasses import replace

import numpy as np
import pytest

from reports import tables_of
from tailgrad.fidelity import Fidelity, fidelity_markdown, gradient_fidelity
from tailgrad.fidelity.advice import HARDLY, times_as_many


def of_pool(n: int, seed: int, noise: float = 2.0) -> Fidelity:
    """Two prompts of a Gaussian policy with 60 more parameters that only add noise."""
    generator = np.random.default_rng(seed)
    rewards = generator.normal(size=(2, n))
    scores = np.stack([rewards, rewards**2 - 1], axis=2)
    gradients = np.concatenate([scores, noise * generator.normal(size=(2, n, 60))], axis=2)
    return gradient_fidelity(rewards, gradients, estimators=["tea", "grpo"], m=[8], deploy_n=[16])


def is_known(fidelity: Fidelity) -> bool:
    return fidelity.truth_agreement[16] >= HARDLY


def advised(fidelity: Fidelity) -> int | None:
    """The number of responses per prompt that the report asks for."""
    found = re.search(
        r"N = 16: the truths of the two halves hardly agree .* at least (\d+) ", fidelity_markdown(fidelity)
    )
    return int(found[1]) if found else None


def test_as_many_responses_as_advised_are_enough() -> None:
    small = [of_pool(32, seed) for seed in range(20)]
    unknown = [seed for seed, fidelity in enumerate(small) if not is_known(fidelity)]
    assert len(unknown) >= 8
    assert [seed for seed, fidelity in enumerate(small) if advised(fidelity)] == unknown
    sizes = {seed: advised(small[seed]) for seed in unknown}
    assert all(4 * 32 <= n <= 16 * 32 for n in sizes.values())
    still = [seed for seed, n in sizes.items() if not is_known(of_pool(n, seed + 100))]
    assert len(still) <= 0.15 * len(unknown)


@pytest.mark.parametrize(
    ("cosine", "times"),
    [(0.24, 4), (0.2, 4), (0.19, 8), (0.12, 8), (0.11, 16), (0.07, 16), (0.01, 16), (0.0, 16), (-0.5, 16)],
)
def test_so_many_times_as_many_bring_the_cosine_of_the_halves_to_a_half(cosine: float, times: int) -> None:
    assert times_as_many(cosine) == times
    if cosine >= 1 / 17:
        signal, noise = cosine, 1 - cosine  # of half of the pool, in squared norms
        assert signal / (signal + noise / times) >= 0.5
        assert times == 4 or signal / (signal + noise / (times / 2)) < 0.5


@pytest.mark.parametrize(("cosine", "hardly"), [(0.07, True), (0.24, True), (0.26, False)])
def test_where_the_halves_hardly_agree_nothing_is_told_as_a_fact(cosine: float, hardly: bool) -> None:
    text = fidelity_markdown(replace(of_pool(256, 0, noise=0.5), truth_agreement={16: cosine}))
    assert (f"hardly agree (cosine {cosine:.2f})" in text) == hardly
    assert ("Direction of the gradient of the mean reward: unknown at N = 16." in text) == hardly
    (rows,) = tables_of(text)
    assert (rows[1][-1] == "unknown") == hardly
    assert rows[2][-1] == ""


def test_where_all_is_known_nothing_is_advised() -> None:
    text = fidelity_markdown(of_pool(256, 0, noise=0.5))
    assert "hardly" not in text
    assert "No measurable signal" not in text


def test_an_estimator_without_signal_is_named_where_the_truth_is_known() -> None:
    """0/1 rewards at a success rate of 0.98: the two best of 8 hardly ever differ."""
    generator = np.random.default_rng(0)
    rewards = (generator.random((4, 1024)) < 0.98).astype(float)
    gradients = (rewards - 0.98)[:, :, None] * np.array([1.0, 0.5]) + 1e-3 * generator.normal(size=(4, 1024, 2))
    asked = {"estimators": ["grpo", "bon_max_second"], "m": [8], "deploy_n": [4]}
    fidelity = gradient_fidelity(rewards, gradients, **asked)
    assert fidelity.truth_agreement[4] > 0.99
    text = fidelity_markdown(fidelity)
    assert "No measurable signal at N = 4: bon_max_second (m = 8)." in text
    assert "Sample at least" not in text


def test_equal_rewards_are_no_matter_of_more_responses() -> None:
    rewards, gradients = np.ones((2, 64)), np.random.default_rng(0).normal(size=(2, 64, 3))
    text = fidelity_markdown(gradient_fidelity(rewards, gradients, estimators=["tea"], m=[8], deploy_n=[16]))
    assert "no prompt has responses with different rewards" in text
    assert "at least" not in text


def test_the_report_begins_with_the_direction_of_the_mean() -> None:
    generator = np.random.default_rng(0)
    rewards = generator.normal(size=(8, 1024))
    scores = np.stack([rewards, 0.3 * rewards**2], axis=2)
    asked = {"m": [8, 16], "deploy_n": [32, 64]}
    fidelity = gradient_fidelity(rewards, scores, estimators=["tea", "grpo", "dr_grpo"], **asked)
    line = fidelity_markdown(fidelity).splitlines()[2]
    found = {(one.estimator, one.m, one.deploy_n): one.measures["direction"] for one in fidelity.points}
    cells = []
    for budget in (32, 64):
        mean, low, high = (part[0] for part in found["dr_grpo", 16, budget][:3])
        cells.append(f"{mean:.2f} [{low:.2f}, {high:.2f}] at N = {budget}")
    assert line == (
        f"Direction of the gradient of the mean reward: {cells[0]}, {cells[1]}. From 0.85 on GRPO is hard to beat; "
        "below 0.6 an estimator of the tail helps (docs/concepts.md)."
    )
    without = fidelity_markdown(gradient_fidelity(rewards, scores, estimators=["tea"], **asked))
    assert "mean reward" not in without
