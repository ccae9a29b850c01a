"""How Gaussian the upper tail of the rewards is: QQ points of the standardised residuals."""

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor

from tailgrad.tails.constants import check_tail_fraction
from tailgrad.tails.statistics import tail_size


class UpperTailQQ(NamedTuple):
    """The upper tail of pooled standardised residuals against the normal."""

    normal_quantiles: Float[np.ndarray, " K"]
    """Normal quantiles of the K largest pooled residuals, ascending."""
    residuals: Float[np.ndarray, " K"]
    """The K largest pooled residuals, ascending; on the diagonal where the tail is Gaussian."""
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


def upper_tail_qq(rewards: Any, *, tail_fraction: float = 0.25) -> UpperTailQQ:
    """Compare the upper tail of many rollouts with the Gaussian tail that TEA extrapolates.

    Each prompt's rewards are standardised by their mean and standard deviation, and then pooled. A prompt whose rewards
    are equal up to one rounding each is left out. The largest residuals are paired with the normal quantiles Phi^-1((i
    - 3/8) / (n + 1/4)) of their ranks. A straight line means that the tail may be extrapolated.

    Args:
        rewards: Rewards `[P, n]` of P prompts with n rollouts each, an array or a tensor; NaN where a rollout
            could not be scored. Use n well above the m of training.
        tail_fraction: The share of the residuals to compare, in (0, 1].

    Returns:
        QQ points, their linearity, and the linearity of each prompt alone.

    Raises:
        ValueError: If the rewards are not a table, hold an infinity, or leave fewer than three points.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> qq = upper_tail_qq(rng.normal(size=(20, 200)))
        >>> qq.linearity > 0.99
        True
    """
    check_tail_fraction(tail_fraction)
    values, eps = _as_table(rewards)
    residuals = _standardised(values, eps)
    pooled = np.sort(residuals[~np.isnan(residuals)])
    quantiles, tail = _upper_points(pooled, tail_fraction)
    if tail.size < 3:
        raise ValueError(
            f"rewards of shape {values.shape} leave {tail.size} residuals in the upper {tail_fraction} "
            "of the prompts with any spread; at least 3 are needed"
        )
    prompts = [_linearity(*_upper_points(np.sort(row[~np.isnan(row)]), tail_fraction)) for row in residuals]
    return UpperTailQQ(quantiles, tail, _linearity(quantiles, tail), np.array(prompts))


def _as_table(rewards: Any) -> tuple[NDArray[np.float64], float]:
    """The rewards in float64, and the relative rounding of the dtype that they came in."""
    if isinstance(rewards, Tensor):
        eps = torch.finfo(rewards.dtype).eps if rewards.is_floating_point() else 0.0
        rewards = rewards.detach().cpu().double().numpy()
    else:
        rewards = np.asarray(rewards)
        eps = float(np.finfo(rewards.dtype).eps) if np.issubdtype(rewards.dtype, np.floating) else 0.0
    values = rewards.astype(np.float64)
    if values.ndim != 2:
        raise ValueError(f"rewards must have shape [P, n] (prompts, rollouts), got {values.shape}")
    if np.isinf(values).any():
        prompt, rollout = np.argwhere(np.isinf(values))[0]
        raise ValueError(f"rewards[{prompt}, {rollout}] is infinite (prompt {prompt}, rollout {rollout})")
    return values, eps


def _standardised(values: NDArray[np.float64], eps: float) -> NDArray[np.float64]:
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
    ascending: NDArray[np.float64], tail_fraction: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    n = ascending.size
    count = tail_size(n, tail_fraction)
    ranks = np.arange(n - count + 1, n + 1)
    return ndtri((ranks - 0.375) / (n + 0.25)), ascending[n - count :]


def _linearity(quantiles: NDArray[np.float64], residuals: NDArray[np.float64]) -> float:
    if residuals.size < 3 or np.ptp(residuals) == 0:
        return float("nan")
    return float(np.corrcoef(quantiles, residuals)[0, 1] ** 2)
