"""How many seeds would see a gain, and how far gains spread over seeds."""

import numpy as np
import pytest
from scipy import stats

from tailgrad.statistics import seed_deviation, seeds_needed


@pytest.mark.parametrize("effect", [3.0, 1.0, 0.6])
def test_power_is_that_of_simulated_t_tests(effect: float) -> None:
    """The number that is given reaches 80%, one seed fewer does not; 40,000 data sets, standard error 0.002."""
    generator = np.random.default_rng(0)

    def power(seeds: int) -> float:
        differences = generator.normal(0.2 * effect, 0.2, size=(40_000, seeds))
        return float((stats.ttest_1samp(differences, 0.0, axis=1).pvalue < 0.05).mean())

    needed = seeds_needed(0.2, 0.2 * effect)
    assert needed is not None
    assert power(needed) > 0.8 - 0.006
    assert needed == 2 or power(needed - 1) < 0.8 + 0.006


def test_the_sign_and_the_unit_do_not_matter() -> None:
    assert seeds_needed(0.1, -0.2) == seeds_needed(0.1, 0.2) == seeds_needed(10.0, 20.0)


def test_the_ends() -> None:
    assert seeds_needed(0.0, 0.1) == 2
    assert seeds_needed(1e-17, 3.0) == 2
    assert seeds_needed(0.0, 0.0) is None
    assert seeds_needed(1.0, 0.001) is None
    assert seeds_needed(float("nan"), 0.1) is None


def test_seeds_that_agree_by_chance_spread_as_the_noise_of_their_prompts() -> None:
    noise = np.random.default_rng(0).normal(size=(5, 4000))
    apart = np.arange(5.0)[:, None]
    assert seed_deviation(noise - noise.mean(axis=1, keepdims=True)) == pytest.approx(4000**-0.5, rel=0.02)
    assert seed_deviation(noise + apart) == pytest.approx(np.std(range(5), ddof=1), rel=0.02)
    prompts = 7.0 * np.arange(4000)  # what all seeds share does not count
    assert seed_deviation(noise + prompts) == pytest.approx(seed_deviation(noise))
    assert np.isnan(seed_deviation(np.empty((3, 0))))
    assert seed_deviation(np.array([[0.0, 0.0], [1.0, 1.0]])) == pytest.approx(0.5**0.5)
    assert np.isnan(seed_deviation(noise[:1]))
