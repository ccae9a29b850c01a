"""The peers' rules, each after its paper and, where it is public, its authors' code.

A stopping rule is a table of indices: after n samples of a sequence it stops where its index is at most its price. A
two-stage rule says from the first d samples how many more each prompt gets.
"""

import numpy as np
from scipy import stats
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from tailgrad.serving.priors import SpreadPrior

Sequences = np.ndarray
"""Rewards in the order in which they are drawn, `[S, M]`."""
Table = dict[int, tuple[np.ndarray, np.ndarray]]
"""After n samples: values of the standardised best, and the index at each."""
JEFFREYS = SpreadPrior(location=0.0, location_weight=0.0, spread=0.0, spread_weight=0.0)


def pandora_index(drawn: Sequences, *, delta: float = 0.05, alpha: float = 0.99) -> np.ndarray:
    """UCB Pandora's box (arXiv 2510.01394; github.com/yhkalayci/adaptive-BoN, `algorithm/pandora.py`).

    A shifted exponential is fitted to e^r above its median, with an upper bound of its scale and a lower bound for the
    estimated maximum M. A reward is worth e^r / (e^r + M), as a Bradley-Terry model has it. The index is the expected
    excess of one more draw over the best: their rule stops where the best exceeds the fair cap, at which this is the
    cost.
    """
    nodes, weights = np.polynomial.laguerre.laggauss(24)
    index = np.full(drawn.shape, np.inf)
    values = np.exp(drawn)
    best = np.maximum.accumulate(values, axis=1)
    for n in range(2, drawn.shape[1] + 1):
        seen = values[:, :n]
        median = np.median(seen, axis=1)
        above = seen >= median[:, None]
        scale = np.maximum((seen * above).sum(axis=1) / above.sum(axis=1) - median, 1e-8)
        bound = np.sqrt(np.log(n) * np.log(1 / delta) / n)
        largest = median - np.maximum(scale * (1 - bound), 1e-8) * np.log(1 - alpha)
        upper = scale * (1 + bound)
        from_ = np.maximum(best[:, n - 1], median)
        further = from_[:, None] + upper[:, None] * nodes
        excess = further / (further + largest[:, None]) - (best[:, n - 1] / (best[:, n - 1] + largest))[:, None]
        index[:, n - 1] = np.exp(-(from_ - median) / upper) * (excess @ weights)
    return index


def beacon_index(drawn: Sequences, table: Table, prior: SpreadPrior = JEFFREYS) -> np.ndarray:
    """BEACON (arXiv 2510.15945): normal rewards, Jeffreys' prior, the universal index from backward induction.

    Rewards below the predictive 1% quantile count as the mean in the posterior, as in the paper's algorithm 1. Another
    prior is not theirs: it tells what ours would do for them.
    """
    index = np.full(drawn.shape, np.inf)
    filtered = drawn.copy()
    best = np.maximum.accumulate(drawn, axis=1)
    for n in range(min(table), drawn.shape[1]):
        seen = filtered[:, :n]
        mean, weight = seen.mean(axis=1), prior.location_weight + n
        freedom = _freedom(n, prior)
        squares = seen.var(axis=1) * n + prior.spread_weight * prior.spread**2
        squares = squares + prior.location_weight * n / weight * (mean - prior.location) ** 2
        mean = (n * mean + prior.location_weight * prior.location) / weight
        scale = np.maximum(np.sqrt(squares / freedom * (1 + 1 / weight)), 1e-8)
        standard, values = table[n]
        index[:, n - 1] = scale * np.interp((best[:, n - 1] - mean) / scale, standard, values)
        low = mean + scale * stdtrit(freedom, 0.01)
        filtered[:, n] = np.where(filtered[:, n] < low, mean, filtered[:, n])
    index[:, -1] = -np.inf
    return index


def _freedom(n: int, prior: SpreadPrior) -> float:
    """Degrees of freedom of the predictive distribution; a flat location costs one."""
    return prior.spread_weight + n - (prior.location_weight == 0)


def universal_index(most: int, prior: SpreadPrior = JEFFREYS, *, grid: int = 121, costs: int = 90) -> Table:
    """BEACON's h(z) after n samples, in units of the predictive scale: the cost at which going on is worth nothing.

    Backward induction over the standardised best z and the cost, from `most` down to the first n with a mean, with the
    expectation over the next reward by equally likely values of Student's t.
    """
    best, cost = np.linspace(-8, 12, grid), np.geomspace(1e-5, 10, costs)
    shares = (np.arange(101) + 0.5) / 101
    worth, table = np.zeros((costs, grid)), {}
    for n in range(most - 1, 0, -1):
        freedom, weight = _freedom(n, prior), prior.location_weight + n
        if freedom <= 1:
            break
        going_on = np.zeros_like(worth)
        for new in stdtrit(freedom, shares):
            ratio = weight * (weight + 2) / (weight + 1) ** 2
            scale = np.sqrt(ratio * (freedom + new**2) / (freedom + 1))
            after = _interpolated(worth, best, cost, (np.maximum(best, new) - new / (weight + 1)) / scale, cost / scale)
            going_on += scale * np.maximum(after - (cost / scale)[:, None], 0) / len(shares)
        density, above = stats.t.pdf(best, freedom), 1 - stdtr(freedom, best)
        worth = (freedom + best**2) / (freedom - 1) * density - best * above + going_on
        falling = worth - cost[:, None]
        place = np.clip((falling > 0).sum(axis=0), 1, costs - 1)
        upper, lower = (np.take_along_axis(falling, place[None] - back, axis=0)[0] for back in (0, 1))
        share = np.clip(lower / np.maximum(lower - upper, 1e-300), 0, 1)
        found = cost[place - 1] + share * (cost[place] - cost[place - 1])
        table[n] = best, np.maximum.accumulate(found[::-1])[::-1]
    return table


def _interpolated(
    table: np.ndarray, best: np.ndarray, cost: np.ndarray, at_best: np.ndarray, at_cost: np.ndarray
) -> np.ndarray:
    """`table[cost, best]` at other values of both, held at the edges."""
    column = np.interp(at_best, best, np.arange(len(best)))
    row = np.interp(np.log(at_cost), np.log(cost), np.arange(len(cost)))
    left, top = np.minimum(column.astype(int), len(best) - 2), np.minimum(row.astype(int), len(cost) - 2)
    across = table[:, left] + (column - left) * (table[:, left + 1] - table[:, left])
    return across[top] + (row - top)[:, None] * (across[top + 1] - across[top])


def adabon_gains(seen: Sequences, most: int) -> np.ndarray:
    """AdaBoN (arXiv 2505.12050): what the j-th further sample of each prompt adds, by a kernel density estimate.

    Gaussian kernels with Scott's bandwidth; E max(best, j more) - E max(best, j - 1 more) for j = 1 to `most`.
    """
    n = seen.shape[1]
    width = np.maximum(seen.std(axis=1, ddof=1) * n**-0.2, 1e-12)
    best = seen.max(axis=1)
    steps = np.linspace(0.0, 5.0, 81)
    beyond = best[:, None] + width[:, None] * steps
    below = np.mean([ndtr((beyond - one[:, None]) / width[:, None]) for one in seen.T], axis=0)
    increments = [(below ** (j - 1) * (1 - below)) for j in range(1, most + 1)]
    return np.stack([np.trapezoid(one, steps, axis=1) * width for one in increments], axis=1)


def slg_gains(seen: Sequences, most: int, *, share: float = 0.2) -> np.ndarray:
    """Scaling-law-guided search (arXiv 2602.01485; github.com/PotatoJnny/Scaling-Law-Guided-search, `node.py`).

    V_N is foretold as mean + Phi^-1(1 - 1/N) sd of the normal distribution whose upper fifth has the mean and the
    variance of the rewards above the 80% quantile. Theirs gives the rest of the samples to the intermediate state with
    the largest forecast; for prompts, each of which must be answered, the gain V_(n+j) - V_(n+j-1) takes its place.
    """
    n = seen.shape[1]
    inside = seen >= np.quantile(seen, 1 - share, axis=1, keepdims=True)
    count = inside.sum(axis=1)
    mean = (seen * inside).sum(axis=1) / count
    variance = ((seen - mean[:, None]) ** 2 * inside).sum(axis=1) / np.maximum(count - 1, 1)
    quantile = -ndtri(share)
    ratio = np.exp(-(quantile**2) / 2) / np.sqrt(2 * np.pi) / share
    spread = np.sqrt(variance / (1 + quantile * ratio - ratio**2))
    quantiles = ndtri(1 - 1 / np.arange(n, n + most + 1))
    return spread[:, None] * np.diff(quantiles)
