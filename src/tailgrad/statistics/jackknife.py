"""The interval of a number that is not a mean, from its values without one prompt at a time."""

import numpy as np
from jaxtyping import Float

from tailgrad.statistics.intervals import Interval, mean_interval


def jackknife_interval(
    values: Float[np.ndarray, " K"], without: Float[np.ndarray, "P K"], *, seed: int = 0
) -> Interval:
    """Give K numbers that were computed from all prompts with 95% intervals over prompts.

    The interval is `mean_interval` of the delete-one jackknife pseudo-values P f(all) - (P - 1) f(all but p), moved to
    f(all).

    Args:
        values: The numbers, from all prompts.
        without: The same without each of the P prompts, or of P parts of them, in turn.
        seed: Seed of the bootstrap.

    Returns:
        The numbers with their intervals; no interval where fewer than two prompts are given, or one of the numbers
        without a prompt is not finite.

    Examples:
        >>> prompts = np.array([1.0, 2.0, 6.0, 7.0])
        >>> without = np.sqrt((prompts.sum() - prompts) / 3)  # of the root of the mean
        >>> interval = jackknife_interval(np.sqrt(prompts.mean(keepdims=True)), without[:, None])
        >>> interval.mean, interval.low.round(), interval.high.round()
        (array([2.]), array([1.]), array([3.]))

    Reference:
        Efron and Stein (1981), The jackknife estimate of variance, Annals of Statistics 9(3).
    """
    prompts = len(without)
    low, high = np.full((2, len(values)), np.nan)
    if prompts > 1:
        pseudo = prompts * values - (prompts - 1) * without
        pseudo[:, ~np.isfinite(pseudo).all(axis=0)] = np.nan
        interval = mean_interval(pseudo[None], seed=seed)
        low, high = (values + (end - interval.mean) for end in (interval.low, interval.high))
    return Interval(values, low, high, np.full(len(values), prompts))


def without_each(prompts: int) -> Float[np.ndarray, "P P"]:
    """Weights of the means over all prompts but one: row p leaves out prompt p.

    Args:
        prompts: P, at least 2.

    Returns:
        One row of weights for each prompt; each sums to 1.

    Examples:
        >>> without_each(3)[0]
        array([0. , 0.5, 0.5])
    """
    return np.asarray((1 - np.eye(prompts)) / (prompts - 1))


def means_without_each(values: Float[np.ndarray, "*K P"]) -> Float[np.ndarray, "*K P"]:
    """Means over all prompts but one, for many prompts: as `without_each`, whose weights are P times P.

    Args:
        values: One value per prompt, at least two prompts.

    Returns:
        At place p the mean of the others. No large value of p is subtracted: what is rounded is the sum of the others.

    Examples:
        >>> means_without_each(np.array([1.0, 3.0, 1e20]))
        array([5.e+19, 5.e+19, 2.e+00])
    """
    none = np.zeros_like(values[..., :1])
    before = np.concatenate([none, values[..., :-1].cumsum(axis=-1)], axis=-1)
    after = np.concatenate([values[..., :0:-1].cumsum(axis=-1)[..., ::-1], none], axis=-1)
    found: np.ndarray = (before + after) / (values.shape[-1] - 1)
    return found
