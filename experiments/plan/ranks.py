"""Rank correlation of what was said with what came, with its interval, and pairs in the right order."""

from itertools import combinations
from typing import Final

import numpy as np
from jaxtyping import Float
from scipy import stats

from tailgrad.statistics.intervals import mean_interval

RESAMPLES: Final = 4000
ORDERS: Final = 50_000
"""Orders of the estimators that a p is from; all of them up to eight estimators."""


def rank_correlation(said: Float[np.ndarray, " E"], came: Float[np.ndarray, "*R E"]) -> Float[np.ndarray, "*R"]:
    """Spearman's rank correlation over estimators.

    Args:
        said: One number per estimator.
        came: Another, once or for each of R resamples.

    Returns:
        One number per resample.
    """
    one, other = (stats.rankdata(part, axis=-1) for part in (said, came))
    one, other = (part - part.mean(axis=-1, keepdims=True) for part in (one, other))
    size = np.sqrt((one**2).sum() * (other**2).sum(axis=-1))
    return np.asarray((one * other).sum(axis=-1) / size)


def correlation_interval(
    said: Float[np.ndarray, " E"], came: Float[np.ndarray, "E S P"], *, seed: int = 0
) -> tuple[float, float, float]:
    """Rank correlation with the means of `came`, and its 95% interval over prompts and seeds.

    Prompts and seeds of the trainings are drawn anew with replacement, the same for all estimators. What a draw changes
    of an estimator against the mean of all is stretched as `mean_interval` stretches it: few seeds vary too little.

    Args:
        said: One number per estimator.
        came: One number per estimator, training seed and prompt.
        seed: Seed of the resampling.

    Returns:
        The correlation, and both ends.
    """
    rng = np.random.default_rng(seed)
    _, seeds, prompts = came.shape
    of_seeds, of_prompts = (rng.multinomial(size, np.full(size, 1 / size), RESAMPLES) for size in (seeds, prompts))
    against_all = came - came.mean(axis=0)
    centre = against_all.mean(axis=(1, 2))
    drawn = np.einsum("rs,rp,esp->re", of_seeds, of_prompts, against_all, optimize=True) / (seeds * prompts) - centre
    interval, spread = mean_interval(np.moveaxis(against_all, 0, 2), seed=seed), drawn.std(axis=0)
    wanted = (interval.high - interval.low) / (2 * stats.norm.ppf(0.975))
    stretched = centre + drawn * np.divide(wanted, spread, out=np.ones_like(spread), where=spread > 0)
    low, high = np.quantile(rank_correlation(said, stretched), [0.025, 0.975])
    return float(rank_correlation(said, centre)), float(low), float(high)


def chance(said: Float[np.ndarray, " E"], came: Float[np.ndarray, " E"], *, seed: int = 0) -> float:
    """Share of all orders of the estimators whose rank correlation is at least as large: p, one-sided."""
    found = stats.permutation_test(
        (came,),
        lambda order: rank_correlation(said, order),
        permutation_type="pairings",
        alternative="greater",
        n_resamples=ORDERS,
        rng=seed,
    )
    return float(found.pvalue)


def pairs_in_order(said: Float[np.ndarray, " E"], came: Float[np.ndarray, "E S P"]) -> tuple[int, int]:
    """Of the pairs of estimators whose paired difference is clear of 0, how many came in the order that was said.

    Returns:
        Pairs in order, and pairs that are clear.
    """
    pairs = list(combinations(range(len(said)), 2))
    gaps = mean_interval(np.stack([came[one] - came[other] for one, other in pairs], axis=2))
    clear = (gaps.low > 0) | (gaps.high < 0)
    agree = np.array([said[one] > said[other] for one, other in pairs]) == (gaps.mean > 0)
    return int((clear & agree).sum()), int(clear.sum())
