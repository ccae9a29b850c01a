"""From judgements to numbers: small cases worked out by hand."""

import math

import numpy as np
import pytest

from tailgrad.judging import Match, Outcome, Pair
from tailgrad.judging.judgement import Judgement
from tailgrad.judging.measures import outcome_of

Scores = list[tuple[float | None, float | None] | None]


def outcome(answers: list[tuple[str | None, str | None]], scores: Scores, *, draws: int = 1) -> Outcome:
    """What judgements add up to; None is a judgement that is not there, or a pair that was not asked about."""
    pairs = [Pair(at // draws, f"p{at // draws}", at % draws, both) for at, both in enumerate(answers)]
    judged = [(at, order, score) for at, both in enumerate(scores) for order, score in enumerate(both or ())]
    found = {(at, order): Judgement(at, order, score, "") for at, order, score in judged if score is not None}
    return outcome_of(Match(("base", "tea"), 1, draws, tuple(pairs)), found, judge="j", orders=2)


def means(found: Outcome) -> dict[str, float]:
    return {name: float(interval.mean[0]) for name, interval in found.measures.items()}


def test_every_outcome_of_a_pair_counts_as_it_says() -> None:
    answers = [("aa", "b"), ("a", "bb"), ("a", "b"), ("a", "a"), ("aaa", "b"), ("a", "bbbb")]
    scores: Scores = [(1, 1), (1, 0), (0.5, 0.5), None, (0, 0), (0.5, 1)]
    found = means(outcome(answers, scores))
    assert found["win_rate"] == pytest.approx((1 + 0.5 + 0.5 + 0.5 + 0 + 0.75) / 6)
    assert [found[name] for name in ("won", "tied", "split", "lost")] == pytest.approx([1 / 6, 2 / 6, 2 / 6, 1 / 6])
    assert found["agreement"] == pytest.approx(3 / 5)
    assert (found["score_second"], found["score_first"]) == (pytest.approx(3 / 5), pytest.approx(2.5 / 5))
    assert found["first_minus_second"] == pytest.approx(-0.5 / 5)
    assert found["longer_won"] == pytest.approx(2 / 3), "shorter by 1, longer by 2, longer by 3"
    assert (found["length_of_winner"], found["length_of_loser"]) == (pytest.approx(8 / 3), pytest.approx(4 / 3))


def test_answers_of_one_length_say_nothing_of_length() -> None:
    found = outcome([("a", "b"), ("cc", "d"), ("e", "f")], [(1, 1), (0, 0), (0, 0)])
    assert means(found)["longer_won"] == 1
    assert found.measures["longer_won"].prompts[0] == 1
    assert found.measures["length_of_winner"].prompts[0] == 3


def test_a_pair_that_lacks_an_order_has_no_part() -> None:
    answers: list[tuple[str | None, str | None]] = [("a", "b"), ("a", "b"), ("a", "b"), (None, "b")]
    found = outcome(answers, [(1, 1), (None, 0), (None, None), None])
    assert means(found)["win_rate"] == 1
    assert found.win_rates.tolist()[0] == 1
    assert all(map(math.isnan, found.win_rates.tolist()[1:]))
    assert found.bounds == (pytest.approx(1 / 3), pytest.approx((1 + 0.5 + 1) / 3))
    assert {int(found.measures[name].prompts[0]) for name in ("won", "split", "agreement", "longer_won")} <= {0, 1}
    assert outcome(answers, [(0.5, 0.5), (None, 0), (1, 1), None], draws=2).win_rates.tolist() == [0.5, 1.0]
    assert (found.counts["unread"], found.counts["replies_unread"], found.counts["unanswered"]) == (2, 3, 1)


def test_every_prompt_counts_alike_whatever_its_draws() -> None:
    answers: list[tuple[str | None, str | None]] = [("a", "b"), ("a", "b"), ("a", "b"), (None, "b")]
    found = outcome(answers, [(1, 1), (0, 0), (1, 1), None], draws=2)
    assert found.win_rates.tolist() == [0.5, 1.0]
    assert means(found)["win_rate"] == 0.75
    assert found.prompts == found.measures["win_rate"].prompts[0] == 2


def test_a_share_is_not_below_0_nor_above_1_nor_is_its_interval() -> None:
    """The t interval of these would reach above 1; a length may be anything."""
    answers: list[tuple[str | None, str | None]] = [("a", "b" * (1 + at)) for at in range(6)]
    found = outcome(answers, [(1, 1), (1, 1), (1, 1), (1, 1), (1, 1), (0.5, 0.5)])
    assert found.measures["win_rate"].high[0] == 1
    assert found.measures["won"].high[0] == 1
    assert found.measures["tied"].low[0] == 0
    assert found.measures["winner_minus_loser"].high[0] > 1
    always_first = outcome(answers, [(0, 1)] * 5 + [(0.5, 0.5)])
    bias = always_first.measures["first_minus_second"]
    assert (bias.high[0], bias.mean[0]) == (1, pytest.approx(5 / 6))
    never_first = outcome(answers, [(1, 0)] * 5 + [(0.5, 0.5)])
    assert never_first.measures["first_minus_second"].low[0] == -1


def test_the_interval_is_as_wide_as_that_of_student() -> None:
    """Below ten prompts exactly: t(4) = 2.7764 at 97.5%."""
    rates = np.array([0.75, 0.5, 0.5, 0.25, 0.75])
    found = outcome([("a", "b")] * 5, [(1, 0.5), (1, 0), (0.5, 0.5), (0, 0.5), (0.5, 1)])
    rate = found.measures["win_rate"]
    np.testing.assert_array_equal(found.win_rates, rates)
    assert rate.mean[0] == pytest.approx(0.55)
    assert rate.high[0] - rate.low[0] == pytest.approx(2 * 2.7764 * rates.std(ddof=1) / math.sqrt(5), rel=1e-4)
