"""The normal distribution's constants: expected maxima, and the shape of its upper tail."""

import math
from functools import lru_cache
from numbers import Real
from typing import NamedTuple, overload

import torch
from scipy.special import ndtri
from torch import Tensor

LARGEST_N = 1e9
"""The largest N for which the accuracy of `expected_max_normal` is tested."""

# Trapezoidal rule: the integrand is analytic and vanishes at both ends, so the error falls exponentially.
_GRID_START, _GRID_END, _GRID_POINTS = -10.0, 12.0, 705


class GaussianTail(NamedTuple):
    """The upper tail of N(0, 1) that holds a fraction alpha of the mass."""

    quantile: float
    """z, where the tail begins."""
    mean: float
    """lambda, the mean of the tail."""
    std: float
    """kappa, the standard deviation of the tail."""


def gaussian_tail(tail_fraction: float) -> GaussianTail:
    """Quantile, mean and standard deviation of the upper tail of the standard normal.

    z = Phi^-1(1 - alpha), lambda = phi(z) / alpha, kappa = sqrt(1 + z lambda - lambda^2).

    Args:
        tail_fraction: alpha in (0, 1], the share of the mass in the tail; 1 is the whole distribution.

    Returns:
        z, lambda and kappa, in units of the standard deviation.

    Raises:
        ValueError: If `tail_fraction` lies outside (0, 1].

    Examples:
        >>> [round(x, 6) for x in gaussian_tail(0.25)]
        [0.67449, 1.271106, 0.491566]
    """
    check_tail_fraction(tail_fraction)
    if tail_fraction == 1:
        return GaussianTail(-math.inf, 0.0, 1.0)
    z = -float(ndtri(tail_fraction))
    mean = math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi) / tail_fraction
    return GaussianTail(z, mean, math.sqrt(1 + z * mean - mean * mean))


def check_tail_fraction(tail_fraction: float) -> None:
    """Refuse a tail fraction outside (0, 1]."""
    if not 0 < tail_fraction <= 1:
        raise ValueError(f"tail_fraction = {tail_fraction} must lie in (0, 1]; 0.25 is the default")


@overload
def expected_max_normal(n: int | float, *, validate: bool = ...) -> float: ...
@overload
def expected_max_normal(n: Tensor, *, validate: bool = ...) -> Tensor: ...
def expected_max_normal(n: int | float | Tensor, *, validate: bool = True) -> float | Tensor:
    """Expected maximum of n independent standard normals.

    c_n = int x n phi(x) Phi(x)^(n-1) dx, the exact expectation and not the quantile Phi^-1(1 - 1/n). The
    integral makes sense for any real n >= 1, so n need not be whole. The error is below 1e-9 (in fact 1e-13).

    Args:
        n: How many normals, from 1 to 1e9; a number, or a tensor of any shape.
        validate: Check the range of a tensor's values, which waits for the device; numbers always are.

    Returns:
        c_n: a float for a number, a float64 tensor of the same shape and device for a tensor.

    Raises:
        TypeError: If n is neither a number nor a tensor.
        ValueError: If n lies outside [1, 1e9].

    Examples:
        >>> round(expected_max_normal(128), 6)
        2.594597
        >>> expected_max_normal(torch.tensor([2, 4])).round(decimals=6)
        tensor([0.5642, 1.0294], dtype=torch.float64)
    """
    check_budget(n, "n", validate=validate)
    if isinstance(n, Tensor):
        return _expected_max(n)
    return _expected_max_scalar(float(n))


@lru_cache(maxsize=1024)
def _expected_max_scalar(n: float) -> float:
    return float(_expected_max(torch.tensor(n, dtype=torch.float64)))


def _expected_max(n: Tensor) -> Tensor:
    n = n.to(torch.float64).unsqueeze(-1)
    x = torch.linspace(_GRID_START, _GRID_END, _GRID_POINTS, dtype=torch.float64, device=n.device)
    log_density = n.log() - 0.5 * x**2 - 0.5 * math.log(2 * math.pi)
    log_cdf: Tensor = torch.special.log_ndtr(x)
    step = (_GRID_END - _GRID_START) / (_GRID_POINTS - 1)
    return step * (x * (log_density + (n - 1) * log_cdf).exp()).sum(dim=-1)


@overload
def extrapolation_coefficient(deploy_n: int | float, tail_fraction: float = ..., *, validate: bool = ...) -> float: ...
@overload
def extrapolation_coefficient(deploy_n: Tensor, tail_fraction: float = ..., *, validate: bool = ...) -> Tensor: ...
def extrapolation_coefficient(
    deploy_n: int | float | Tensor, tail_fraction: float = 0.25, *, validate: bool = True
) -> float | Tensor:
    """How many tail standard deviations above the tail mean the best of `deploy_n` lies.

    ctilde_N = (c_N - lambda) / kappa, so that V_N = mu_alpha + ctilde_N sigma_alpha for a Gaussian tail.
    Small N gives a negative coefficient, which is right: V_N then lies below the mean of the tail.

    Args:
        deploy_n: N, from 1 to 1e9; a number, or a tensor.
        tail_fraction: alpha in (0, 1], the share of the mass in the tail.
        validate: Check the range of a tensor's values, which waits for the device.

    Returns:
        ctilde_N: a float for a number, a float64 tensor of the same shape for a tensor.

    Raises:
        TypeError: If `deploy_n` is neither a number nor a tensor.
        ValueError: If `deploy_n` lies outside [1, 1e9] or `tail_fraction` outside (0, 1].

    Examples:
        >>> round(extrapolation_coefficient(128, 0.25), 6)
        2.692398

    Reference:
        arXiv 2605.10716.
    """
    check_budget(deploy_n, "deploy_n", validate=validate)
    if isinstance(deploy_n, Tensor):
        tail = gaussian_tail(tail_fraction)
        return (_expected_max(deploy_n) - tail.mean) / tail.std
    return _extrapolation_scalar(float(deploy_n), tail_fraction)


def _extrapolation_scalar(deploy_n: float, tail_fraction: float) -> float:
    tail = gaussian_tail(tail_fraction)
    return (_expected_max_scalar(deploy_n) - tail.mean) / tail.std


# A constant for torch.compile, which cannot trace SciPy. torch.compiler.assume_constant_result sets the same mark, but
# loads the compiler, more than a second at every import.
setattr(_extrapolation_scalar, "_dynamo_marked_constant", True)  # noqa: B010  (mypy knows no attributes of functions)


def check_budget(n: int | float | Tensor, name: str, *, validate: bool) -> None:
    """Refuse a number of rollouts outside [1, 1e9].

    Args:
        n: One number, or a tensor.
        name: What the caller calls it, for the error.
        validate: Read the values of a tensor, which waits for the device.

    Raises:
        TypeError: If n is neither a number nor a tensor.
        ValueError: If n lies outside [1, 1e9].

    Examples:
        >>> check_budget(0, "deploy_n", validate=True)
        Traceback (most recent call last):
            ...
        ValueError: deploy_n = 0 must lie between 1 and 1e9
    """
    if isinstance(n, Tensor):
        if validate and not bool(((n >= 1) & (n <= LARGEST_N)).all()):
            raise ValueError(f"{name} holds values outside [1, 1e9]: {n.tolist()}")
    elif isinstance(n, bool) or not isinstance(n, Real):
        raise TypeError(f"{name} must be a number or a tensor, got {n!r}")
    elif not 1 <= n <= LARGEST_N:
        raise ValueError(f"{name} = {n} must lie between 1 and 1e9")
