"""The expected gain of the next responses: closed forms, integrals and simulations that share nothing with it."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from tailgrad.serving.expected_gain import _GRID, _excess, expected_gain, spread_of
from tailgrad.serving.priors import SpreadPrior, prior_of
from tailgrad.serving.tail_fit import tail_estimate
from tailgrad.tails import TAIL_SHAPES, level_forecast

PRIOR = SpreadPrior(location=0.3, location_weight=1.5, spread=0.8, spread_weight=6.0)


def student_gain(best: float, centre: float, scale: float, freedom: float) -> float:
    """E max(0, X - best) of Student's t."""
    z = (best - centre) / scale
    return scale * ((freedom + z * z) / (freedom - 1) * stats.t.pdf(z, freedom) - z * stats.t.sf(z, freedom))


@pytest.mark.parametrize("count", [3, 4, 8, 16])
def test_of_one_normal_reward_more_it_is_that_of_the_predictive_student_t(count: int) -> None:
    rewards = np.random.default_rng(count).normal(size=(6, count))
    found = expected_gain(torch.from_numpy(rewards), draws=1)
    known = [
        student_gain(row.max(), row.mean(), row.std(ddof=1) * math.sqrt(1 + 1 / count), count - 1) for row in rewards
    ]
    assert found.numpy() == pytest.approx(known, rel=2e-4)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_with_a_prior_it_is_that_of_the_normal_inverse_gamma(count: int) -> None:
    rewards = np.random.default_rng(count).normal(size=(4, count))
    found = expected_gain(torch.from_numpy(rewards), draws=1, prior=PRIOR)
    known = []
    for row in rewards:
        weight, freedom = PRIOR.location_weight + count, PRIOR.spread_weight + count - 1
        mean = (PRIOR.location_weight * PRIOR.location + row.sum()) / weight
        squares = PRIOR.spread_weight * PRIOR.spread**2 + ((row - row.mean()) ** 2).sum()
        squares += PRIOR.location_weight * count / weight * (row.mean() - PRIOR.location) ** 2
        known.append(student_gain(row.max(), mean, math.sqrt(squares / freedom * (1 + 1 / weight)), freedom))
    assert found.numpy() == pytest.approx(known, rel=2e-4)


@pytest.mark.parametrize("tail", list(TAIL_SHAPES))
@pytest.mark.parametrize("prior", [None, PRIOR])
@pytest.mark.parametrize("top", [math.inf, 3.0])
def test_of_several_more_it_is_that_of_a_simulation(tail: str, prior: SpreadPrior | None, top: float) -> None:
    rng = np.random.default_rng(0)
    rewards = torch.from_numpy(rng.normal(size=(1, 40)))
    best, draws, times = float(rewards.max()), 5, 400_000
    fit = [float(part[0]) for part in tail_estimate(rewards, tail)]
    centre, below, spread, spread_weight, location_weight = fit
    squares, apart = spread_weight * spread**2, centre - below * spread
    if prior is not None:
        both = location_weight + prior.location_weight
        shift = prior.location_weight * location_weight / both * (apart - prior.location) ** 2
        squares += prior.spread_weight * prior.spread**2 + shift
        spread_weight += prior.spread_weight
    spreads = np.sqrt(squares / rng.chisquare(spread_weight, times))
    places = centre - below * spreads
    if prior is not None:
        places = (location_weight * places + prior.location_weight * prior.location) / both
        location_weight = both
    places = places + spreads / math.sqrt(location_weight) * rng.normal(size=times)
    unit = (rng.normal if tail == "gaussian" else rng.exponential)(size=(draws, times))
    largest = (places + spreads * unit).max(axis=0)
    gains = np.minimum(np.maximum(largest, best), top) - best
    found = float(expected_gain(rewards, draws=draws, tail=tail, prior=prior, top=top))
    assert found == pytest.approx(gains.mean(), abs=4 * gains.std() / math.sqrt(times))


@pytest.mark.parametrize("draws", [1, 4, 64])
def test_the_excess_of_the_largest_of_k(draws: int) -> None:
    for z in (-1.0, 0.5, 2.0):
        place = int(np.searchsorted(_GRID, z - 1e-9))
        normal = integrate.quad(lambda x: 1 - stats.norm.cdf(x) ** draws, z, 12)[0]
        assert _excess(draws, "gaussian")[place] == pytest.approx(normal, rel=1e-4)
        share = math.exp(-max(z, 0))
        exponential = sum((1 - (1 - share) ** j) / j for j in range(1, draws + 1)) - min(z, 0.0)
        assert _excess(draws, "exponential")[place] == pytest.approx(exponential, rel=1e-4)


def test_it_moves_and_scales_with_the_rewards() -> None:
    rewards = torch.randn(5, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = expected_gain(rewards, draws=3)
    assert torch.allclose(expected_gain(3 * rewards - 7, draws=3), 3 * found)
    assert torch.allclose(spread_of(3 * rewards - 7), 3 * spread_of(rewards))


def test_unscored_and_not_drawn_rewards_do_not_count() -> None:
    rewards = torch.tensor([[0.0, 1.0, 2.0, 0.5]], dtype=torch.float64)
    padded = torch.tensor([[0.0, math.nan, 1.0, 2.0, 0.5, math.nan]], dtype=torch.float64)
    for prior in (None, PRIOR):
        assert torch.equal(expected_gain(padded, draws=2, prior=prior), expected_gain(rewards, draws=2, prior=prior))


def test_what_is_not_known_is_worth_drawing() -> None:
    rewards = torch.tensor([[1.0, math.nan, math.nan], [1.0, 2.0, math.nan], [math.nan] * 3], dtype=torch.float64)
    assert torch.isinf(expected_gain(rewards, draws=1)).all()
    known = expected_gain(rewards, draws=1, prior=PRIOR)
    assert torch.isfinite(known[:2]).all()
    assert torch.isinf(known[2])


@pytest.mark.parametrize("seen", [0, 3, 40])
def test_a_level_prior_is_the_forecast_of_a_prompt_that_has_failed_so_far(seen: int) -> None:
    table = torch.full((13, 44), math.nan)
    table[:12, :20] = (torch.rand(12, 20, generator=torch.Generator().manual_seed(1)) < 0.1).float()
    prior = prior_of(table[:12])
    draws = 7
    if seen:
        table[12, :seen] = 0.0
        known = float(level_forecast(table, deploy_n=draws).per_prompt[12])
        found = float(expected_gain(table[12:], draws=draws, prior=prior))
        assert found == pytest.approx(known, rel=1e-3)
    table[12, 3] = 1.0
    assert float(expected_gain(table[12:], draws=draws, prior=prior)) == 0.0


def test_levels_above_the_best_add_up_by_their_steps() -> None:
    table = torch.tensor([0.0, 0.25, 1.0])[torch.randint(3, (10, 16), generator=torch.Generator().manual_seed(0))]
    prior = prior_of(table)
    by_level = [np.interp(np.log1p([5, 9]), np.log1p(prior.trials), row) for row in prior.none]
    reached = [1 - math.exp(after - before) for before, after in by_level]
    for best, known in ((0.0, 0.25 * reached[0] + 0.75 * reached[1]), (0.25, 0.75 * reached[1]), (1.0, 0.0)):
        rewards = torch.full((1, 5), best)
        assert float(expected_gain(rewards, draws=4, prior=prior)) == pytest.approx(known)


def test_few_values_without_a_prior() -> None:
    """A chance of exceeding the best that is uniform before: k / (n + k + 1), times the last step."""
    rewards = torch.tensor([[0.0, 0.5, 0.5, 0.0, 0.5, 0.5]], dtype=torch.float64)
    chance = integrate.quad(lambda p: 7 * (1 - p) ** 6 * (1 - (1 - p) ** 3), 0, 1)[0]
    assert float(expected_gain(rewards, draws=3)) == pytest.approx(0.5 * chance)
    assert float(expected_gain(rewards, draws=3, top=0.7)) == pytest.approx(0.2 * chance)
    assert float(expected_gain(rewards, draws=3, top=0.5)) == 0.0
    equal = torch.zeros(1, 6, dtype=torch.float64)
    assert float(expected_gain(equal, draws=3)) == 0.0
    assert float(expected_gain(equal, draws=3, top=1.0)) == pytest.approx(chance)
    assert float(expected_gain(equal, draws=3, prior=PRIOR)) == pytest.approx(PRIOR.spread * chance)


def test_what_is_refused() -> None:
    rewards = torch.zeros(1, 4)
    with pytest.raises(ValueError, match="draws"):
        expected_gain(rewards, draws=0)
    with pytest.raises(ValueError, match="unknown tail"):
        expected_gain(rewards, draws=1, tail="cauchy")
