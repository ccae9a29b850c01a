"""What docs/flat_tea.md says of the flat influence: its closed forms, what it is the gradient of, and its forecast."""

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from scipy.stats import norm
from torch import Tensor

from tailgrad.estimators import flat_tea, tea
from tailgrad.tails import expected_max_normal, extrapolation_coefficient, gaussian_tail

ROOT = Path(__file__).resolve().parents[2]
CASES = [(1.0, 4), (1.0, 128), (0.5, 128), (0.25, 8), (0.25, 128)]


def load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"script_{Path(path).stem}", ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def theory() -> ModuleType:
    return load("docs/gallery/flat_tea.py")


def minorant(alpha: float, k: float):  # -> a function of the reward
    """Largest minorant of TEA's parabola for N(0, 1) that never falls: its least value from here upwards."""
    tail, c = gaussian_tail(alpha), extrapolation_coefficient(k, alpha)

    def parabola(u: float) -> float:
        return ((u - tail.mean) + c / (2 * tail.std) * (u - tail.mean) ** 2) / alpha

    turn = minimize_scalar(parabola).x
    return lambda u: parabola(max(u, turn)), turn


def normal_mean(function, mu: float = 0.0, sigma: float = 1.0, *, kink: float) -> float:
    parts = [quad(lambda u: function(u) * norm.pdf(u, mu, sigma), a, b)[0] for a, b in ((-12, kink), (kink, 12))]
    return sum(parts)


@pytest.mark.parametrize(("alpha", "k"), CASES)
def test_closed_forms_by_quadrature(theory: ModuleType, alpha: float, k: int) -> None:
    influence, turn = minorant(alpha, k)
    mean = normal_mean(influence, kink=turn)
    found = theory.closed_form(alpha, k)
    assert theory.vertex(alpha, k) == pytest.approx(turn, abs=1e-6)
    assert found.mean == pytest.approx(normal_mean(lambda u: influence(u) * u, kink=turn), abs=1e-7)
    assert found.log_sd == pytest.approx(normal_mean(lambda u: influence(u) * (u * u - 1), kink=turn), abs=1e-7)
    assert found.noise**2 == pytest.approx(normal_mean(lambda u: (influence(u) - mean) ** 2, kink=turn), abs=1e-6)


def test_closed_forms_of_the_whole_group(theory: ModuleType) -> None:
    """Phi(t) + c phi(t) along the mean and c Phi(t) along log sigma, t = 1 / c."""
    c = expected_max_normal(128)
    found = theory.closed_form(1.0, 128)
    assert (found.mean, found.log_sd) == pytest.approx((norm.cdf(1 / c) + c * norm.pdf(1 / c), c * norm.cdf(1 / c)))


@pytest.mark.parametrize(("alpha", "k"), CASES)
def test_it_is_the_gradient_of_a_squared_excess_over_a_fixed_bar(theory: ModuleType, alpha: float, k: int) -> None:
    """Of E[b (R - v)_+^2] at N(0, 1), v and b held: central differences in the mean and in log sigma."""
    tail, c = gaussian_tail(alpha), extrapolation_coefficient(k, alpha)
    bar, size = tail.mean - tail.std / c, c / (2 * alpha * tail.std)

    def value(mu: float, log_sigma: float) -> float:
        return normal_mean(lambda u: size * max(u - bar, 0) ** 2, mu, math.exp(log_sigma), kink=bar)

    step = 1e-4
    along_mean = (value(step, 0) - value(-step, 0)) / (2 * step)
    along_log_sd = (value(0, step) - value(0, -step)) / (2 * step)
    found = theory.closed_form(alpha, k)
    assert (found.mean, found.log_sd) == pytest.approx((along_mean, along_log_sd), abs=1e-5)


@pytest.mark.parametrize(("alpha", "k"), [(1.0, 16), (0.5, 128), (0.25, 128)])
def test_advantages_are_the_squared_excess_over_the_groups_own_bar(alpha: float, k: int) -> None:
    rewards = torch.randn(20, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    top = rewards.topk(int(16 * alpha)).values
    mean, sd = top.mean(1, keepdim=True), top.std(1, correction=0, keepdim=True)
    c = extrapolation_coefficient(k, alpha)
    squares = c / (2 * alpha * sd) * (rewards - mean + sd / c).clamp(min=0) ** 2
    advantages = flat_tea(rewards, deploy_n=128, tail_fraction=alpha, extrapolate_n=k)
    torch.testing.assert_close(advantages, squares - squares.mean(1, keepdim=True), rtol=0, atol=1e-10)


def test_a_large_group_has_the_closed_form(theory: ModuleType) -> None:
    """One group at 200,000 quantiles: what the grid leaves out beyond the last one is below .02."""
    rewards = torch.special.ndtri((torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000)[None]
    for alpha, k in ((1.0, 128), (0.75, 8), (0.25, 128)):
        a = flat_tea(rewards, deploy_n=128, tail_fraction=alpha, extrapolate_n=k, validate=False)
        found = [(a * rewards).mean(), (a * (rewards**2 - 1)).mean(), a.square().mean().sqrt()]
        assert [x.item() for x in found] == pytest.approx(list(theory.closed_form(alpha, k)), abs=0.02)


@pytest.mark.parametrize("k", [2, 8, 100])
def test_what_a_gradient_follows(theory: ModuleType, k: int) -> None:
    assert theory.followed(theory.Gradient(2.0, 2 * expected_max_normal(k), 1.0)) == pytest.approx(k)


def test_no_order_follows_the_best_of_six_with_the_whole_group(theory: ModuleType) -> None:
    """The ratio of the two gradients stays below that at a vertex at the mean, sqrt(pi / 2), between c_5 and c_6."""
    ratios = [found.log_sd / found.mean for found in (theory.closed_form(1.0, k) for k in (2, 8, 128, 1e9))]
    assert ratios == sorted(ratios)
    assert expected_max_normal(4) < ratios[2] < ratios[-1] < math.sqrt(math.pi / 2) < expected_max_normal(6)


def test_the_worst_rollout_is_never_pushed_for_being_far_away(theory: ModuleType) -> None:
    """TEA of the whole group does it, flat TEA does not; standard errors below .01."""
    worst = {name: theory.of_the_worst(name, 16) for name in ("flat_tea", "tea:tail_fraction=1,center=true")}
    assert worst["flat_tea"] < -0.5
    assert worst["tea:tail_fraction=1,center=true"] > 0.5
    rewards = torch.tensor([[-4.0, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 1.0]])
    steep = tea(rewards, deploy_n=128, tail_fraction=1.0, center=True)[0]
    flat = flat_tea(rewards, deploy_n=128)[0]
    assert steep.argmax() == 0
    assert bool((flat >= flat[0]).all())


def clipped(group: Tensor, c: float) -> tuple[float, float, float]:
    """Bar, mean and standard deviation of the group clipped at its own vertex, by bisection on the bar."""

    def gap(bar: float) -> float:
        values = group.clamp(min=bar)
        return bar - (values.mean() - values.std(correction=0) / c).item()

    low, high = float(group.min()) - 10 * float(group.std()), float(group.max()) - 1e-9
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if gap(middle) < 0 else (low, middle)
    values = group.clamp(min=low)
    return low, values.mean().item(), values.std(correction=0).item()


@pytest.mark.parametrize("k", [4, 16, 128])
def test_its_forecast_is_the_best_mean_within_a_chi_square_distance(k: int) -> None:
    """Weights (r - v)_+ / (mean of it) are feasible and reach mean + c sd of the clipped group, which bounds all."""
    c = expected_max_normal(k)
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        group = torch.randn(16, dtype=torch.float64, generator=generator)
        bar, mean, sd = clipped(group, c)
        weights = (group - bar).clamp(min=0)
        weights = weights / weights.mean()
        assert ((weights - 1) ** 2).mean().item() == pytest.approx(c * c, rel=1e-6)
        reached = (weights * group).mean().item()
        assert reached == pytest.approx(mean + c * sd, abs=1e-9)
        assert reached <= (group.mean() + c * group.std(correction=0)).item() + 1e-9
        others = torch.rand(500, 16, dtype=torch.float64, generator=generator) ** 8
        shift = others / others.mean(1, keepdim=True) - 1
        allowed = 1 + shift * (c / shift.square().mean(1, keepdim=True).sqrt()).clamp(max=1)
        assert float((allowed * group).mean(1).max()) <= reached + 1e-9
