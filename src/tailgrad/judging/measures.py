"""From judgements to the win rate and what stands beside it, with intervals over prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float

from tailgrad.judging.answers import Match
from tailgrad.judging.judgement import Asked, Judgement
from tailgrad.statistics import Interval, mean_interval

LENGTHS: Final = ("length_of_reference", "length_of_other", "length_of_winner", "length_of_loser", "winner_minus_loser")
"""Measures in characters; the others are shares, or differences of shares."""

_SIGNED: Final = ("first_minus_second",)


@dataclass(frozen=True)
class Outcome:
    """What a judge found. Every number speaks of the second table, `names[1]`, against the first, the reference.

    Attributes:
        names: The tables.
        judge: The judge.
        deploy_n: N.
        draws: Pairs per prompt.
        prompts: Prompts of the tables.
        orders: In how many orders each pair was judged: 2 by a language model, 1 by a reward.
        counts: Numbers of pairs: all `pairs`; `unanswered`, where a table has no response with a reward; `alike`, the
            same text twice, which is a tie that nobody was asked about; `unread`, where a reply could not be read.
            And `replies_unread`, the number of such replies, with those that a server refused (`replies_refused`).
        measures: Means over prompts (of a prompt, over its pairs) with their intervals.
            `win_rate`: the score, 1 for a judgement that the other's answer is better, 1/2 for a tie, averaged over
            the orders. `won`, `tied`, `lost`: in all orders alike. `split`: the orders disagree.
            `agreement`: both orders say the same, `score_first` and `score_second`: the score where the other's answer
            stands first and second, `first_minus_second`: their difference, the position bias; these of pairs that were
            asked about in both orders. `longer_won`: the longer answer has the higher score, of pairs that have
            a winner and differ in length. Lengths in characters: of all pairs (`length_of_reference`,
            `length_of_other`), and of pairs with a winner.
        bounds: The win rate if all that could not be read were lost, and if it were won.
        win_rates: Of each prompt; NaN where no pair of it was judged.
        notes: What else a reader should know, in sentences.
    """

    names: tuple[str, str]
    judge: str
    deploy_n: int
    draws: int
    prompts: int
    orders: int
    counts: dict[str, int]
    measures: dict[str, Interval]
    bounds: tuple[float, float]
    win_rates: Float[np.ndarray, " P"]
    notes: tuple[str, ...] = ()


def outcome_of(
    match: Match, judgements: Mapping[Asked, Judgement], *, judge: str, orders: int, seed: int = 0
) -> Outcome:
    """Sum judgements up.

    A pair of which an order is missing or could not be read has no part in any measure but the lengths of all pairs:
    one order alone would count the bias of the judge for a position.

    Args:
        match: What was judged.
        judgements: By what was asked.
        judge: Who judged.
        orders: In how many orders.
        seed: Of the bootstrap.

    Returns:
        The numbers.
    """
    shape = (match.num_prompts, match.draws)
    alike = np.array([pair.is_alike for pair in match.pairs]).reshape(shape)
    there = np.array([pair.is_there for pair in match.pairs]).reshape(shape)
    scores = np.full((*shape, orders), np.nan)
    for (pair, order), one in judgements.items():
        scores[(*divmod(pair, match.draws), order)] = np.nan if one.score is None else one.score
    scores[alike] = 0.5
    texts = [[float(len(text or "")) for text in pair.answers] for pair in match.pairs]
    by_prompt = _measures(scores, alike, there, np.array(texts).reshape(*shape, 2))
    found = mean_interval(np.stack([*by_prompt.values()], axis=1)[None], seed=seed)
    intervals = {name: Interval(*(part[[at]] for part in found)) for at, name in enumerate(by_prompt)}
    unread = np.isnan(scores) & there[..., None]
    return Outcome(
        names=match.names,
        judge=judge,
        deploy_n=match.deploy_n,
        draws=match.draws,
        prompts=match.num_prompts,
        orders=orders,
        counts={
            "pairs": len(match.pairs),
            "unanswered": int((~there).sum()),
            "alike": int(alike.sum()),
            "unread": int(unread.any(axis=-1).sum()),
            "replies_unread": int(unread.sum()),
            "replies_refused": sum(one.is_refused for one in judgements.values()),
        },
        measures={name: _within(name, interval) for name, interval in intervals.items()},
        bounds=(_bound(scores, there, 0.0), _bound(scores, there, 1.0)),
        win_rates=by_prompt["win_rate"],
        notes=match.notes,
    )


def _measures(
    scores: Float[np.ndarray, "P D O"],
    alike: Bool[np.ndarray, "P D"],
    there: Bool[np.ndarray, "P D"],
    lengths: Float[np.ndarray, "P D 2"],
) -> dict[str, np.ndarray]:
    """Every measure at each prompt; NaN where a prompt has none."""
    judged, of_pair = ~np.isnan(scores).any(axis=-1), scores.mean(axis=-1)
    same = {name: (scores == value).all(axis=-1) for name, value in (("won", 1.0), ("tied", 0.5), ("lost", 0.0))}
    found = {"win_rate": _mean(of_pair, judged)}
    found |= {name: _mean(value, judged) for name, value in same.items()}
    if scores.shape[-1] == 2:
        asked = judged & ~alike
        first, second = scores[..., 1], scores[..., 0]  # the order 1 shows the other's answer first
        found |= {
            "split": _mean(first != second, judged),
            "agreement": _mean(first == second, asked),
            "score_first": _mean(first, asked),
            "score_second": _mean(second, asked),
            "first_minus_second": _mean(first - second, asked),
        }
    decided = judged & (of_pair != 0.5)
    reference, other = lengths[..., 0], lengths[..., 1]
    winner, loser = np.where(of_pair > 0.5, other, reference), np.where(of_pair > 0.5, reference, other)
    return found | {
        "longer_won": _mean(winner > loser, decided & (reference != other)),
        "length_of_reference": _mean(reference, there),
        "length_of_other": _mean(other, there),
        "length_of_winner": _mean(winner, decided),
        "length_of_loser": _mean(loser, decided),
        "winner_minus_loser": _mean(winner - loser, decided),
    }


def _mean(values: np.ndarray, where: Bool[np.ndarray, "P D"]) -> Float[np.ndarray, " P"]:
    """The mean over the pairs of each prompt that count; NaN where none does."""
    total, count = np.where(where, values, 0.0).sum(axis=1), where.sum(axis=1)
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)


def _within(name: str, interval: Interval) -> Interval:
    """An interval without what no such number can be: a share is between 0 and 1."""
    if name in LENGTHS:
        return interval
    least = -1.0 if name in _SIGNED else 0.0
    return interval._replace(low=np.maximum(interval.low, least), high=np.minimum(interval.high, 1.0))


def _bound(scores: Float[np.ndarray, "P D O"], there: Bool[np.ndarray, "P D"], value: float) -> float:
    """The win rate if every reply that could not be read had this score."""
    of_prompt = _mean(np.where(np.isnan(scores), value, scores).mean(axis=-1), there)
    return float(np.nanmean(of_prompt)) if there.any() else float("nan")
