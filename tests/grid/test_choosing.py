"""Which learning rate each method is reported at."""

import numpy as np
import pytest

from tailgrad.grid import GridConfig
from tailgrad.grid.choosing import choices_of, chosen_trainings, smallest_good, v_n
from tailgrad.grid.results import Row
from tailgrad.grid.trainings import choosing, trials


def choosing_rows(config: GridConfig, make_row, values: dict[tuple[str, float], list[float]]) -> list[Row]:
    """Rows with the choosing V_N of each estimator and learning rate, equal for all prompts, at four N."""
    rows = []
    for training in trials(config):
        (measurement,) = choosing(config, training)
        v_n = [values[training.estimator, training.learning_rate]] * 3
        rows.append(make_row(config, training, measurement, v_n, budgets=(1, 8, 16, 32)))
    return rows


def test_the_learning_rate_is_chosen_at_n_on_the_choosing_prompts(make_grid, make_row) -> None:
    config = make_grid(
        estimators=["grpo", "tea", "rloo"],
        learning_rates=[0.03, 0.003, 0.01],
        m_and_n=[[8, 64], [8, 16]],
        choose_n=32,
    )
    values = {
        ("grpo", 0.003): [3.0, 0, 0, 1.0],  # grpo knows no N: the largest, which choose_n = 32 caps
        ("grpo", 0.01): [1.0, 0, 9, 2.0],
        ("grpo", 0.03): [2.0, 9, 0, 1.5],
        ("tea", 0.003): [0.0, 1, 5, 1.0],
        ("tea", 0.01): [9.0, 9, 1, 1.0],
        ("tea", 0.03): [1.0, 2, 2, 2.0],
        ("rloo", 0.003): [0.0, 0, 0, 1.0],  # all alike: the smallest
        ("rloo", 0.01): [0.0, 0, 0, 1.0],
        ("rloo", 0.03): [0.0, 0, 0, 1.0],
    }
    rows = choosing_rows(config, make_row, values)
    chosen = chosen_trainings(config, rows)
    rates = {(one.estimator, one.deploy_n): one.learning_rate for one in chosen}
    assert rates == {("grpo", None): 0.01, ("tea", 64): 0.03, ("tea", 16): 0.003, ("rloo", None): 0.003}
    assert [one.seed for one in chosen] == [0] * 4 + [1] * 4
    unfinished = [row for row in rows if (row["estimator"], row["learning_rate"]) != ("grpo", 0.003)]
    assert {one.estimator for one in chosen_trainings(config, unfinished)} == {"tea", "rloo"}


def test_the_kl_weight_is_chosen_with_the_learning_rate(make_grid, make_row) -> None:
    config = make_grid(
        estimators=["grpo", "tea", "rloo"], learning_rates=[0.03, 0.01], betas=[0.0, 0.5], choose_beta=True
    )
    values = {
        "grpo": {(0.01, 0.5): 1.0, (0.01, 0.0): 2.0, (0.03, 0.5): 1.5, (0.03, 0.0): 0.0},
        "tea": {(0.01, 0.5): 1.0, (0.01, 0.0): 2.0, (0.03, 0.5): 3.0, (0.03, 0.0): 2.5},
        "rloo": {(0.01, 0.5): 0.0, (0.01, 0.0): 1.0, (0.03, 0.5): 1.0, (0.03, 0.0): 1.0},
    }
    assert len(trials(config)) == 3 * 4
    rows = []
    for one in trials(config):
        (measurement,) = choosing(config, one)
        reached = [[values[one.estimator][one.learning_rate, one.kl_weight]]] * 3
        rows.append(make_row(config, one, measurement, reached, budgets=(16,)))
    chosen = {one.estimator: (one.learning_rate, one.kl_weight) for one in chosen_trainings(config, rows)}
    assert chosen == {"grpo": (0.01, 0.0), "tea": (0.03, 0.5), "rloo": (0.01, 0.0)}
    assert len(chosen_trainings(config, rows)) == 3 * len(config.seeds)


def test_of_equal_trials_the_one_that_moves_least(make_grid, make_row) -> None:
    config = make_grid(estimators=["grpo"], learning_rates=[0.03, 0.01], betas=[0.0, 0.5], choose_beta=True)
    rows = [make_row(config, one, *choosing(config, one), [[1.0]] * 3, budgets=(16,)) for one in trials(config)]
    assert {(one.learning_rate, one.kl_weight) for one in chosen_trainings(config, rows)} == {(0.01, 0.5)}


def test_one_learning_rate_needs_no_choice(make_grid) -> None:
    config = make_grid(learning_rates=[0.01])
    assert {one.learning_rate for one in chosen_trainings(config, [])} == {0.01}
    assert len(chosen_trainings(config, [])) == 4


def test_the_values_at_the_budget_or_below() -> None:
    row = {"budgets": [1, 2, 5], "v_n": [[1.0, 2.0, 3.0], [2.0, 6.0, None]]}
    found = [v_n(row, budget).tolist() for budget in (1, 2, 4)]
    assert found == [[1.0, 2.0], [2.0, 6.0], [2.0, 6.0]]
    np.testing.assert_equal(v_n(row, 9), [3.0, np.nan])


@pytest.mark.parametrize(("gain", "expected"), [(0.49, 0), (0.51, 1)])
def test_a_larger_rate_must_be_better_by_a_standard_error(gain: float, expected: int) -> None:
    # differences of variance (1 + 1 + 1 + 1) / 3 over 4 prompts: a standard error of sqrt(1 / 3)
    small, noise = np.array([5.0, 1.0, 3.0, 2.0]), np.array([1.0, -1.0, 1.0, -1.0]) * 0.75**0.5
    assert smallest_good(np.stack([small, small + gain + noise, small - 1.0])) == expected
    assert smallest_good(np.stack([small - 9.0, small, small + gain + noise])) == expected + 1


def test_unknown_values_do_not_choose() -> None:
    unknown = np.array([[2.0, 8.0, 8.0], [np.nan, 7.0, 7.0], [1.0, 1.0, 1.0]])
    assert smallest_good(unknown) == 0  # 6.0 and 7.0 are means over other prompts
    assert smallest_good(np.full((2, 3), np.nan)) == 0
    assert smallest_good(np.array([[1.0, np.nan], [2.0, 5.0]])) == 1


def unscored(row: Row, share: float, draw: np.random.Generator, budgets: tuple[int, ...]) -> Row:
    """The row with that share of its responses unscored: V_N of a prompt needs N scored ones."""
    n = max(budgets)
    scored = draw.binomial(n, 1 - share, size=len(row["v_n"]))
    values = [
        [v if b <= k else None for v, b in zip(vs, budgets, strict=True)]
        for vs, k in zip(row["v_n"], scored, strict=True)
    ]
    return {**row, "v_n": values}


@pytest.mark.parametrize("share", [0.0, 0.005, 0.02, 0.3])
def test_unscored_responses_do_not_choose(make_grid, make_row, share: float) -> None:
    """Of 50 prompts with 128 responses each; the largest rate is far the best, whoever is unscored."""
    config = make_grid(
        estimators=["grpo"], learning_rates=[0.001, 0.01, 0.1], m_and_n=[[8, 128]], choose_n=128, test_n=128
    )
    budgets, draw = (1, 16, 64, 128), np.random.default_rng(0)
    rows = []
    for training in trials(config):
        level = {0.001: 0.1, 0.01: 0.5, 0.1: 1.0}[training.learning_rate]
        values = (level + 0.1 * draw.normal(size=(50, 1)) + np.arange(4) / 10).tolist()
        row = make_row(config, training, *choosing(config, training), values, budgets=budgets)
        rows.append(unscored(row, share, draw, budgets))
    (choice,) = choices_of(config, rows)
    assert choice.training.learning_rate == 0.1
    assert choice.budget == {0.0: 128, 0.005: 64, 0.02: 64, 0.3: 64}[share]
    assert choice.prompts >= 45
    assert choice.of_prompts == 50


def test_a_trial_that_is_mostly_unscored_does_not_erase_the_others(make_grid, make_row) -> None:
    config = make_grid(estimators=["grpo"], learning_rates=[0.001, 0.01, 0.1])
    values = {0.001: [[1.0], [1.1], [0.9]], 0.01: [[2.0], [2.1], [1.9]], 0.1: [[None], [None], [9.0]]}
    rows = [
        make_row(config, one, *choosing(config, one), values[one.learning_rate], budgets=(16,))
        for one in trials(config)
    ]
    (choice,) = choices_of(config, rows)
    assert (choice.training.learning_rate, choice.prompts, choice.of_prompts) == (0.01, 3, 3)
    gone = [{**row, "v_n": [[None], [None], [9.0]]} for row in rows]
    with pytest.raises(ValueError, match=r"grpo: most responses to the choosing prompts are unscored"):
        choices_of(config, gone)
