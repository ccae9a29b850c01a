"""Forecasts of V_N beyond the responses that are there: against closed forms, quadrature and Monte Carlo."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from scipy.special import gammaln

from tailgrad.tails import (
    FORECASTS,
    calibrated_forecast,
    expected_max_normal,
    forecast_of_pareto_tail,
    level_forecast,
    location_scale_forecast,
    max_at_k_forecast,
    mean_and_std_forecast,
    pareto_tail,
    pareto_tail_forecast,
)
from tailgrad.tails import levels as levels_module
from tailgrad.tails.levels import levels_of


def normal(prompts: int, n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(prompts, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pareto_draws(shape: float, prompts: int, n: int) -> torch.Tensor:
    return torch.from_numpy(stats.genpareto(shape).rvs((prompts, n), random_state=np.random.default_rng(0)))


def best_of_pareto(shape: float, n: int) -> float:
    """E of the largest of n: Gamma(n + 1) Gamma(1 - xi) / Gamma(n + 1 - xi), less 1, over xi; H_n for xi = 0."""
    if shape == 0:
        return float((1 / np.arange(1, n + 1)).sum())
    return math.expm1(gammaln(n + 1) + gammaln(1 - shape) - gammaln(n + 1 - shape)) / shape


@pytest.mark.parametrize("shape", [-1.0, -0.3, 0.0, 0.25])
@pytest.mark.parametrize("tail_fraction", [0.1, 0.5])
def test_a_pareto_tail_of_a_known_shape_forecasts_without_bias(shape: float, tail_fraction: float) -> None:
    tail = pareto_tail(pareto_draws(shape, 20_000, 32), tail_fraction=tail_fraction)._replace(shape=shape)
    for deploy_n in (32, 512):
        forecasts = forecast_of_pareto_tail(tail, deploy_n).numpy()
        error = forecasts.std() / len(forecasts) ** 0.5
        assert abs(forecasts.mean() - best_of_pareto(shape, deploy_n)) < 4 * error


@pytest.mark.parametrize("shape", [-1.0, -0.3, 0.0, 0.25])
def test_a_fitted_pareto_tail_finds_v_n_of_pareto_rewards(shape: float) -> None:
    rewards = pareto_draws(shape, 400, 256)
    found = pareto_tail_forecast(rewards.reshape(10, 40, 256)[0], deploy_n=1024)
    of_pools = torch.stack([pareto_tail_forecast(pool, deploy_n=1024).mean() for pool in rewards.reshape(10, 40, 256)])
    assert found.shape == (40,)
    error = float(of_pools.std()) / 10**0.5
    assert abs(float(of_pools.mean()) - best_of_pareto(shape, 1024)) < 3.5 * error  # t with 9 degrees: 0.7%


def test_the_exponential_tail_is_the_limit_of_the_pareto_tail() -> None:
    tail = pareto_tail(normal(5, 64), tail_fraction=0.25)
    k, n, deploy_n = 16, 64, 500
    harmonic = [float((1 / np.arange(1, count + 1)).sum()) for count in (deploy_n, n, k)]
    by_hand = tail.threshold + tail.mean_excess * (harmonic[0] - harmonic[1] + harmonic[2])
    for shape in (0.0, 1e-7, -1e-7):
        assert torch.allclose(forecast_of_pareto_tail(tail._replace(shape=shape), deploy_n), by_hand, rtol=1e-5)


def test_a_tail_without_spread_stays_where_it_is_and_one_without_mean_is_infinite() -> None:
    rewards = torch.cat([torch.full((1, 32), 2.0, dtype=torch.float64), normal(3, 32)])
    tail = pareto_tail(rewards)
    assert forecast_of_pareto_tail(tail, 1000)[0] == 2.0
    assert forecast_of_pareto_tail(tail._replace(shape=1.0), 1000)[0] == 2.0
    assert forecast_of_pareto_tail(tail._replace(shape=1.0), 1000)[1:].isinf().all()


def test_location_and_scale_of_one_prompt_give_its_exact_v_n() -> None:
    rewards = normal(1, 40)
    for deploy_n in (1, 7, 40):
        exact = max_at_k_forecast(rewards, deploy_n=deploy_n)
        assert torch.allclose(location_scale_forecast(rewards, deploy_n=deploy_n), exact)
    assert location_scale_forecast(rewards, deploy_n=41).isnan().all()


def test_location_and_scale_pool_prompts_that_differ_in_nothing_else() -> None:
    shape = normal(1, 30)
    scale, shift = torch.tensor([[1.0], [3.0], [0.2]]), torch.tensor([[0.0], [-5.0], [7.0]])
    shape, rewards = shape - shape.mean(), shift + scale * (shape - shape.mean())
    rewards = torch.cat([rewards, torch.full((3, 2), math.nan, dtype=torch.float64)], dim=1)
    pool = max_at_k_forecast(shape.repeat(1, 3), deploy_n=50)
    expected = (shift + scale * pool).squeeze(1).double()
    assert torch.allclose(location_scale_forecast(rewards, deploy_n=50), expected)


def test_mean_and_std_is_below_the_expected_largest_of_normal_rewards() -> None:
    forecast = float(mean_and_std_forecast(normal(2000, 64), deploy_n=128).mean())
    assert forecast == pytest.approx(float(stats.norm.isf(1 / 128)), abs=0.05)
    assert forecast < expected_max_normal(128) - 0.1


@pytest.mark.parametrize("name", FORECASTS)
def test_every_forecast_follows_shift_and_scale(name: str) -> None:
    rewards = normal(6, 48)
    plain = FORECASTS[name](rewards, deploy_n=200)
    assert plain.shape == (6,)
    assert plain.isfinite().all()
    assert torch.allclose(FORECASTS[name](3 * rewards - 100, deploy_n=200), 3 * plain - 100)


def test_levels_are_told_from_grades() -> None:
    assert levels_of(torch.tensor([[0.0, 1.0], [math.nan, 0.5]])) == [0.0, 0.5, 1.0]
    assert levels_of(torch.arange(11.0).unsqueeze(0)) == []


def test_the_posterior_of_a_success_rate_is_that_of_quadrature(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, share, n, deploy_n = 0.7, 3.0, 0.25, 8, 40
    monkeypatch.setattr(levels_module, "_A", np.full((1, 1, 1), a))
    monkeypatch.setattr(levels_module, "_B", np.full((1, 1), b))
    monkeypatch.setattr(levels_module, "_HOPELESS", np.full((1, 1, 1, 1), share))
    monkeypatch.setattr(levels_module, "_LOG_PRIOR", np.zeros((1, 1, 1, 1)))
    rewards = torch.tensor([[1.0] * s + [0.0] * (n - s) for s in (0, 1, 5)])
    found = level_forecast(rewards, deploy_n=deploy_n).per_prompt

    def mass(s: int, more: int) -> float:
        of_rates = integrate.quad(lambda p: stats.beta.pdf(p, a, b) * p**s * (1 - p) ** (n - s + more), 0, 1)[0]
        return share * (s == 0) + (1 - share) * of_rates

    assert found == pytest.approx([1 - mass(s, deploy_n) / mass(s, 0) for s in (0, 1, 5)], abs=1e-6)


def test_levels_add_up_and_move_with_their_values() -> None:
    rewards = torch.from_numpy(np.random.default_rng(0).integers(0, 3, size=(12, 20))).double()
    steps = [level_forecast((rewards >= t).double(), deploy_n=100).per_prompt for t in (1, 2)]
    assert level_forecast(rewards, deploy_n=100).per_prompt == pytest.approx(steps[0] + steps[1])
    moved = level_forecast(2 * rewards - 7, deploy_n=100)
    assert moved.per_prompt == pytest.approx(2 * (steps[0] + steps[1]) - 7)
    assert moved.low < moved.per_prompt.mean() < moved.high


@pytest.mark.slow
def test_levels_hold_the_truth_as_often_as_they_say() -> None:
    """64 pools of 40 prompts, p ~ Beta(0.5, 4), 16 responses, N = 128: at 95% at least 56 hold but for 1 in 1,000."""
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(64):
        rates = rng.beta(0.5, 4, size=40)
        found = level_forecast(torch.from_numpy((rng.random((40, 16)) < rates[:, None]).astype(float)), deploy_n=128)
        held += found.low <= (1 - (1 - rates) ** 128).mean() <= found.high
    assert held >= 56


def test_graded_rewards_are_refused_by_the_forecast_of_levels() -> None:
    with pytest.raises(ValueError, match="at most 10 values"):
        level_forecast(normal(2, 16), deploy_n=64)


def test_an_interval_moves_with_the_rewards_and_does_not_know_their_order() -> None:
    rewards = normal(24, 64)
    plain = calibrated_forecast(rewards, [512])
    moved = calibrated_forecast(10 * rewards + 3, [512])
    assert moved.low == pytest.approx(10 * plain.low + 3)
    assert moved.high == pytest.approx(10 * plain.high + 3)
    sorted_rows = calibrated_forecast(rewards.sort(dim=1).values, [512])
    assert sorted_rows.mean == pytest.approx(plain.mean)
    assert (sorted_rows.high - sorted_rows.low)[0] == pytest.approx((plain.high - plain.low)[0], rel=0.5)
    assert plain.mean == pytest.approx(plain.per_prompt.mean(axis=0))
    assert plain.refused == ("",)


def test_unscored_responses_and_ragged_prompts_are_left_out() -> None:
    rewards = normal(24, 64)
    padded = torch.cat([rewards, torch.full((24, 10), math.nan, dtype=torch.float64)], dim=1)
    assert calibrated_forecast(padded, [512]).mean == pytest.approx(calibrated_forecast(rewards, [512]).mean)
    rewards[3] = math.nan
    found = calibrated_forecast(rewards, [512])
    assert np.isnan(found.per_prompt[3])
    assert np.isfinite([*found.mean, *found.low, *found.high]).all()
    rewards[4, 15:] = math.nan
    without = rewards[[row for row in range(24) if row not in (3, 4)]]
    few = calibrated_forecast(rewards, [512])
    assert few.mean == pytest.approx(calibrated_forecast(without, [512]).mean)
    assert np.isnan(few.per_prompt[4])


def test_how_far_a_forecast_goes_counts_scored_responses() -> None:
    rewards = normal(9, 64)
    rewards[:5, 32:] = math.nan
    found = calibrated_forecast(rewards, [1024, 1025])
    assert found.refused[0] == ""
    assert "more than 32 times the 32 scored" in found.refused[1]


@pytest.mark.parametrize("name", FORECASTS)
def test_every_forecast_refuses_bad_input(name: str) -> None:
    with pytest.raises(ValueError, match="deploy_n = 0"):
        FORECASTS[name](normal(4, 32), deploy_n=0)
    with pytest.raises(ValueError, match="is inf"):
        FORECASTS[name](torch.tensor([[0.0, math.inf]]), deploy_n=64)


@pytest.mark.parametrize(
    ("rewards", "deploy_n", "reason"),
    [
        (normal(20, 12), 64, "12 scored responses per prompt are too few"),
        (normal(20, 32), 2048, "more than 32 times the 32"),
        (torch.full((20, 32), 1.5), 64, "no prompt has spread"),
        (torch.full((20, 32), math.nan), 64, "0 scored responses per prompt are too few"),
        (normal(20, 3), 64, "3 scored responses per prompt are too few"),
        (torch.from_numpy(stats.t(1.5).rvs((40, 128), random_state=0)), 512, "too heavy"),
    ],
)
def test_what_may_not_be_trusted_is_refused_with_the_reason(rewards: torch.Tensor, deploy_n: int, reason: str) -> None:
    found = calibrated_forecast(rewards, [deploy_n])
    assert reason in found.refused[0]
    assert np.isnan([*found.mean, *found.low, *found.high, *found.per_prompt.ravel()]).all()


def test_the_interval_is_that_of_the_logarithm_of_the_gain_until_it_is_wider_than_the_gain() -> None:
    rewards = normal(200, 512)
    found = calibrated_forecast(rewards, [1024])
    last = float(rewards.amax(dim=1).mean())
    gain, low, high = (part[0] - last for part in (found.mean, found.low, found.high))
    assert low * high == pytest.approx(gain**2)
    wide = calibrated_forecast(normal(4, 16), [512])
    assert (wide.high - wide.mean) / (wide.mean - wide.low) == pytest.approx(math.e)


def test_the_half_width_is_twice_the_noise_and_what_a_wider_tail_says() -> None:
    """Squares, averaged over 40 pools; the noise is that of 400 pools. With a wrong factor one is off by 2 or 1.5."""
    pools = torch.empty(400, 50, 64, dtype=torch.float64).exponential_(generator=torch.Generator().manual_seed(0))
    noise = torch.stack([pareto_tail_forecast(pool, deploy_n=128).mean() for pool in pools]).var()
    halves, gaps = [], []
    for pool in pools[:40]:
        found = calibrated_forecast(pool, [128])
        gain = found.mean[0] - float(pool.amax(dim=1).mean())
        halves.append(gain * math.log((found.high[0] - found.mean[0] + gain) / gain))
        wider = pareto_tail_forecast(pool, deploy_n=128, tail_fraction=2 / 8)
        gaps.append(found.mean[0] - float(wider.mean()))
    ratio = np.mean(np.square(halves)) / (4 * (float(noise) + np.mean(np.square(gaps))))
    assert 0.8 < ratio < 1.25


def test_the_interval_of_levels_is_that_of_a_posterior(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, n, deploy_n = 2.0, 60.0, 16, 30
    monkeypatch.setattr(levels_module, "_A", np.full((1, 1, 1), a))
    monkeypatch.setattr(levels_module, "_B", np.full((1, 1), b))
    monkeypatch.setattr(levels_module, "_HOPELESS", np.zeros((1, 1, 1, 1)))
    monkeypatch.setattr(levels_module, "_LOG_PRIOR", np.zeros((1, 1, 1, 1)))
    successes = np.arange(200) % 3
    rewards = torch.tensor([[1.0] * s + [0.0] * (n - s) for s in successes.tolist()])
    rates = np.random.default_rng(0).beta(a + successes, b + n - successes, size=(20_000, 200))
    low, high = np.quantile((1 - (1 - rates) ** deploy_n).mean(axis=1), [0.025, 0.975])
    found = level_forecast(rewards, deploy_n=deploy_n)
    assert [found.low, found.high] == pytest.approx([low, high], abs=0.05 * (high - low))


def test_one_prompt_may_be_forecast_and_one_n_refused_beside_another() -> None:
    found = calibrated_forecast(normal(1, 2048), [4096, 10**6])
    assert found.low[0] < expected_max_normal(4096) < found.high[0]
    assert [bool(reason) for reason in found.refused] == [False, True]
    assert np.isnan(found.mean[1])


@pytest.mark.parametrize("deploy_n", [[], [64], [63, 512]])
def test_n_within_the_pool_is_refused(deploy_n: list[int]) -> None:
    with pytest.raises(ValueError, match="above the 64 responses"):
        calibrated_forecast(normal(4, 64), deploy_n)


@pytest.mark.nightly
@pytest.mark.parametrize("shape", [-1.0, 0.0, 0.2, None])
def test_intervals_hold_the_truth(shape: float | None) -> None:
    """100 pools of 32 prompts with 64 responses, N = 8 n; None is normal: 86 or more hold at 95% but for 1 in 2,000."""
    held = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        draws = (
            rng.standard_normal((32, 64)) if shape is None else stats.genpareto(shape).rvs((32, 64), random_state=rng)
        )
        found = calibrated_forecast(torch.from_numpy(draws), [512])
        truth = expected_max_normal(512) if shape is None else best_of_pareto(shape, 512)
        held += bool(found.refused[0]) or found.low[0] <= truth <= found.high[0]
    assert held >= 86
