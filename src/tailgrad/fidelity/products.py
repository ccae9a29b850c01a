"""From the gradients of steps and the two truths to direction, step cosine, norm ratio and signal to noise."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from tailgrad.statistics.intervals import Interval
from tailgrad.statistics.jackknife import jackknife_interval, without_each

MEASURES = ("direction", "step", "norm_ratio", "signal_to_noise")


class InnerProducts(NamedTuple):
    """Inner products between the gradients of prompts p and q; a mean over prompts is a quadratic form in them.

    B steps, first those of half A, then those of half B.
    """

    step_step: Float[np.ndarray, "B P P"]
    """<g_p, g_q> of the same step."""
    step_truth: Float[np.ndarray, "B P P"]
    """<g_p, t_q> with the truth of the other half."""
    mean_mean: Float[np.ndarray, "P P"]
    """<mean over A's steps of g_p, mean over B's steps of g_q>, made symmetric."""
    truth_truth: Float[np.ndarray, "P P"]
    """<t_p of half A, t_q of half B>, made symmetric."""
    noise: Float[np.ndarray, " P"]
    """E |g_p - E g_p|^2."""


def inner_products(steps: Float[np.ndarray, "P 2 G D"], truth: Float[np.ndarray, "P 2 D"]) -> InnerProducts:
    """Reduce gradients to the inner products that the measures need.

    Args:
        steps: Gradient of every prompt, half and step.
        truth: Gradient of V_N at every prompt, from each half.

    Returns:
        The inner products, float64.

    Examples:
        >>> steps = np.ones((1, 2, 3, 4))
        >>> float(inner_products(steps, np.ones((1, 2, 4))).step_truth[0, 0, 0])
        4.0
    """
    means = steps.mean(axis=2, dtype=np.float64)
    deviations = ((steps - means[:, :, None].astype(steps.dtype)) ** 2).sum(axis=(2, 3), dtype=np.float64)
    by_step = steps.transpose(1, 2, 0, 3)  # [2, G, P, D]
    other = truth[:, ::-1].transpose(1, 2, 0)[:, None]  # [2, 1, D, P]
    prompts, _, groups, _ = steps.shape
    return InnerProducts(
        step_step=(by_step @ by_step.swapaxes(2, 3)).astype(np.float64).reshape(2 * groups, prompts, prompts),
        step_truth=(by_step @ other).astype(np.float64).reshape(2 * groups, prompts, prompts),
        mean_mean=_symmetric(means[:, 0] @ means[:, 1].T),
        truth_truth=_symmetric(truth[:, 0] @ truth[:, 1].T),
        noise=deviations.mean(axis=1) / (groups - 1),
    )


def measure(products: InnerProducts, *, has_scale: bool, seed: int = 0) -> dict[str, Interval]:
    """Compute the measures with intervals over prompts.

    The intervals are those of `jackknife_interval`.

    Args:
        products: From `inner_products`.
        has_scale: Whether the norm of the estimator's gradient means anything; if not, norm_ratio is NaN.
        seed: Seed of the bootstrap.

    Returns:
        `MEASURES`, one column each; NaN where a squared norm, corrected for noise, is not positive. No interval with
        one prompt.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> steps = rng.normal(size=(3, 2, 50, 4)) + 1
        >>> measures = measure(inner_products(steps, np.ones((3, 2, 4))), has_scale=True)
        >>> measures["direction"].mean.round(1), measures["norm_ratio"].mean.round(1)
        (array([1.]), array([1.]))
    """
    prompts = len(products.noise)
    every = np.full((1, prompts), 1 / prompts)
    values = _values(products, every)[0]
    found = jackknife_interval(values, without_each_prompt(products), seed=seed)
    if not has_scale:
        for part in found[:3]:
            part[MEASURES.index("norm_ratio")] = np.nan
    return {name: Interval(*(part[[place]] for part in found)) for place, name in enumerate(MEASURES)}


def without_each_prompt(products: InnerProducts) -> Float[np.ndarray, "P 4"]:
    """The measures without each prompt in turn, for the jackknife; none with one prompt.

    The signal to noise is that of a step of all P prompts, not of P - 1.
    """
    prompts = len(products.noise)
    if prompts == 1:
        return np.empty((0, len(MEASURES)))
    return _values(products, without_each(prompts))


def agreement(truth: Float[np.ndarray, "P 2 D"]) -> float:
    """Plain cosine between the truths of the two halves, mean over prompts: near 1 where they have little noise."""
    first, second = truth.mean(axis=0)
    norms = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / norms if norms > 0 else float("nan")


def _values(products: InnerProducts, weights: Float[np.ndarray, "R P"]) -> Float[np.ndarray, "R 4"]:
    """The measures of weighted means over prompts, one row a set of weights; NaN where a root has no sense."""
    prompts = weights.shape[1]

    def form(gram: np.ndarray) -> np.ndarray:
        return np.asarray(((weights @ gram) * weights).sum(axis=-1))

    along = form(products.step_truth)  # [B, R]
    norms = np.sqrt(np.maximum(form(products.step_step), 0.0))
    cosines = np.divide(along, norms, out=np.zeros_like(along), where=norms > 0)
    mean_square, truth_square = (_positive(form(gram)) for gram in (products.mean_mean, products.truth_truth))
    noise = _positive(weights @ products.noise)
    measures = (
        along.mean(axis=0) / np.sqrt(mean_square * truth_square),
        cosines.mean(axis=0) / np.sqrt(truth_square),
        np.sqrt(mean_square / truth_square),
        prompts * form(products.mean_mean) / noise,
    )
    return np.stack(measures, axis=1)


def _positive(values: np.ndarray) -> np.ndarray:
    return np.where(values > 0, values, np.nan)


def _symmetric(gram: np.ndarray) -> np.ndarray:
    return np.asarray((gram + gram.T) / 2)
