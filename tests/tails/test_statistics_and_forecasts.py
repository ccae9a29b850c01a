import math

import numpy as np
import pytest
import torch

from tailgrad.tails import expected_max_normal, gaussian_tail_forecast, tail_forecast, tail_statistics
from tailgrad.tails.statistics import largest_group, tail_size


@pytest.mark.parametrize(("tail_fraction", "rollouts", "size"), [(0.07, 100, 7), (0.25, 16, 4), (0.25, 17, 5)])
def test_tail_size(tail_fraction: float, rollouts: int, size: int) -> None:
    """0.07 * 100 is 7.000000000000001 in floating point and still seven."""
    assert tail_size(rollouts, tail_fraction) == size
    rewards = torch.arange(float(rollouts))[None]
    assert tail_statistics(rewards, tail_fraction=tail_fraction).size.tolist() == [size]


@pytest.mark.parametrize("tail_fraction", [0.15, 0.25, 0.5, 1.0])
def test_statistics_against_numpy(tail_fraction: float) -> None:
    rewards = np.random.default_rng(0).normal(-1e4, 0.01, size=(6, 21))
    rewards[1, 4] = rewards[2, :3] = math.nan
    tail = tail_statistics(torch.from_numpy(rewards), tail_fraction=tail_fraction)
    for prompt, group in enumerate(rewards):
        scored = np.sort(group[~np.isnan(group)])
        largest = scored[-math.ceil(tail_fraction * scored.size - 1e-9) :]
        assert tail.size[prompt] == largest.size
        assert tail.threshold[prompt] == largest[0]
        assert tail.mean[prompt].item() == pytest.approx(largest.mean(), rel=1e-14)
        assert tail.std[prompt].item() == pytest.approx(largest.std(), rel=1e-8)


def test_fewer_than_two_in_the_tail_is_no_tail() -> None:
    nan = math.nan
    rewards = torch.tensor([[1.0, 2.0, nan, nan], [nan, nan, nan, 3.0], [nan] * 4, [1.0, 2.0, 3.0, 4.0]])
    tail = tail_statistics(rewards, tail_fraction=0.5)
    assert tail.size.tolist() == [1, 1, 0, 2]
    for column in tail[:3]:
        assert torch.isnan(column).tolist() == [True, True, True, False]
    forecast = gaussian_tail_forecast(rewards, deploy_n=64, tail_fraction=0.5)
    assert torch.isnan(forecast).tolist() == [True, True, True, False]


def test_forecast_by_hand() -> None:
    """Top two of (0, 1, 5, 3): mean 4, std 1, so V_64 ~= 4 + 2.564404; V_512 ~= 4 + 3.725913."""
    rewards = torch.tensor([[0.0, 1.0, 5.0, 3.0]] * 2)
    forecast = gaussian_tail_forecast(rewards, deploy_n=torch.tensor([64, 512]), tail_fraction=0.5)
    torch.testing.assert_close(forecast, torch.tensor([6.564404, 7.725913]).double(), rtol=0, atol=1e-6)


def test_forecast_of_gaussian_rewards_is_the_expected_maximum() -> None:
    """One group of 4e5: the standard error of mu_hat + 2.7 sigma_hat is about 3 / sqrt(1e5) = 0.01."""
    rewards = 18.93 + 0.5 * torch.randn(1, 400_000, generator=torch.Generator().manual_seed(0)).double()
    forecast = gaussian_tail_forecast(rewards, deploy_n=128)
    assert forecast.item() == pytest.approx(18.93 + 0.5 * expected_max_normal(128), abs=0.5 * 0.04)


def test_forecast_refuses_what_the_estimators_refuse() -> None:
    with pytest.raises(ValueError, match=r"rewards\[0, 1\] is inf"):
        gaussian_tail_forecast(torch.tensor([[0.0, math.inf]]), deploy_n=64, tail_fraction=1.0)
    with pytest.raises(ValueError, match="unknown tail 'pareto': choose one of gaussian, exponential"):
        tail_forecast(torch.zeros(1, 8), deploy_n=128, tail="pareto")
    with pytest.raises(ValueError, match="deploy_n = 0 must lie between 1 and 1e9"):
        gaussian_tail_forecast(torch.zeros(1, 8), deploy_n=0)
    with pytest.raises(ValueError, match="tail_fraction = 0"):
        gaussian_tail_forecast(torch.zeros(1, 8), deploy_n=128, tail_fraction=0.0)


def test_no_prompts() -> None:
    assert gaussian_tail_forecast(torch.zeros(0, 8), deploy_n=64).shape == (0,)


def test_equal_rewards_have_no_spread_at_all() -> None:
    """Their mean may round: (0.7 + 0.7 + 0.7) / 3 is not 0.7."""
    rewards = torch.full((1, 12), 0.7, dtype=torch.float64)
    assert rewards[0, :3].sum() / 3 != 0.7
    assert tail_statistics(rewards).std.item() == 0


@pytest.mark.parametrize("percent", [7, 14, 25, 28, 33, 57, 100])
def test_the_largest_group_is_the_last_whose_tail_holds_so_many(percent: int) -> None:
    """Counted in whole percent, where nothing is rounded: 0.07 * 100 is 7.000000000000001 in floats."""
    for size in range(1, 40):
        by_count = max(n for n in range(1, 100 * size // percent + 2) if -(-percent * n // 100) == size)
        assert largest_group(size, percent / 100) == by_count
