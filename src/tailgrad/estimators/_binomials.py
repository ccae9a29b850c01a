"""Ratios of binomial coefficients: shares of subsets."""

import math

import torch
from torch import Tensor


def binomial_ratio(top: Tensor, top_k: int, bottom: Tensor, bottom_k: int) -> Tensor:
    """C(top, top_k) / C(bottom, bottom_k), broadcast; 0 where either has no subset, and 1 at most."""
    log_top, log_bottom = _log_binomial(top, top_k, -math.inf), _log_binomial(bottom, bottom_k, math.inf)
    return (log_top - log_bottom).clamp(max=0.0).exp()


def _log_binomial(n: Tensor, k: int, no_subset: float) -> Tensor:
    return (torch.lgamma(n + 1) - math.lgamma(k + 1) - torch.lgamma(n - k + 1)).where(n >= k, no_subset)


def check_k(k: int) -> None:
    """Refuse a subset size that is not a whole number of at least 1."""
    if isinstance(k, bool) or not isinstance(k, int):
        raise TypeError(f"k must be an int, got {k!r}")
    if k < 1:
        raise ValueError(f"k = {k} must be at least 1")
