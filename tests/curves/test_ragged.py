"""Prompts with different numbers of responses: over which prompts V_N is, and up to which N."""

import numpy as np
import pytest

from reports import numbers_in, tables_of
from tailgrad.curves import Rollouts, best_of_n, compare
from tailgrad.curves.tables import markdown_text, notes_of
from tailgrad.display.cells import decimals_of
from tailgrad.statistics.intervals import Interval


def ragged_run(name, seed=0):
    """Half of the prompts have 8 responses near 0.5, half 2 near 10."""
    rng = np.random.default_rng(seed)
    rewards = rng.normal(0.5, 0.2, size=(20, 8))
    rewards[10:] = np.where(np.arange(8) < 2, rng.normal(10, 0.2, size=(10, 8)), np.nan)
    return Rollouts(rewards, name=name, counts=np.repeat([8, 2], 10))


def run_of(name, **changes):
    """Six prompts with four responses each."""
    return Rollouts(**{"rewards": np.random.default_rng(0).normal(size=(6, 4))} | changes, name=name)


def test_v_n_is_over_the_same_prompts_at_every_n_unless_larger_n_are_asked_for():
    base, tea = ragged_run("base"), ragged_run("tea", seed=1)
    comparison = compare([base, tea])
    assert comparison.budgets == (1, 2)
    for curve in comparison.curves:
        assert curve.v_n.prompts.tolist() == [20, 20]
        assert curve.v_n.mean[0] < curve.v_n.mean[1]
    by_run, (stops, unchecked) = comparison.notes[:2], comparison.notes[2:]
    assert [numbers_in(note) for note in by_run] == [[2, 8], [2, 8]]
    assert numbers_in(stops) == [2]
    assert [row[0] for row in tables_of(markdown_text(comparison))[0][1:]] == ["1", "2"]
    asked = compare([base, tea], budgets=[1, 2, 4, 8])
    assert asked.curves[0].v_n.prompts.tolist() == [20, 20, 10, 10]
    assert asked.curves[0].v_n.mean[2] < asked.curves[0].v_n.mean[1]
    assert asked.notes == (*by_run, unchecked)
    assert all(f"{budget} (10)" in markdown_text(asked) for budget in (4, 8))


def test_the_run_with_fewest_responses_sets_the_largest_n():
    rewards = run_of("tea").rewards.copy()
    rewards[2, 3] = np.nan
    fewer = run_of("tea", rewards=rewards, counts=np.array([4, 4, 3, 4, 4, 4]))
    assert compare([run_of("base"), fewer]).budgets == (1, 2, 3)


def test_what_fills_up_a_short_prompt_is_not_taken_for_rewards():
    with pytest.raises(ValueError, match=r"counts\[0\] is 2, and rewards\[0, 2\] is a number: fill up with NaN"):
        Rollouts(np.array([[-3.0, -1, 0, 0], [-2, -1, -3, -4]]), counts=np.array([2, 4]))
    for counts in ([5, 4], [-1, 4]):
        with pytest.raises(ValueError, match=rf"counts\[0\] is {counts[0]}; there are at most 4"):
            Rollouts(np.full((2, 4), np.nan), counts=np.array(counts))
    masked = np.ma.masked_equal([[0.0, 1.0, -999.0], [2.0, -999.0, 0.0]], -999.0)
    np.testing.assert_allclose(best_of_n(masked, [1, 2]), [[0.5, 1.0], [1.0, 2.0]])
    np.testing.assert_array_equal(Rollouts(masked).rewards, [[0, 1, np.nan], [2, np.nan, 0]])


@pytest.mark.parametrize(("known", "printed"), [(4, "known for 4 of 6 prompts; of these"), (2, "fewer than half")])
def test_a_kl_that_is_known_for_some_prompts_says_so(known, printed):
    """A response without its log-probability takes its prompt out of the mean."""
    logprobs = np.zeros((6, 4))
    logprobs[known:, 1] = np.nan
    plain = {"sampling": {"temperature": 1.0, "top_p": 1.0, "top_k": 0}}
    run = run_of("base", logprobs=logprobs, reference_logprobs=np.full((6, 4), -1.0), metadata=plain)
    text = markdown_text(compare([run]))
    assert f"base: KL (nats) is {'known for 4' if known == 4 else 'known for 2'} of 6 prompts" in text
    assert printed in text
    assert (tables_of(text)[1][1][2] == "unknown") == (known == 2)


def test_unscored_responses_do_not_shorten_the_curve():
    rewards = run_of("base").rewards.copy()
    rewards[0, 1:] = np.nan
    assert compare([run_of("base", rewards=rewards)]).budgets == (1, 2, 4)
    counts = np.array([4, 4, 4, 4, 4, 1])
    rewards[5] = np.nan
    assert compare([run_of("base", rewards=rewards, counts=counts)]).budgets == (1, 2, 4)
    assert compare([run_of("base", rewards=np.full((6, 4), np.nan), counts=counts)]).budgets == (1, 2, 4)


def test_a_difference_over_fewer_prompts_than_both_curves_says_so() -> None:
    """Each has 15 of 20 prompts, and 10 in common; then 12 each and 4 in common, of which nothing is known."""
    rng = np.random.default_rng(0)
    for own, both in ((15, 10), (12, 4)):
        first, other = rng.normal(size=(2, 20, 8))
        first[own:, 0] = np.nan
        other[: 20 - own, 0] = np.nan
        compared = compare([Rollouts(first, name="base"), Rollouts(other, name="tea")], budgets=[1, 8])
        notes = notes_of(compared)
        said = f"tea - base: of the prompts that both have; prompts counted: N = 8 ({both})."
        assert said in notes
        assert compared.curves[1].difference.prompts.tolist() == [20, both]
        assert any("fewer than half" in note for note in notes) == (2 * both < 20)
        assert np.isnan(compared.curves[1].difference.mean[1]) == (2 * both < 20)


@pytest.mark.parametrize(("largest", "decimals"), [(0.0, 3), (5.0, 3), (0.02, 4), (1e-5, 7), (1e-30, 32)])
def test_numbers_without_a_width_have_as_many_decimals_as_show_them(largest: float, decimals: int) -> None:
    alone = Interval(*np.array([[largest, largest / 2], [np.nan] * 2, [np.nan] * 2]), np.array([1, 1]))
    assert decimals_of([alone]) == decimals
