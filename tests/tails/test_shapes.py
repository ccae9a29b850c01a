"""What every shape of a tail promises: its influence is the derivative of its forecast, checked against its formula."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import digamma

from tailgrad.estimators import tea
from tailgrad.tails import TAIL_SHAPES, extrapolation_coefficient, tail_forecast
from tailgrad.tails.shapes import EXPONENTIAL, GAUSSIAN

Array = NDArray[np.float64]


def harmonic(x: float) -> float:
    return float(digamma(x + 1)) + np.euler_gamma


def mean_and_std_of_top(rewards: Array, weights: Array, alpha: float) -> tuple[float, float]:
    """Mean and standard deviation of the upper k / m of the mass, an atom at its edge split."""
    share = math.ceil(alpha * len(rewards) - 1e-9) / len(rewards)
    order = np.argsort(-rewards, kind="stable")
    before = np.cumsum(weights[order]) - weights[order]
    mass = np.clip(share - before, 0, weights[order]) / share
    mean = (mass * rewards[order]).sum()
    return float(mean), math.sqrt((mass * (rewards[order] - mean) ** 2).sum())


def gaussian(rewards: Array, weights: Array, n: float, alpha: float) -> float:
    """mu + ctilde sigma."""
    mean, std = mean_and_std_of_top(rewards, weights, alpha)
    return mean + extrapolation_coefficient(n, alpha) * std


def exponential(rewards: Array, weights: Array, n: float, alpha: float) -> float:
    """r + s (H_N - H_m + H_{m p}): r held, p the mass above it and what of that at it is in the tail, but for 1 / m."""
    m, k = len(rewards), math.ceil(alpha * len(rewards) - 1e-9)
    threshold = np.sort(rewards)[-k]
    above = rewards > threshold
    p = weights[above].sum() + (k - 1 - above.sum()) / m
    s = (weights * (rewards - threshold))[above].sum() / p
    return float(threshold + s * (harmonic(n) - harmonic(m) + harmonic(m * p)))


FORECASTS: dict[str, Callable[[Array, Array, float, float], float]] = {
    "gaussian": gaussian,
    "exponential": exponential,
}
"""Each shape's forecast as a function of the weights of the rollouts, by its formula."""


def test_every_shape_has_its_formula_here() -> None:
    assert set(FORECASTS) == set(TAIL_SHAPES)


@pytest.mark.parametrize("name", TAIL_SHAPES)
@pytest.mark.parametrize(("m", "alpha"), [(8, 0.25), (16, 0.25), (20, 0.1), (12, 0.5), (6, 1.0), (30, 0.1)])
@pytest.mark.parametrize("deploy_n", [2.0, 64.0, 512.0])
@pytest.mark.parametrize("rewards_are", ["continuous", "tied", "partly unscored"])
@pytest.mark.filterwarnings("ignore:deploy_n = 2.0 is not larger")
def test_influence_is_the_weight_derivative_of_the_forecast(
    name: str, m: int, alpha: float, deploy_n: float, rewards_are: str
) -> None:
    scored = np.random.default_rng(m).normal(3.0, 2.0, size=m)
    if rewards_are == "tied":
        scored = np.round(scored / 2)
    missing = 3 if rewards_are == "partly unscored" else 0
    rewards = torch.from_numpy(np.insert(scored, [2] * missing, math.nan))[None]
    advantages = tea(rewards, deploy_n=deploy_n, tail_fraction=alpha, tail=name)[0]
    assert not advantages[rewards[0].isnan()].any()
    advantages = advantages[~rewards[0].isnan()] * m / rewards.shape[1]  # a group of m of M comes out times M / m
    uniform = np.full(m, 1 / m)
    forecast = FORECASTS[name](scored, uniform, deploy_n, alpha)
    found = tail_forecast(rewards, deploy_n=deploy_n, tail_fraction=alpha, tail=name)
    assert found.item() == pytest.approx(forecast, abs=1e-12)

    def slope(rollout: int, step: float) -> float:
        weights = uniform + step * (np.arange(m) == rollout)
        return (FORECASTS[name](scored, weights, deploy_n, alpha) - forecast) / step

    for rollout in range(m):
        if forecast == scored.max():  # no spread, where the standard deviation has no derivative
            assert advantages[rollout] == 0
            continue
        derivative = 2 * slope(rollout, 1e-6) - slope(rollout, 2e-6)  # the error of order step cancels
        assert advantages[rollout].item() == pytest.approx(derivative, abs=1e-5)


@pytest.mark.parametrize("alpha", [0.1, 0.25, 1.0])
def test_the_exponential_influence_is_the_gradient_of_v_n(alpha: float) -> None:
    """Rewards l + s E, E exponential: dV_N/dl = 1 and dV_N/ds = H_N, here from 200,000 evenly spaced quantiles."""
    m, deploy_n, step = 200_000, 128, 1e-3
    unit = -np.log1p(-(np.arange(m) + 0.5) / m)
    tail = EXPONENTIAL.fit(torch.from_numpy(unit)[None], tail_fraction=alpha)
    influence = EXPONENTIAL.influence(tail, EXPONENTIAL.coefficient(deploy_n, alpha), alpha)

    def mean(rewards: Array) -> float:
        excess = (torch.from_numpy(rewards)[None] - tail.threshold).clamp(min=0)
        return influence.of(excess).mean().item()

    by_location = (mean(unit + step) - mean(unit - step)) / (2 * step)
    by_scale = (mean(unit * (1 + step)) - mean(unit * (1 - step))) / (2 * step)
    # At alpha = 1 the threshold is where the rewards begin: a shift downwards then changes nothing above it.
    assert alpha == 1 or by_location == pytest.approx(1, abs=0.03)
    assert by_scale == pytest.approx(harmonic(deploy_n), rel=0.01)


def test_the_gaussian_influence_on_exponential_rewards_is_not() -> None:
    """What the right shape is worth: the direction (1, H_128 = 5.43) and what TEA makes of it."""
    unit = torch.from_numpy(-np.log1p(-(np.arange(100_000) + 0.5) / 100_000))[None]
    found = {}
    for name, shape in TAIL_SHAPES.items():
        tail = shape.fit(unit, tail_fraction=0.25)
        influence = shape.influence(tail, shape.coefficient(128, 0.25), 0.25)
        found[name] = (influence.of((unit - tail.threshold).clamp(min=0)) * (unit - 1)).mean().item()
    assert found["exponential"] == pytest.approx(harmonic(128), rel=0.01)
    assert found["gaussian"] < harmonic(128) - 0.3


def test_what_the_right_shape_takes_out_of_the_bias() -> None:
    """Groups of 64 exponential rewards, score E - 1 of the scale: the table of docs/estimators.md, with its error."""
    generator = torch.Generator().manual_seed(0)
    rewards = torch.empty(10_000, 64, dtype=torch.float64).exponential_(generator=generator)
    for name, expected in (("exponential", 5.20), ("gaussian", 3.96)):
        gradients = (tea(rewards, deploy_n=128, tail=name) * (rewards - 1)).mean(dim=1)
        error = gradients.std().item() / 100
        assert gradients.mean().item() == pytest.approx(expected, abs=4 * error)
        assert error < 0.04


def test_exponential_by_hand() -> None:
    """Top two of 8: 3 and 5. p = 1/8, s = 2, H_128 - H_8 + H_1; trigamma(2) = pi^2/6 - 1. The other gets 0."""
    rewards = torch.tensor([[0.0, 5.0, 1.0, 3.0, -1.0, 2.0, 2.5, 0.5]], dtype=torch.float64)
    advantages = tea(rewards, deploy_n=128, tail="exponential")[0]
    assert advantages[1].item() == pytest.approx(2 * 8 * (math.pi**2 / 6 - 1))
    assert (advantages != 0).sum() == 1


def test_only_the_gaussian_tail_takes_ratios() -> None:
    rewards = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    ratios = torch.ones(2, 16)
    torch.testing.assert_close(tea(rewards, ratios, deploy_n=128), tea(rewards, deploy_n=128))
    with pytest.raises(ValueError, match=r"no form for ratios of an older policy: .*tail = \"gaussian\""):
        tea(rewards, ratios, deploy_n=128, tail="exponential")


def test_weights_of_one_over_n_are_none() -> None:
    rewards = torch.randn(3, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights = torch.full_like(rewards, 1 / 12)
    plain, weighted = (GAUSSIAN.fit(rewards, tail_fraction=0.25, weights=given) for given in (None, weights))
    for one, other in zip(plain, weighted, strict=True):
        torch.testing.assert_close(one, other)


def test_one_budget_for_each_prompt() -> None:
    rewards = torch.randn(2, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for name in TAIL_SHAPES:
        both = tea(rewards, deploy_n=torch.tensor([64, 512]), tail=name)
        each = [tea(group[None], deploy_n=n, tail=name) for group, n in zip(rewards, (64, 512), strict=True)]
        torch.testing.assert_close(both, torch.cat(each))
