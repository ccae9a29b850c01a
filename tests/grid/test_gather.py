"""From rows to the methods of a setting: which belong together, paired by seed."""

import numpy as np
import pytest

from tailgrad.grid.choosing import chosen_trainings
from tailgrad.grid.gather import Setting, compare_methods, methods_of, settings, shared_budgets
from tailgrad.grid.trainings import BASE

PROMPTS, LEVELS = 6, {BASE: 1.0, "grpo": 2.0, "tea": 2.5, "rloo": 1.5}


def draws(training, step, scored_by):
    """V_N that differ by method, seed, step, reward, prompt and budget, and grow with the budget."""
    name = training.estimator
    seed = [LEVELS[name] * 100, training.seed, step, training.deploy_n or 0, len(scored_by), training.m]
    noise = np.random.default_rng([int(part) for part in seed]).random((PROMPTS, 5))
    return LEVELS[name] + step + np.arange(5) + noise


def kl(training, step):
    return 0.0 if training.estimator == BASE else step + 0.1 * np.arange(PROMPTS) + training.seed


def gather(config, setting, rows):
    found = {row["key"]: row for row in rows}
    return methods_of(config, setting, chosen_trainings(config, rows), found)


def without(rows, estimator, seed, step):
    kept = [
        row
        for row in rows
        if (row["split"], row["estimator"], row["seed"], row["step"]) != ("test", estimator, seed, step)
    ]
    assert len(kept) < len(rows)
    return kept


@pytest.fixture
def config(make_grid):
    return make_grid(estimators=["grpo", "tea", "rloo"], seeds=[3, 1, 2])


def test_settings_are_the_products_and_who_scores(make_grid) -> None:
    config = make_grid(
        policies={"a": "a", "b": "b"},
        rewards={"verifier": "x.y", "judge": "z.w"},
        also_score=["judge"],
        m_and_n=[[8, 16], [8, 32]],
        betas=[0.0, 0.5],
    )
    found = settings(config)
    assert len(found) == len(set(found)) == 2 * 2 * 2 * (2 + 1)
    assert {(one.reward, one.scored_by) for one in found} == {
        ("verifier", "verifier"),
        ("verifier", "judge"),
        ("judge", "judge"),
    }
    assert Setting("a", "verifier", "tasks", 8, 16, 0.5, "judge").title == (
        "a policy, tasks prompts, verifier reward, the best by it scored by judge: m = 8, N = 16, KL weight 0.5"
    )
    assert "scored" not in Setting("a", "verifier", "tasks", 8, 16, 0.5, "verifier").title


def test_methods_with_weights_of_their_own_are_one_setting(make_grid, fill) -> None:
    config = make_grid(betas=[0.0, 0.5], choose_beta=True)
    (setting,) = settings(config)
    assert setting.title.endswith("KL weight chosen")
    rows = fill(config, lambda one, *rest: draws(one, *rest) + (one.kl_weight - 0.25) * (one.estimator == "tea"), kl)
    methods = gather(config, setting, rows)
    assert {name: method.training.kl_weight for name, method in methods.items()} == {BASE: 0.0, "grpo": 0.5, "tea": 0.5}


def test_values_are_those_of_the_rows(config, fill) -> None:
    methods = gather(config, settings(config)[0], fill(config, draws, kl))
    assert list(methods) == [BASE, "grpo", "tea", "rloo"]
    tea = methods["tea"]
    assert (tea.steps, tea.seeds) == ((0, 1, 2), (3, 1, 2))
    assert tea.training.learning_rate == 0.003
    chosen = chosen_trainings(config, fill(config, draws, kl))
    seeds = [one for one in chosen if one.estimator == "tea"]
    for step in (1, 2):
        expected = np.stack([draws(one, step, "verifier")[:, [0, 3]] for one in seeds])
        np.testing.assert_array_equal(tea.v_n(step, [1, 8]), expected)
    base = draws(methods[BASE].training, 0, "verifier")
    np.testing.assert_array_equal(tea.v_n(0, [16]), np.stack([base[:, [4]]] * 3))
    np.testing.assert_array_equal(tea.measure(2, "kl"), np.stack([kl(one, 2) for one in seeds]))
    assert shared_budgets(methods) == (1, 2, 4, 8, 16)
    assert shared_budgets(methods, every_step=True) == (1, 2, 4, 8)


def test_differences_pair_seed_with_seed_and_prompt_with_prompt(config, fill) -> None:
    rows = fill(config, draws, kl)
    comparison = compare_methods(config, settings(config)[0], gather(config, settings(config)[0], rows))
    assert (comparison.reference, comparison.n, comparison.prompts) == ("grpo", 16, PROMPTS)
    by_name = {curve.name: curve for curve in comparison.curves}
    chosen = chosen_trainings(config, rows)
    last = {
        name: np.stack([draws(one, 2, "verifier") for one in chosen if one.estimator == name])
        for name in ("grpo", "tea")
    }
    np.testing.assert_allclose(by_name["tea"].v_n.mean, last["tea"].mean(axis=(0, 1)), rtol=1e-12)
    np.testing.assert_allclose(
        by_name["tea"].difference.mean, (last["tea"] - last["grpo"]).mean(axis=(0, 1)), rtol=1e-12
    )
    np.testing.assert_allclose(by_name["tea"].per_seed, last["tea"].mean(axis=1), rtol=1e-12)
    assert by_name["grpo"].difference is None
    assert by_name[BASE].seeds == 1
    expected_kl = np.mean([kl(one, 2) for one in chosen if one.estimator == "tea"])
    np.testing.assert_allclose(by_name["tea"].measures["kl"].mean, [expected_kl], rtol=1e-12)


@pytest.mark.parametrize("step", [1, 2])
def test_a_missing_seed_is_left_out_of_all_by_its_number(config, fill, step) -> None:
    """The second of three seeds: the third must stay paired with the third."""
    whole = fill(config, draws, kl)
    methods = gather(config, settings(config)[0], without(whole, "tea", 1, step))
    assert {name: one.seeds for name, one in methods.items() if name != BASE} == dict.fromkeys(
        ("grpo", "tea", "rloo"), (3, 2)
    )
    chosen = [one for one in chosen_trainings(config, whole) if one.seed != 1]
    for name in ("grpo", "tea", "rloo"):
        expected = np.stack([draws(one, 2, "verifier") for one in chosen if one.estimator == name])
        np.testing.assert_array_equal(methods[name].v_n(2, [1, 2, 4, 8, 16]), expected)


def test_what_is_not_finished_is_left_out(config, fill) -> None:
    setting, whole = settings(config)[0], fill(config, draws, kl)
    assert list(gather(config, setting, without(whole, "tea", 3, 2))) == [BASE, "grpo", "rloo"]
    assert gather(config, setting, without(whole, BASE, 0, 0)) == {}
    assert gather(config, setting, []) == {}


def test_a_training_for_another_budget_does_not_belong(make_grid, fill) -> None:
    config = make_grid(m_and_n=[[8, 16], [8, 32]])
    rows = fill(config, draws, kl)
    first, second = (gather(config, setting, rows) for setting in settings(config))
    assert (first["tea"].training.deploy_n, second["tea"].training.deploy_n) == (16, 32)
    assert first["grpo"].training == second["grpo"].training


def test_another_reward_scores_the_same_trainings(make_grid, fill) -> None:
    config = make_grid(rewards={"verifier": "x.y", "judge2": "z.w"}, also_score=["judge2"])
    rows = fill(config, draws, kl)
    own, other, _ = settings(config)
    assert (own.scored_by, other.scored_by) == ("verifier", "judge2") or (own.reward == "judge2")
    for setting in settings(config):
        methods = gather(config, setting, rows)
        tea = methods["tea"]
        steps = (0, 1, 2) if setting.scored_by == setting.reward else (0, 2)
        assert tea.steps == steps
        assert {row["scored_by"] for path in tea.rows for row in path} == {setting.scored_by}
        assert {row["reward"] for path in tea.rows for row in path} == {setting.reward}
