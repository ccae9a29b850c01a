"""How often a reward model prefers the answer that people preferred, beside "the longer answer wins"."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from preference_pairs import Pair, log_ratio
from scipy.stats import spearmanr

from tailgrad.display.cells import aligned, interval_cell, interval_numbers
from tailgrad.statistics import Interval, mean_interval

MATCHED = 0.2
"""Most that two answers matched in length differ by, as a share of the longer one."""


def share_right(margins: Float[np.ndarray, " P"]) -> Float[np.ndarray, " P"]:
    """1 where the margin is positive, half where it is 0."""
    return np.where(margins == 0, 0.5, margins > 0)


def over_prompts(values: Float[np.ndarray, "P K"], pairs: Sequence[Pair]) -> Interval:
    """Means of K quantities with their intervals over first questions, each the mean of its pairs."""
    names, of_pair = np.unique([pair.first for pair in pairs], return_inverse=True)
    sums = np.zeros((len(names), values.shape[1]))
    np.add.at(sums, of_pair, values)
    return mean_interval((sums / np.bincount(of_pair)[:, None])[None])


def subsets(pairs: Sequence[Pair]) -> dict[str, np.ndarray]:
    """Which pairs are in each row of the table."""
    ratios = np.array([log_ratio(pair) for pair in pairs])
    return {
        "all": np.full(len(pairs), True),
        "lengths within 20%": np.abs(ratios) <= -np.log(1 - MATCHED),
        "the longer was preferred": ratios > 0,
        "the shorter was preferred": ratios < 0,
    }


def accuracies(pairs: Sequence[Pair], margins: Float[np.ndarray, " P"]) -> dict[str, dict[str, Any]]:
    """Pairs, and the share that the model and length get right, with their difference, for each subset."""
    right = share_right(margins)
    longer = share_right(np.array([log_ratio(pair) for pair in pairs]))
    values = np.stack([right, longer, right - longer], axis=1)
    found = {}
    for name, chosen in subsets(pairs).items():
        if chosen.any():
            interval = over_prompts(values[chosen], [pair for pair, one in zip(pairs, chosen, strict=True) if one])
            found[name] = {"pairs": int(chosen.sum()), "interval": interval}
    return found


def length_correlation(pairs: Sequence[Pair], scores: Float[np.ndarray, "P 2"]) -> Interval:
    """Spearman's correlation of score and length over all answers, with the interval of Fisher's transform.

    The interval counts the pairs, as the two answers of one are not independent.
    """
    tokens = np.array([[pair.chosen_tokens, pair.rejected_tokens] for pair in pairs])
    found = float(spearmanr(scores.ravel(), tokens.ravel()).statistic)
    half = 1.96 * np.sqrt((1 + found**2 / 2) / max(len(pairs) - 3, 1))  # Bonett and Wright (2000)
    with np.errstate(divide="ignore"):  # a correlation of 1 stays 1
        ends = np.tanh(np.arctanh(found) + np.array([-half, half]))
    return Interval(*(np.array([end]) for end in (found, *ends)), prompts=np.array([len(pairs)]))


def table(found: dict[str, dict[str, Any]]) -> str:
    """The accuracies as Markdown."""
    rows = [["held-out pairs", "number", "the model is right", "the longer is right", "difference"]]
    for name, row in found.items():
        cells = [interval_cell(row["interval"], column, 3, "+" if column == 2 else "") for column in range(3)]
        rows.append([name, str(row["pairs"]), *cells])
    return aligned(rows)


def as_json(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The accuracies as JSON holds them."""
    names = ("model", "longer_wins", "difference")
    return {
        key: {"pairs": row["pairs"], **{name: interval_numbers(row["interval"], i) for i, name in enumerate(names)}}
        for key, row in found.items()
    }
