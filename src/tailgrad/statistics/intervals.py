"""95% intervals of a mean over prompts, or over prompts and training seeds."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 4000
_CHUNK = 4_000_000  # numbers held at once while resampling
_FEW = 10  # prompts below which resampled means are far from normal
_MANY = 20_000  # prompts from which on nothing is resampled


class Interval(NamedTuple):
    """Means of K quantities with their 95% intervals.

    Attributes:
        mean: Mean over prompts and seeds; NaN where no prompt has a value.
        low: Lower end of the interval; NaN where fewer than two prompts have a value.
        high: Upper end, likewise.
        prompts: Number of prompts that have a value.

    Examples:
        >>> Interval(*(np.array([x]) for x in (0.5, 0.4, 0.6)), np.array([50])).low
        array([0.4])
    """

    mean: Float[np.ndarray, " K"]
    low: Float[np.ndarray, " K"]
    high: Float[np.ndarray, " K"]
    prompts: Int[np.ndarray, " K"]


def mean_interval(values: Float[np.ndarray, "S P K"], *, seed: int = 0) -> Interval:
    """Give the mean of K quantities over S training seeds and P prompts, with 95% bootstrap intervals.

    Prompts and seeds are resampled independently with replacement. (This is a crossed bootstrap; with one seed it is
    the bootstrap over prompts.) The percentile interval is then stretched about the mean by h / (z SD*). SD* is the
    standard deviation of the bootstrap means, z = 1.96 the normal quantile at 0.975, and h the half-width of the t
    interval,

        h^2 = max(t(S - 1)^2 MS_seed, t((S - 1)(P - 1))^2 MS_residual) / (S P)
              + t(P - 1)^2 max(MS_prompt - MS_residual, 0) / (S P),

    with t(d) the quantile at 0.975 for d degrees of freedom, and the mean squares MS of the two-way layout. With one
    seed only MS_prompt is left, the variance over prompts. The width is thus within 4% of that of the t interval, and
    the asymmetry is that of the bootstrap. Below ten prompts, whose resampled means are far from normal, z SD* is half
    the width of the percentile interval instead, and the stretched width is exactly 2 h. A plain percentile interval is
    a little too narrow with few prompts, and far too narrow with few seeds. In expectation MS_seed is at least
    MS_residual. Because of the maximum, seeds that agree by chance do not look certain. From 20,000 prompts on, whose
    mean is as good as normal, nothing is resampled: the interval is the mean and h to both sides.

    Args:
        values: One number per seed, prompt and quantity, in the quantity's own unit. A prompt with NaN in any
            seed is left out of that quantity.
        seed: Seed of the resampling; equal seeds give equal intervals.

    Returns:
        Means and intervals of the K quantities. With one seed they speak of that training run only; with
        more, of the training method.

    Raises:
        ValueError: If `values` does not have three non-empty axes, or holds an infinity.

    Examples:
        >>> values = np.arange(12.0).reshape(1, 12, 1)
        >>> interval = mean_interval(values)
        >>> interval.mean, interval.low.round(), interval.high.round()
        (array([5.5]), array([3.]), array([8.]))

    References:
        Hesterberg (2015), What teachers should know about the bootstrap, The American Statistician 69(4):
        percentile intervals and their widening. Owen (2007), The pigeonhole bootstrap, Annals of Applied
        Statistics 1(2): resampling both factors.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 3 or 0 in values.shape:
        raise ValueError(f"values must be [S, P, K] with no empty axis, got {values.shape}.")
    if np.isinf(values).any():
        first = tuple(np.argwhere(np.isinf(values))[0].tolist())
        raise ValueError(
            f"values{list(first)} is {values[first]} (seed, prompt, quantity): the mean of infinite values has no "
            "interval; give finite values, or NaN where a prompt has none."
        )
    known = ~np.isnan(values).any(axis=0)
    mean, low, high = np.full((3, values.shape[2]), np.nan)
    for prompts in np.unique(known, axis=1).T:
        columns = (known == prompts[:, None]).all(axis=0)
        part = values[:, prompts][:, :, columns]
        if part.shape[1] >= 1:
            mean[columns], low[columns], high[columns] = _mean_with_ends(part, seed)
    if ((low > mean) | (high < mean)).any():
        raise AssertionError(f"an interval does not hold its mean: {low} to {high} around {mean}")
    return Interval(mean, low, high, known.sum(axis=0))


def _mean_with_ends(values: Float[np.ndarray, "S P K"], seed: int) -> Float[np.ndarray, "3 K"]:
    """Mean, low and high of each quantity, computed relative to its first value and in units of its largest.

    So equal values have a spread of exactly 0, where their mean, rounded, would leave one that the stretch blows up; an
    offset costs no digits; and no square leaves the range of floats. The units are powers of two: nothing is rounded.
    """
    unit = np.ldexp(1.0, np.frexp(np.abs(values).max(axis=(0, 1)))[1] - 1)
    scaled = values / unit
    offset = scaled[0, 0]
    relative = scaled - offset
    mean = relative.mean(axis=(0, 1))
    ends = _interval(relative, mean, seed) if values.shape[1] >= 2 else np.full((2, len(mean)), np.nan)
    found: np.ndarray = unit * (offset + np.stack([mean, *ends]))
    return found


def _interval(values: Float[np.ndarray, "S P K"], mean: Float[np.ndarray, " K"], seed: int) -> Float[np.ndarray, "2 K"]:
    tail = (1 - CONFIDENCE) / 2
    if values.shape[1] >= _MANY:
        half_width = _t_half_width(values, tail)
        return np.stack([mean - half_width, mean + half_width])
    deviations = _bootstrap_means(values - mean, seed)
    ends: np.ndarray = np.quantile(deviations, [tail, 1 - tail], axis=0)
    normal = stats.norm.isf(tail) * deviations.std(axis=0)
    reach = normal if values.shape[1] >= _FEW else (ends[1] - ends[0]) / 2
    stretch = np.divide(_t_half_width(values, tail), reach, out=np.zeros_like(mean), where=reach > 0)
    interval: np.ndarray = mean + stretch * ends
    return interval


def _bootstrap_means(values: Float[np.ndarray, "S P K"], seed: int) -> Float[np.ndarray, "B K"]:
    """Means of `values` over resampled seeds and prompts: weights are the multinomial counts of each."""
    num_seeds, num_prompts, num_values = values.shape
    generator = np.random.default_rng(seed)
    by_prompt = values.transpose(1, 0, 2).reshape(num_prompts, num_seeds * num_values)
    chunk = max(1, _CHUNK // max(by_prompt.shape))
    means = []
    for start in range(0, RESAMPLES, chunk):
        size = min(chunk, RESAMPLES - start)
        prompts = generator.multinomial(num_prompts, np.full(num_prompts, 1 / num_prompts), size) / num_prompts
        seeds = generator.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), size) / num_seeds
        over_prompts = (prompts @ by_prompt).reshape(size, num_seeds, num_values)
        means.append(np.einsum("bs,bsk->bk", seeds, over_prompts))
    return np.concatenate(means)


def _t_half_width(values: Float[np.ndarray, "S P K"], tail: float) -> Float[np.ndarray, " K"]:
    """Half-width of the t interval of the mean: seeds with S - 1 degrees of freedom, prompts with P - 1.

    What is neither seed nor prompt alone goes with the seeds, whose quantile is the larger.
    """
    num_seeds, num_prompts, _ = values.shape
    of_seeds, of_prompts, of_residual = mean_squares(values)
    quantile = stats.t.isf(tail, num_prompts - 1)
    square = quantile**2 * np.maximum(of_prompts - of_residual, 0.0)
    if num_seeds > 1:
        by_seeds = stats.t.isf(tail, num_seeds - 1) ** 2 * of_seeds
        by_noise = stats.t.isf(tail, (num_seeds - 1) * (num_prompts - 1)) ** 2 * of_residual
        square += np.maximum(by_seeds, by_noise)
    half_width: np.ndarray = np.sqrt(square / (num_seeds * num_prompts))
    return half_width


class MeanSquares(NamedTuple):
    """Mean squares of the two-way layout of K quantities over S seeds and P prompts; 0 where there is one alone."""

    seeds: Float[np.ndarray, " K"]
    """Of the seeds' means, times P."""
    prompts: Float[np.ndarray, " K"]
    """Of the prompts' means, times S."""
    residual: Float[np.ndarray, " K"]
    """Of what is neither the seed's nor the prompt's."""


def mean_squares(values: Float[np.ndarray, "S P K"]) -> MeanSquares:
    """Split the spread of K quantities into that of the seeds, that of the prompts and the rest.

    Args:
        values: One number per seed, prompt and quantity.

    Returns:
        The three mean squares, each with its degrees of freedom: S - 1, P - 1 and (S - 1)(P - 1).

    Examples:
        >>> [float(part[0]) for part in mean_squares(np.array([[[0.0], [1.0]], [[2.0], [3.0]]]))]
        [4.0, 1.0, 0.0]
    """
    num_seeds, num_prompts, _ = values.shape
    seeds, prompts = max(num_seeds - 1, 1), max(num_prompts - 1, 1)
    mean = values.mean(axis=(0, 1))
    of_prompt = values.mean(axis=0) - mean
    of_seed = (values.mean(axis=1) - mean)[:, None]
    residual = values - mean - of_prompt - of_seed
    return MeanSquares(
        num_prompts * (of_seed**2).sum(axis=(0, 1)) / seeds,
        num_seeds * (of_prompt**2).sum(axis=0) / prompts,
        (residual**2).sum(axis=(0, 1)) / (seeds * prompts),
    )
