import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import log_ndtr, ndtri

from tailgrad.tails import expected_max_normal, extrapolation_coefficient, gaussian_tail


def expected_max_by_quadrature(n: float) -> float:
    """Another integral, by another rule: int_0^inf (1 - Phi^n) - int_-inf^0 Phi^n, adaptively.

    The first integrand falls from 1 to 0 around the quantile 1 - 1/n, so the interval is split there.
    """
    middle = max(0.0, float(ndtri(1 - 1 / n))) if n > 1 else 0.0
    edges = sorted({0.0, max(0.0, middle - 1), middle, middle + 1, middle + 3, middle + 12})
    above = sum(
        quad(lambda x: -math.expm1(n * log_ndtr(x)), low, high, epsabs=1e-13, epsrel=1e-13)[0]
        for low, high in pairwise(edges)
    )
    below = quad(lambda x: math.exp(n * log_ndtr(x)), -14, 0, epsabs=1e-13, epsrel=1e-13)[0]
    return above - below


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (1, 0.0),
        (2, 1 / math.sqrt(math.pi)),
        (3, 1.5 / math.sqrt(math.pi)),
        (4, 3 / math.sqrt(math.pi) * (0.5 + math.asin(1 / 3) / math.pi)),
        (5, 5 / math.sqrt(math.pi) * (0.25 + 1.5 * math.asin(1 / 3) / math.pi)),
    ],
)
def test_expected_max_in_closed_form(n: int, expected: float) -> None:
    assert expected_max_normal(n) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("n", [1.5, 2.718, 7.7, 16, 64, 128, 512, 1000.5, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9])
def test_expected_max_against_another_integral(n: float) -> None:
    assert expected_max_normal(n) == pytest.approx(expected_max_by_quadrature(n), abs=1e-10)


@pytest.mark.parametrize(
    ("n", "c_n", "coefficients"),
    [
        (64, 2.343733, (1.431575, 2.182062, 2.564404)),
        (128, 2.594597, (2.041563, 2.692398, 2.980561)),
        (512, 3.043903, (3.134072, 3.606428, 3.725913)),
    ],
)
def test_reference_values(n: int, c_n: float, coefficients: tuple[float, ...]) -> None:
    assert expected_max_normal(n) == pytest.approx(c_n, abs=5e-7)
    for tail_fraction, expected in zip((0.1, 0.25, 0.5), coefficients, strict=True):
        assert extrapolation_coefficient(n, tail_fraction) == pytest.approx(expected, abs=5e-7)


def test_a_tensor_gives_the_same_as_its_numbers() -> None:
    n = torch.tensor([[1, 2, 128], [10**9, 5, 64]])
    expected = torch.tensor([[expected_max_normal(x) for x in row] for row in n.tolist()])
    c_n = expected_max_normal(n)
    assert c_n.dtype == torch.float64
    torch.testing.assert_close(c_n, expected.double(), rtol=0, atol=1e-6)
    coefficients = extrapolation_coefficient(n, 0.1)
    assert coefficients[0, 2].item() == pytest.approx(extrapolation_coefficient(128, 0.1), abs=1e-12)
    assert expected_max_normal(torch.tensor(128)).shape == ()


@pytest.mark.parametrize("tail_fraction", [1e-4, 0.01, 0.1, 0.25, 0.5, 0.9, 0.999])
def test_gaussian_tail_by_quadrature(tail_fraction: float) -> None:
    z = float(ndtri(1 - tail_fraction))

    def moment(power: int, about: float) -> float:
        def density(x: float) -> float:
            return (x - about) ** power * math.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)

        return quad(density, z, 12, epsabs=1e-15, epsrel=1e-12, limit=200)[0]

    tail = gaussian_tail(tail_fraction)
    mean = moment(1, 0.0) / tail_fraction
    assert moment(0, 0.0) == pytest.approx(tail_fraction, rel=1e-9)
    assert tail == pytest.approx((z, mean, math.sqrt(moment(2, mean) / tail_fraction)), rel=1e-8)


def test_the_whole_distribution_is_the_limit_of_its_tails() -> None:
    assert gaussian_tail(1.0) == (-math.inf, 0.0, 1.0)
    assert extrapolation_coefficient(128, 1.0) == expected_max_normal(128)
    assert extrapolation_coefficient(128, 1 - 1e-12) == pytest.approx(expected_max_normal(128), abs=1e-9)


def test_few_rollouts_lie_below_the_mean_of_the_tail() -> None:
    assert extrapolation_coefficient(2, 0.25) == pytest.approx((1 / math.sqrt(math.pi) - 1.271106) / 0.491566)
    assert extrapolation_coefficient(2, 0.25) < 0


@pytest.mark.parametrize("n", [0.999, 0, -3, math.nan, math.inf, 1.1e9])
def test_n_out_of_range(n: float) -> None:
    with pytest.raises(ValueError, match=r"n = .* between 1 and 1e9"):
        expected_max_normal(n)
    with pytest.raises(ValueError, match=r"deploy_n = .* between 1 and 1e9"):
        extrapolation_coefficient(n, 0.25)
    with pytest.raises(ValueError, match=r"deploy_n holds values outside \[1, 1e9\]"):
        extrapolation_coefficient(torch.tensor([2.0, n]), 0.25)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("n", ["128", True, None, np.ones(2)])
def test_n_that_is_no_number(n: object) -> None:
    with pytest.raises(TypeError, match="n must be a number or a tensor"):
        expected_max_normal(n)  # type: ignore[call-overload]


@pytest.mark.parametrize("tail_fraction", [0.0, -0.25, 1.01, math.nan])
def test_tail_fraction_out_of_range(tail_fraction: float) -> None:
    with pytest.raises(ValueError, match=r"tail_fraction = .* must lie in \(0, 1\]"):
        extrapolation_coefficient(128, tail_fraction)
