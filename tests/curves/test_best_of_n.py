from fractions import Fraction
from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailgrad.curves import best_of_n, budgets_up_to

rewards_of_a_prompt = st.lists(
    st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6), st.just(float("nan"))),
    min_size=1,
    max_size=9,
)


@settings(deadline=None, max_examples=60)
@given(rewards_of_a_prompt)
def test_is_the_mean_maximum_over_all_subsets_of_the_scored_responses(rewards):
    scored = [reward for reward in rewards if not np.isnan(reward)]
    budgets = range(1, len(rewards) + 1)
    values = best_of_n(np.array([rewards]), list(budgets))
    for budget, value in zip(budgets, values[0], strict=True):
        if budget > len(scored):
            assert np.isnan(value)
        else:
            maxima = [max(subset) for subset in combinations(scored, budget)]
            np.testing.assert_allclose(value, np.mean(maxima), rtol=1e-12, atol=1e-9)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 1.0, 2.0, np.nan]), st.sampled_from([-1.0, 0.5, 7.0, np.nan])),
        min_size=1,
        max_size=8,
    )
)
def test_another_reward_picks_the_best_and_equals_equally_often(pairs):
    """What is picked without a score makes the value unknown; what has no selection is never picked."""
    pickable = [pair for pair in pairs if not np.isnan(pair[0])]
    selection, rewards = np.array(pairs).T
    budgets = range(1, len(pairs) + 1)
    values = best_of_n(rewards[None], list(budgets), selection=selection[None])[0]
    for budget, value in zip(budgets, values, strict=True):
        picked = []
        for subset in combinations(pickable, budget):
            best = max(chosen_by for chosen_by, _ in subset)
            picked.append(np.mean([reward for chosen_by, reward in subset if chosen_by == best]))
        expected = np.mean(picked) if picked else np.nan
        np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-12)


def test_a_score_that_is_missing_where_the_choice_falls_is_unknown_and_not_that_of_another_choice():
    selection = np.random.default_rng(0).normal(size=(50, 256))
    rewards = np.where(selection > 1.5, np.nan, selection)
    assert np.isnan(best_of_n(rewards, [1, 32, 256], selection=selection)).all()
    low = np.where(selection < -1.5, np.nan, selection)  # only single responses are that bad
    known = best_of_n(low, [1, 256], selection=selection)
    assert np.isnan(known[:, 0]).all()
    np.testing.assert_array_equal(known[:, 1], selection.max(axis=1))


def test_the_selection_must_fit_the_rewards():
    with pytest.raises(ValueError, match="selection has shape"):
        best_of_n(np.zeros((2, 3)), [1], selection=np.zeros((2, 2)))
    with pytest.raises(ValueError, match="must be finite"):
        best_of_n(np.zeros((1, 2)), [1], selection=np.array([[0.0, np.inf]]))


@pytest.mark.parametrize("n", [7, 256, 10_000])
def test_ranks_have_the_closed_form(n):
    rng = np.random.default_rng(0)
    budgets = budgets_up_to(n)
    values = best_of_n(rng.permutation(np.arange(1, n + 1))[None], budgets)
    expected = [budget * (n + 1) / (budget + 1) for budget in budgets]
    np.testing.assert_allclose(values[0], expected, rtol=1e-11)


@pytest.mark.parametrize("correct", [0, 1, 5, 128, 255, 256])
def test_a_verifier_gives_pass_at_k(correct):
    n = 256
    rewards = np.random.default_rng(1).permutation(np.arange(n) < correct).astype(float)
    budgets = (1, 3, 16, 200, 256)
    expected = [float(1 - Fraction(comb(n - correct, budget), comb(n, budget))) for budget in budgets]
    np.testing.assert_allclose(best_of_n(rewards[None], budgets)[0], expected, rtol=1e-12, atol=1e-15)


def test_one_is_the_mean_and_n_the_maximum():
    rewards = np.random.default_rng(2).normal(size=(5, 12))
    values = best_of_n(rewards, [1, 12])
    np.testing.assert_allclose(values[:, 0], rewards.mean(axis=1), rtol=1e-12)
    np.testing.assert_array_equal(values[:, 1], rewards.max(axis=1))


def test_prompts_with_different_numbers_of_scored_responses_stay_apart():
    rewards = np.random.default_rng(3).normal(size=(4, 6))
    rewards[1, :3] = np.nan
    rewards[3] = np.nan
    together = best_of_n(rewards, [1, 2, 4])
    for prompt in range(4):
        np.testing.assert_array_equal(together[prompt], best_of_n(rewards[[prompt]], [1, 2, 4])[0])
    assert np.isnan(together[3]).all()
    assert np.isnan(together).sum(axis=1).tolist() == [0, 1, 0, 3]


def test_whole_number_rewards_are_taken_as_numbers():
    np.testing.assert_allclose(best_of_n(np.array([[1, 0, 0, 0]]), [2]), [[0.5]], rtol=1e-15)


@pytest.mark.parametrize(("n", "budgets"), [(1, (1,)), (2, (1, 2)), (12, (1, 2, 4, 8, 12)), (16, (1, 2, 4, 8, 16))])
def test_budgets_double_up_to_n(n, budgets):
    assert budgets_up_to(n) == budgets


def test_many_prompts_are_what_each_is_alone():
    rewards = np.random.default_rng(4).normal(size=(1500, 400))
    values = best_of_n(rewards, [1, 7, 400])
    assert values.shape == (1500, 3)
    for prompt in (0, 1309, 1310, 1311, 1499):  # blocks of 2^19 responses
        np.testing.assert_array_equal(values[prompt], best_of_n(rewards[[prompt]], [1, 7, 400])[0])


def test_says_what_is_wrong():
    rewards = np.zeros((2, 4))
    with pytest.raises(ValueError, match="between 1 and the 4 responses per prompt, got 5"):
        best_of_n(rewards, [5])
    with pytest.raises(ValueError, match="between 1 and the 4 responses per prompt, got 0"):
        best_of_n(rewards, [0])
    with pytest.raises(ValueError, match="budgets is empty"):
        best_of_n(rewards, [])
    with pytest.raises(ValueError, match="at least one prompt and one response, got \\(0, 4\\)"):
        best_of_n(rewards[:0], [1])
    with pytest.raises(ValueError, match="response 3 of prompt 1 has -inf"):
        best_of_n(np.array([[0.0] * 4, [0.0, 0.0, 0.0, -np.inf]]), [1])
    with pytest.raises(ValueError, match="n >= 1 responses per prompt, got n=0"):
        budgets_up_to(0)


@pytest.mark.usefixtures("without_shape_checks")
def test_says_what_is_wrong_with_the_types():
    with pytest.raises(ValueError, match=r"matrix \[P, n\].*got \(4,\)"):
        best_of_n(np.zeros(4), [1])
    with pytest.raises(TypeError, match=r"must be an integer, got 1\.5"):
        best_of_n(np.zeros((2, 4)), [1.5])
