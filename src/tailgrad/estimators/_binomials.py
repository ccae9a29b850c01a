"""Ratios of binomial coefficients: shares of subsets."""

import math

import torch
from torch import Tensor


def binomial_ratio(top: Tensor, top_k: int, bottom: Tensor, bottom_k: int) -> Tensor:
    """C(top, top_k) / C(bottom, bottom_k), broadcast; 0 where either has no subset."""
    ratio = (_log_binomial(top, top_k) - _log_binomial(bottom, bottom_k)).exp()
    return ratio.where((top >= top_k) & (bottom >= bottom_k), 0.0)


def _log_binomial(n: Tensor, k: int) -> Tensor:
    return torch.lgamma(n + 1) - math.lgamma(k + 1) - torch.lgamma(n - k + 1)


def check_k(k: int) -> None:
    """Refuse a subset size that is not a whole number of at least 1."""
    if isinstance(k, bool) or not isinstance(k, int):
        raise TypeError(f"k must be an int, got {k!r}")
    if k < 1:
        raise ValueError(f"k = {k} must be at least 1")
