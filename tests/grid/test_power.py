"""How many seeds would see a gain."""

import numpy as np
from scipy import stats

from tailgrad.grid.choosing import chosen_trainings
from tailgrad.grid.gather import methods_of, settings
from tailgrad.grid.power import power_table, seed_differences
from tailgrad.grid.trainings import BASE
from tailgrad.statistics import seeds_needed

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


def test_one_seed_has_no_power(make_grid, fill) -> None:
    found = methods(make_grid(seeds=[0]), fill)
    assert power_table(found, budget=16, reference="grpo").startswith("No estimate of power")


def test_of_fewer_than_half_of_the_prompts_nothing_is_said(make_grid, fill) -> None:
    found = methods(make_grid(estimators=["grpo", "tea", "rloo"], seeds=[0, 1, 2]), fill)
    for prompt in (0, 1, 2):
        found["tea"].rows[1][-1]["v_n"][prompt] = [None] * 5
    tea, rloo = power_table(found, budget=16, reference="grpo").split("\n")[4:]
    assert [cell.strip() for cell in tea.split("|")[1:-1]] == ["tea", "unknown", "unknown", "unknown"]
    assert "+1.000" in rloo
