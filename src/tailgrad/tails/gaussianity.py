"""How Gaussian the upper tail of the rewards is: QQ points of the standardised residuals."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.special import digamma, ndtri
from torch import Tensor

from tailgrad.tails.constants import check_tail_fraction
from tailgrad.tails.statistics import tail_size

Quantile = Callable[[Any, Any], Any]
"""Where the i-th smallest of n is expected, from i and n."""

QUANTILES: Final[dict[str, Quantile]] = {
    "gaussian": lambda rank, n: ndtri((rank - 0.375) / (n + 0.25)),
    "exponential": lambda rank, n: digamma(n + 1.0) - digamma(n + 1.0 - rank),
    "uniform": lambda rank, n: rank / (n + 1.0),
}
"""The tails to compare with; Blom's approximation of the normal's, and the exact ones of the others."""


class UpperTailQQ(NamedTuple):
    """The upper tail of pooled standardised residuals against a distribution."""

    quantiles: Float[np.ndarray, " K"]
    """The distribution's quantiles of the K largest pooled residuals, ascending."""
    residuals: Float[np.ndarray, " K"]
    """The K largest pooled residuals, ascending; on the diagonal where the rewards are Gaussian, and it is normal."""
    linearity: float
    """Squared correlation (R^2) of these points; 1 is a straight line."""
    prompt_linearity: Float[np.ndarray, " P"]
    """The same for each prompt alone; NaN where fewer than three rollouts or no spread."""

    def worst_prompts(self, count: int = 5) -> list[int]:
        """Rows of the prompts whose tail is the least Gaussian, worst first; prompts without a value last.

        Args:
            count: How many to list.

        Returns:
            Row indices into the rewards.
        """
        return [int(row) for row in np.argsort(self.prompt_linearity, kind="stable")[:count]]


def upper_tail_qq(rewards: Any, *, tail_fraction: float = 0.25, tail: str = "gaussian") -> UpperTailQQ:
    """Compare the upper tail of many rollouts with the Gaussian tail that TEA extrapolates, or with another one.

    Each prompt's rewards are standardised by their mean and standard deviation, and then pooled. A prompt whose rewards
    are equal up to one rounding each is left out. The largest residuals are paired with the normal quantiles Phi^-1((i
    - 3/8) / (n + 1/4)) of their ranks. A straight line means that the tail may be extrapolated.
    `tailgrad.tails.diagnose_tails` says how far.

    Args:
        rewards: Rewards `[P, n]` of P prompts with n rollouts each, an array or a tensor; NaN where a rollout
            could not be scored. Use n well above the m of training.
        tail_fraction: The share of the residuals to compare, in (0, 1].
        tail: What to compare with: "gaussian", "exponential" or "uniform".

    Returns:
        QQ points, their linearity, and the linearity of each prompt alone.

    Raises:
        ValueError: If the rewards are not a table, hold an infinity, or leave fewer than three points; or the tail is
            unknown.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> qq = upper_tail_qq(rng.normal(size=(20, 200)))
        >>> qq.linearity > 0.99
        True
    """
    check_tail_fraction(tail_fraction)
    if tail not in QUANTILES:
        raise ValueError(f"unknown tail {tail!r}: choose one of {', '.join(QUANTILES)}")
    values, eps = as_table(rewards)
    residuals = standardised(values, eps)
    pooled = np.sort(residuals[~np.isnan(residuals)])
    points = _upper_points(pooled, tail_fraction, QUANTILES[tail])
    if points[1].size < 3:
        raise ValueError(
            f"rewards of shape {values.shape} leave {points[1].size} residuals in the upper {tail_fraction} "
            "of the prompts with any spread; at least 3 are needed"
        )
    return UpperTailQQ(*points, linearity(*points), prompt_linearity(residuals, tail_fraction, QUANTILES[tail]))


def as_table(rewards: Any) -> tuple[NDArray[np.float64], float]:
    """The rewards in float64, and the relative rounding of the dtype that they came in.

    Files hold float64. Where float32 holds all of the values just as well, they were made in it.
    """
    if isinstance(rewards, Tensor):
        eps = torch.finfo(rewards.dtype).eps if rewards.is_floating_point() else 0.0
        rewards = rewards.detach().cpu().double().numpy()
    else:
        rewards = np.asarray(rewards)
        eps = float(np.finfo(rewards.dtype).eps) if np.issubdtype(rewards.dtype, np.floating) else 0.0
    values = rewards.astype(np.float64)
    if values.ndim != 2:
        raise ValueError(f"rewards must have shape [P, n] (prompts, rollouts), got {values.shape}")
    single = np.finfo(np.float32)
    if 0 < eps < single.eps and np.abs(values[~np.isnan(values)]).max(initial=0.0) <= single.max:
        is_single = np.array_equal(values, values.astype(np.float32).astype(np.float64), equal_nan=True)
        eps = float(single.eps) if is_single else eps
    if np.isinf(values).any():
        prompt, rollout = np.argwhere(np.isinf(values))[0]
        raise ValueError(f"rewards[{prompt}, {rollout}] is infinite (prompt {prompt}, rollout {rollout})")
    return values, eps


def standardised(values: NDArray[np.float64], eps: float) -> NDArray[np.float64]:
    """Residuals of each prompt; NaN for unscored rollouts and for prompts that spread by no more than rounding."""
    scored = ~np.isnan(values)
    count = np.maximum(scored.sum(axis=1, keepdims=True), 1)
    shifted = values - np.max(np.where(scored, values, -np.inf), axis=1, keepdims=True, initial=-np.finfo(float).max)
    centred = shifted - np.where(scored, shifted, 0.0).sum(axis=1, keepdims=True) / count
    std = np.sqrt(np.where(scored, centred**2, 0.0).sum(axis=1, keepdims=True) / count)
    sizes = np.where(scored, np.abs(values), 0.0).max(axis=1, keepdims=True, initial=0.0)
    spreads = np.where(scored, -shifted, 0.0).max(axis=1, keepdims=True, initial=0.0) > 2 * eps * sizes
    return np.where(spreads, centred, np.nan) / np.where(spreads, std, 1.0)


def _upper_points(
    ascending: NDArray[np.float64], tail_fraction: float, quantile: Quantile
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    n = ascending.size
    count = tail_size(n, tail_fraction)
    return quantile(np.arange(n - count + 1, n + 1), n), ascending[n - count :]


def linearity(quantiles: NDArray[np.float64], residuals: NDArray[np.float64]) -> float:
    """Squared correlation of QQ points; NaN where fewer than three, or no spread."""
    if residuals.size < 3 or np.ptp(residuals) == 0:
        return float("nan")
    return float(np.corrcoef(quantiles, residuals)[0, 1] ** 2)


def prompt_linearity(
    residuals: Float[np.ndarray, "P n"], tail_fraction: float, quantile: Quantile
) -> Float[np.ndarray, " P"]:
    """The linearity of each prompt's own upper tail.

    Args:
        residuals: NaN for unscored rollouts, and for all of a prompt that is left out.
        tail_fraction: The share of each prompt's residuals to compare.
        quantile: What to compare with.

    Returns:
        NaN where fewer than three residuals are compared, or they have no spread.
    """
    n = (~np.isnan(residuals)).sum(axis=1, keepdims=True)
    count = tail_size(torch.from_numpy(n), tail_fraction).numpy()
    place = np.arange(max(count.max(initial=0), 1))
    inside = place < count
    descending = -np.sort(-residuals, axis=1)[:, : len(place)]  # NaN stands last
    has_line = (count >= 3) & (descending[:, :1] > np.take_along_axis(descending, np.maximum(count - 1, 0), axis=1))
    tails = descending, quantile(np.where(inside, n - place, 1), np.maximum(n, 1))
    deviations = [np.where(inside, part - _mean(part, inside), 0.0) for part in tails]
    squares = [(part**2).sum(axis=1) for part in deviations]
    covariance = (deviations[0] * deviations[1]).sum(axis=1)
    found: NDArray[np.float64] = np.full(len(n), np.nan)
    np.divide(covariance**2, squares[0] * squares[1], out=found, where=has_line[:, 0])
    return found


def _mean(values: NDArray[np.float64], inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean of each row over what is inside."""
    count = np.maximum(inside.sum(axis=1, keepdims=True), 1)
    return np.asarray(np.where(inside, values, 0.0).sum(axis=1, keepdims=True) / count)


def linearity_without(
    residuals: Float[np.ndarray, "P n"], tail_fraction: float, quantile: Quantile, *, parts: int
) -> Float[np.ndarray, " G"]:
    """The linearity of the pooled tail without each of G parts of the prompts in turn, for the jackknife.

    Args:
        residuals: As in `prompt_linearity`.
        tail_fraction: The share of the residuals to compare.
        quantile: What to compare with.
        parts: The most parts; each is every G-th of the prompts that have residuals.
    """
    rows = residuals[~np.isnan(residuals).all(axis=1)]
    parts = min(parts, len(rows))
    part_of = np.broadcast_to((np.arange(len(rows)) % max(parts, 1))[:, None], rows.shape)
    known = ~np.isnan(rows)
    pooled, part_of = rows[known], part_of[known]
    order = np.argsort(pooled)
    pooled, part_of = pooled[order], part_of[order]
    return np.array(
        [linearity(*_upper_points(pooled[part_of != part], tail_fraction, quantile)) for part in range(parts)]
    )
