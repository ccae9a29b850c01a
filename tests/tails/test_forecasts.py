"""Forecasts of V_N and their standard errors, against closed forms and simulation."""

import math
from functools import partial
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor

from tailgrad.tails import (
    TAIL_SHAPES,
    exponential_tail_forecast,
    gaussian_tail_forecast,
    max_at_k_forecast,
    standard_error,
    tail_forecast,
)

FORECASTS = {name: partial(tail_forecast, tail=name) for name in TAIL_SHAPES} | {"max_at_k": max_at_k_forecast}


def exponential(groups: int, m: int) -> Tensor:
    generator = torch.Generator().manual_seed(m)
    return torch.empty(groups, m, dtype=torch.float64).exponential_(generator=generator)


def normal(groups: int, m: int) -> Tensor:
    return torch.randn(groups, m, dtype=torch.float64, generator=torch.Generator().manual_seed(m))


@pytest.mark.parametrize(("m", "deploy_n"), [(16, 128), (16, 4), (64, 1000)])
@pytest.mark.parametrize("tail_fraction", [0.25, 1.0])
def test_exponential_rewards_are_forecast_without_bias(m: int, deploy_n: int, tail_fraction: float) -> None:
    """Location -3, scale 2: V_N = -3 + 2 H_N exactly."""
    rewards = 2 * exponential(20_000, m) - 3
    forecasts = exponential_tail_forecast(rewards, deploy_n=deploy_n, tail_fraction=tail_fraction)
    truth = -3 + 2 * sum(1 / j for j in range(1, deploy_n + 1))
    error = forecasts.std().item() / math.sqrt(len(forecasts))
    assert abs(forecasts.mean().item() - truth) < 4 * error
    assert error < 0.05


def test_exponential_forecast_by_hand() -> None:
    """Top two of 8: 3 and 5; s = 2, V_16 = 3 + 2 (1/9 + ... + 1/16 + 1), H_1 = 1."""
    rewards = torch.tensor([[0.0, 5.0, 1.0, 3.0, -1.0, math.nan, 2.0, 2.5, 0.5]])
    expected = 3 + 2 * (sum(1 / j for j in range(9, 17)) + 1)
    assert exponential_tail_forecast(rewards, deploy_n=16).item() == pytest.approx(expected, abs=1e-12)
    several = exponential_tail_forecast(rewards.expand(2, -1), deploy_n=torch.tensor([8.0, 16.0]))
    assert several.tolist() == pytest.approx([5.0, expected])


def test_max_at_k_forecast_is_the_mean_over_subsets() -> None:
    rewards = normal(3, 7)
    rewards[1, 2] = math.nan
    for k in range(1, 8):
        values = max_at_k_forecast(rewards, deploy_n=k)
        for group, value in zip(rewards, values, strict=True):
            scored = group[~torch.isnan(group)].tolist()
            best = [max(subset) for subset in combinations(scored, k)]
            assert value.item() == pytest.approx(np.mean(best) if best else math.nan, nan_ok=True)


@pytest.mark.parametrize(
    ("name", "deploy_n", "ratio"),
    [("max_at_k", 4, 1.00), ("gaussian", 128, 1.07), ("exponential", 128, 1.43)],
)
def test_standard_error_against_the_spread_over_groups(name: str, deploy_n: int, ratio: float) -> None:
    """The jackknife's mean square is the variance over groups or more: a threshold that jumps makes it cautious."""
    rewards = normal(4000, 32)
    options = {"deploy_n": deploy_n}
    spread = FORECASTS[name](rewards, **options).std().item()
    errors = standard_error(FORECASTS[name], rewards, **options)
    measured = math.sqrt(errors.square().mean().item()) / spread
    assert measured == pytest.approx(ratio, rel=0.05)


def test_standard_error_of_the_mean_and_of_groups_with_unscored_rollouts() -> None:
    rewards = normal(4, 12)
    expected = rewards.std(dim=1) / math.sqrt(12)
    torch.testing.assert_close(standard_error(max_at_k_forecast, rewards, deploy_n=1), expected)
    rewards[:, [3, 7]] = math.nan
    without = rewards[:, [i for i in range(12) if i not in (3, 7)]]
    for name, forecast in FORECASTS.items():
        options = {"deploy_n": 5 if name == "max_at_k" else 128}
        expected = standard_error(forecast, without, **options)
        torch.testing.assert_close(standard_error(forecast, rewards, **options), expected)
    rewards[0, 2:] = math.nan
    assert standard_error(gaussian_tail_forecast, rewards, deploy_n=128).isnan().tolist() == [True, False, False, False]


def test_standard_error_takes_memory_in_proportion_to_the_rewards() -> None:
    """8 x 2,048 rewards, one left out at a time, are 34 million: never more than a few rows of them at once."""
    rewards = normal(8, 2048)
    sizes: list[int] = []

    def mean(groups: Tensor) -> Tensor:
        sizes.append(groups.numel())
        return torch.nanmean(groups, dim=1)

    torch.testing.assert_close(standard_error(mean, rewards), rewards.std(dim=1) / math.sqrt(2048))
    assert sum(sizes) == 8 * 2048**2
    assert max(sizes) <= 2**18


def test_standard_error_against_a_loop_over_the_rollouts_left_out() -> None:
    rewards = normal(3, 300).round(decimals=1)  # 900 groups of 300: several chunks
    rewards[1, 7] = math.nan
    for name, forecast in FORECASTS.items():
        options = {"deploy_n": 5 if name == "max_at_k" else 128}
        expected = []
        for group in rewards:
            scored = group[~torch.isnan(group)]
            left = torch.stack([torch.cat([scored[:i], scored[i + 1 :]]) for i in range(len(scored))])
            values = forecast(left, **options)
            expected.append(math.sqrt((len(left) - 1) * float(values.var(correction=0))))
        actual = standard_error(forecast, rewards, **options)
        torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("value", [0.1, 0.7, 18.93])
def test_equal_rewards_are_their_own_forecast_without_error(value: float) -> None:
    rewards = torch.full((1, 12), value, dtype=torch.float64)
    rewards[0, 5] = math.nan
    for name, forecast in FORECASTS.items():
        options = {"deploy_n": 5 if name == "max_at_k" else 128}
        assert forecast(rewards, **options).item() == value
        assert standard_error(forecast, rewards, **options).item() == 0


def test_the_best_of_all_is_the_largest_reward_itself() -> None:
    rewards = normal(50, 13) + 1e6
    assert torch.equal(max_at_k_forecast(rewards, deploy_n=13), rewards.amax(dim=1))


def test_an_exponential_tail_promises_more_than_a_gaussian_one() -> None:
    rewards = normal(2000, 64)
    gaussian = gaussian_tail_forecast(rewards, deploy_n=512).mean()
    heavier = exponential_tail_forecast(rewards, deploy_n=512).mean()
    assert gaussian < 3.044 + 0.05  # c_512
    assert heavier > gaussian + 0.3


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("name", "deploy_n", "error", "message"),
    [
        ("max_at_k", 9, ValueError, "deploy_n = 9 must lie between 1 and the 8 rollouts.*which tail_forecast does"),
        ("max_at_k", 0, ValueError, "deploy_n = 0 must lie between 1"),
        ("max_at_k", 2.5, TypeError, "deploy_n must be an int, got 2.5"),
        ("exponential", 0, ValueError, "deploy_n = 0 must lie between 1"),
        ("exponential", "128", TypeError, "deploy_n must be a number"),
    ],
)
def test_budgets_out_of_range(name: str, deploy_n: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        FORECASTS[name](torch.zeros(1, 8), deploy_n=deploy_n)
