"""OrderGrad against the enumeration of all subsets, the estimators at its ends, and exact gradients."""

import math
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
import torch
from test_unbiased import LOGITS, REWARDS, expected_gradient

from tailgrad.estimators import bind, max_at_k, order_grad, rloo
from tailgrad.estimators.order_grad import gap_weights

Statistic = dict[str, Any]


def statistic(rewards: list[float], options: Statistic) -> float:
    ascending = sorted(rewards)
    if "top" in options:
        return float(np.mean(ascending[-options["top"] :]))
    return ascending[math.ceil(round(options["quantile"] * len(rewards), 9)) - 1]


def by_enumeration(rewards: list[float], k: int, options: Statistic) -> list[float]:
    values = {
        subset: statistic([rewards[i] for i in subset], options) for subset in combinations(range(len(rewards)), k)
    }
    with_i = [[v for subset, v in values.items() if i in subset] for i in range(len(rewards))]
    without = [[v for subset, v in values.items() if i not in subset] for i in range(len(rewards))]
    return [k * (np.mean(a) - np.mean(b)) for a, b in zip(with_i, without, strict=True)]


def statistics(k: int) -> list[Statistic]:
    tops: list[Statistic] = [{"top": top} for top in range(1, k + 1)]
    return [*tops, *({"quantile": quantile} for quantile in (0.1, 0.5, 0.75, 1.0))]


@pytest.mark.parametrize("m", range(2, 9))
def test_subset_by_subset(m: int) -> None:
    rng = np.random.default_rng(m)
    rewards = np.stack([rng.normal(5, 1, m), rng.integers(0, 3, m), rng.integers(0, 2, m)]).astype(float)
    for k in range(1, m):
        for options in statistics(k):
            expected = torch.tensor([by_enumeration(list(group), k, options) for group in rewards])
            actual = order_grad(torch.from_numpy(rewards), k=k, **options)
            torch.testing.assert_close(actual, expected.double(), rtol=1e-11, atol=1e-11)


def test_unscored_rollouts_leave_a_smaller_group() -> None:
    rewards = torch.randn(3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rewards[1, [0, 5]] = torch.nan
    rewards[2, 4:] = torch.nan
    actual = order_grad(rewards, k=4, top=2)
    scored = rewards[1].isfinite()
    expected = torch.tensor(by_enumeration(rewards[1, scored].tolist(), 4, {"top": 2})) * 8 / 6
    torch.testing.assert_close(actual[1, scored], expected)
    assert not actual[2].any(), "four scored rollouts, and five are needed"


@pytest.mark.parametrize("m", [5, 64, 300])
def test_at_its_ends_it_is_max_at_k_and_rloo(m: int) -> None:
    rewards = torch.randn(3, m, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for k in {1, 2, m // 2, m - 1}:
        best = max_at_k(rewards, k=k, baseline="loo")
        torch.testing.assert_close(order_grad(rewards, k=k, top=1), best, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(order_grad(rewards, k=k, quantile=1.0), best, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(order_grad(rewards, k=k, top=k), rloo(rewards), rtol=1e-9, atol=1e-11)


def test_the_weights_of_many_order_statistics_are_those_of_each_one() -> None:
    """And large groups take no more than a few tables: 1,024 of 2,049 by 2,048 would be minutes."""
    together, apart = gap_weights(40, 12, 1, 5), [gap_weights(40, 12, h, h) for h in range(1, 6)]
    for table, tables in zip(together, zip(*apart, strict=True), strict=True):
        np.testing.assert_allclose(table, np.mean(tables, axis=0), rtol=0, atol=1e-12)
    below, above = gap_weights(2048, 1024, 1, 1024)
    places = np.arange(1, 2048)
    np.testing.assert_allclose(below[2048, 1:], places / 2047, rtol=1e-12)
    np.testing.assert_allclose(above[2048, 1:], 1 - (places - 1) / 2047, rtol=1e-12)


@pytest.mark.parametrize(("k", "options"), [(3, {"top": 2}), (5, {"top": 3}), (4, {"quantile": 0.5}), (2, {"top": 1})])
def test_unbiased_for_its_statistic(k: int, options: Statistic) -> None:
    """The gradient of E[L] by automatic differentiation over all tuples of k, against all tuples of 6 rollouts."""
    logits = LOGITS.clone().requires_grad_()
    tuples = torch.tensor(list(product(range(4), repeat=k)))
    values = torch.tensor([statistic(group, options) for group in REWARDS[tuples].tolist()], dtype=torch.float64)
    truth = torch.autograd.grad((logits.softmax(0)[tuples].prod(dim=1) * values).sum(), logits)[0]
    expected = expected_gradient("order_grad", {"k": k, **options})
    torch.testing.assert_close(expected, truth, rtol=0, atol=1e-12)


def test_the_mean_of_more_is_quieter() -> None:
    rewards = torch.randn(2000, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    noise = [float((order_grad(rewards, k=8, top=top) ** 2).mean()) for top in range(1, 9)]
    assert noise == sorted(noise, reverse=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 4}, "needs exactly one of top and quantile, got top = None and quantile = None: give top = j"),
        ({"k": 4, "top": 2, "quantile": 0.5}, "exactly one of top and quantile, got top = 2 and quantile = 0.5"),
        ({"k": 4, "top": 5}, "top = 5 must lie between 1 and k = 4"),
        ({"k": 4, "top": 0}, "top = 0 must lie between 1"),
        ({"k": 4, "quantile": 0.0}, r"quantile = 0.0 must lie in \(0, 1\]"),
        ({"k": 0, "top": 1}, "k = 0 must be at least 1"),
        ({"k": 6, "top": 1}, "k = 6 needs at least 7 rollouts per group, got 6: use a smaller k or more rollouts"),
    ],
)
def test_options_out_of_range(options: Statistic, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bind("order_grad", **options)(torch.zeros(2, 6))
