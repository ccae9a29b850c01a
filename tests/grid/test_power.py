"""How many seeds would see a gain."""

import numpy as np
import pytest
from scipy import stats

from tailgrad.grid.choosing import chosen_trainings
from tailgrad.grid.gather import methods_of, settings
from tailgrad.grid.power import power_table, seed_deviation, seed_differences, seeds_needed
from tailgrad.grid.trainings import BASE


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


# differences to grpo by seed: tea 0.1, 0.2, 0.6 (mean 0.3, variance (0.04 + 0.01 + 0.09) / 2 = 0.07); rloo always 1
EXTRA = {"grpo": [0.0, 0.0, 0.0], "tea": [0.1, 0.2, 0.6], "rloo": [1.0, 1.0, 1.0], BASE: [0.0] * 3}


def value(training, step, scored_by):
    prompts = np.arange(4.0)[:, None] + 10.0 * training.seed
    return prompts + EXTRA[training.estimator][training.seed] + np.arange(5.0)


def methods(config, fill):
    rows = fill(config, value)
    return methods_of(config, settings(config)[0], chosen_trainings(config, rows), {row["key"]: row for row in rows})


def test_differences_pair_by_seed(make_grid, fill) -> None:
    found = methods(make_grid(estimators=["grpo", "tea", "rloo"], seeds=[0, 1, 2]), fill)
    expected = np.repeat([[0.1], [0.2], [0.6]], 4, axis=1)
    np.testing.assert_allclose(seed_differences(found["tea"], found["grpo"], 16), expected)
    found["tea"].rows[1][-1]["v_n"][0] = [None] * 5  # the first prompt of the second seed has no V_N
    np.testing.assert_allclose(seed_differences(found["tea"], found["grpo"], 16), expected[:, 1:])
    text = power_table(found, budget=16, reference="grpo")
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.split("\n")[4:]]
    deviation = 0.07**0.5
    limits = [deviation * (2 / stats.chi2.ppf(level, 2)) ** 0.5 for level in (0.9, 0.1)]
    needed, low, high = (seeds_needed(one, 0.1) for one in (deviation, *limits))
    assert lines[0] == ["tea", "+0.300", f"{deviation:.3f}", f"{needed} ({low} to {high})"]
    assert lines[1] == ["rloo", "+1.000", "0.000", "2 (2 to 2)"]
    assert len(lines) == 2


def test_seeds_that_agree_by_chance_spread_as_the_noise_of_their_prompts() -> None:
    noise = np.random.default_rng(0).normal(size=(5, 4000))
    apart = np.arange(5.0)[:, None]
    assert seed_deviation(noise - noise.mean(axis=1, keepdims=True)) == pytest.approx(4000**-0.5, rel=0.02)
    assert seed_deviation(noise + apart) == pytest.approx(np.std(range(5), ddof=1), rel=0.02)
    prompts = 7.0 * np.arange(4000)  # what all seeds share does not count
    assert seed_deviation(noise + prompts) == pytest.approx(seed_deviation(noise))
    assert np.isnan(seed_deviation(np.empty((3, 0))))


def test_one_seed_has_no_power(make_grid, fill) -> None:
    found = methods(make_grid(seeds=[0]), fill)
    assert power_table(found, budget=16, reference="grpo").startswith("No estimate of power")
