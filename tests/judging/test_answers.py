"""Which answers are judged: the best of N of each table, on the same prompts."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tailgrad.curves import Rollouts
from tailgrad.judging import match_answers

from .conftest import PROMPTS, M, P, table


def best(run: Rollouts, row: int, start: int, stop: int, picked_by: Any) -> str:
    """The text of the largest reward, by looking at each."""
    at = max(range(start, stop), key=lambda place: picked_by[row][place])
    return str(run.responses[row][at])


@pytest.mark.parametrize(("n", "draws"), [(1, 1), (3, 1), (4, 2), (2, 4), (8, 1)])
def test_each_answer_is_the_best_of_n_other_responses(tables: Any, n: int, draws: int) -> None:
    match = match_answers(*tables, deploy_n=n, draws=draws)
    assert (match.num_prompts, match.deploy_n, match.names) == (P, n, ("base", "tea"))
    expected = [
        (PROMPTS[row], draw, *(best(run, row, draw * n, (draw + 1) * n, run.rewards) for run in tables))
        for row in range(P)
        for draw in range(draws)
    ]
    assert [(pair.prompt, pair.draw, *pair.answers) for pair in match.pairs] == expected


def test_all_responses_are_taken_where_n_is_not_given(tables: Any) -> None:
    assert match_answers(*tables).deploy_n == M
    rewards = np.where(np.arange(M) < 5, table("few", 3).rewards, np.nan)
    few = table("few", 3, rewards=rewards, counts=np.full(P, 5))
    assert match_answers(tables[0], few).deploy_n == 5
    assert match_answers(tables[0], few, draws=2).deploy_n == 2


def test_what_picks_the_best_is_what_the_table_says(tables: Any) -> None:
    by = np.random.default_rng(7).normal(size=(P, M))
    found = match_answers(tables[0], table("tea", 2, selection_rewards=by), deploy_n=4)
    assert [pair.answers[1] for pair in found.pairs] == [best(tables[1], row, 0, 4, by) for row in range(P)]


def test_prompts_pair_by_their_ids_in_any_order(tables: Any) -> None:
    order = np.random.default_rng(0).permutation(P)
    shuffled = tables[1].take(order)
    assert match_answers(tables[0], shuffled).pairs == match_answers(*tables).pairs
    first = match_answers(tables[0], shuffled, limit=3)
    assert first.pairs == match_answers(*tables).pairs[:3]


def test_equal_rewards_are_picked_equally_often() -> None:
    rewards = np.tile([1.0, 0.0, 1.0, 1.0, np.nan, 1.0], (3000, 1))
    texts = [list("abcdef")] * 3000
    one, two = (Rollouts(rewards, name=name, prompts=["p"] * 3000, responses=texts) for name in ("one", "two"))
    pairs = match_answers(one, two, deploy_n=5, seed=4).pairs
    assert match_answers(one, two, deploy_n=5, seed=4).pairs == pairs
    for side in (0, 1):
        counts = Counter(pair.answers[side] for pair in pairs)
        assert set(counts) == set("acd")
        assert stats.chisquare([*counts.values()]).pvalue > 1e-3
    both = Counter(pair.answers for pair in pairs)
    assert len(both) == 9, "the two tables draw apart from each other"
    assert stats.chisquare([*both.values()]).pvalue > 1e-3


def test_unscored_responses_are_not_picked() -> None:
    rewards = np.array([[np.nan, -5.0, np.nan, np.nan]])
    one = Rollouts(rewards, name="one", prompts=["p"], responses=[list("abcd")])
    pairs = match_answers(one, one.replace(name="two"), deploy_n=2, draws=2).pairs
    assert [pair.answers for pair in pairs] == [("b", "b"), (None, None)]
    assert [(pair.is_there, pair.is_alike) for pair in pairs] == [(True, True), (False, False)]


def test_what_does_not_pair_is_refused(tables: Any) -> None:
    base, tea = tables
    with pytest.raises(ValueError, match="not on the same prompts"):
        match_answers(base, tea.take(np.arange(5)))
    with pytest.raises(ValueError, match=r"prompt_id 3 is 'request 1' and 'other'"):
        match_answers(base, tea.replace(prompts=["request 0", "other", *PROMPTS[2:]]))
    with pytest.raises(ValueError, match="both tables are named 'base'"):
        match_answers(base, tea.replace(name="base"))
    with pytest.raises(ValueError, match=r"have 8 responses to prompt 0; 3 answers of the best of 4 take 12"):
        match_answers(base, tea, deploy_n=4, draws=3)
    with pytest.raises(ValueError, match="take 9"):
        match_answers(base, tea, draws=9)
    with pytest.raises(ValueError, match="'tea' lack the responses"):
        match_answers(base, tea.replace(responses=None))


def test_what_was_sampled_otherwise_is_judged_and_said(tables: Any) -> None:
    how = {"sampling": {"n": 8, "temperature": 1.0}, "reward": "r", "dataset": {"name": "d", "sha256": "1"}}
    base, tea = tables[0].replace(metadata=how), tables[1].replace(metadata=how)
    assert match_answers(base, tea).notes == ()
    other = how | {"sampling": {"n": 4, "temperature": 0.5}, "dataset": {"name": "e", "sha256": "2"}}
    (note,) = match_answers(base, tea.replace(metadata=other)).notes
    assert "temperature is 1.0 for base and 0.5 for tea" in note
    assert "sha256" not in note, "the prompts themselves were compared"
    (note,) = match_answers(base, tea.replace(metadata={})).notes
    assert "tea" in note
