"""Flat TEA against the closed form at alpha = 1, TEA's own parabola, and simulated and exact Gaussian gradients."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from tailgrad.estimators import bind, dr_grpo, flat_tea, tea
from tailgrad.tails import expected_max_normal, extrapolation_coefficient

N = 128
C_N = expected_max_normal(N)


def gaussian(prompts: int, rollouts: int, seed: int = 0) -> Tensor:
    return torch.randn(prompts, rollouts, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("deploy_n", [2, 16, 128])
def test_closed_form_of_the_whole_group(deploy_n: int) -> None:
    """A = sd (z' + c/2 z'^2) less its mean, z' = max(z, -1/c)."""
    for group in gaussian(5, 12, seed=1):
        sd, c = group.std(correction=0), expected_max_normal(deploy_n)
        z = torch.tensor([max(float(r - group.mean()) / float(sd), -1 / c) for r in group], dtype=torch.float64)
        influence = sd * (z + c / 2 * z**2)
        advantages = flat_tea(group[None], deploy_n=deploy_n, validate=False)[0]
        torch.testing.assert_close(advantages, influence - influence.mean(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("tail_fraction", [0.25, 0.5, 1.0])
def test_the_largest_minorant_of_the_parabola_that_never_falls(tail_fraction: float) -> None:
    """Such a minorant is inf over s >= u of the parabola; here on a fine grid, with TEA's section-3 polynomial."""
    for group in gaussian(4, 16, seed=2):
        top = group.sort(descending=True).values[: int(16 * tail_fraction)]
        mu, sigma, threshold = top.mean(), top.std(correction=0), top[-1]
        c = extrapolation_coefficient(N, tail_fraction)
        step = 5e-5

        def parabola(u: Tensor, *, mu=mu, sigma=sigma, threshold=threshold, c=c) -> Tensor:
            squares = (u - mu) ** 2 - (threshold - mu) ** 2
            return ((u - threshold) + c / (2 * sigma) * squares) / tail_fraction

        minorant = torch.stack([parabola(torch.arange(float(r), 4.0, step, dtype=torch.float64)).min() for r in group])
        advantages = flat_tea(group[None], deploy_n=N, tail_fraction=tail_fraction)[0]
        torch.testing.assert_close(advantages, minorant - minorant.mean(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("tail_fraction", [0.25, 0.5, 1.0])
def test_above_the_vertex_it_differs_from_tea_by_a_constant(tail_fraction: float) -> None:
    rewards = gaussian(50, 16, seed=3)
    flat, steep = (bind(name, deploy_n=N, tail_fraction=tail_fraction)(rewards) for name in ("flat_tea", "tea"))
    size = int(16 * tail_fraction)
    top = rewards.topk(size).values
    vertex = top.mean(1) - top.std(1, correction=0) / extrapolation_coefficient(N, tail_fraction)
    above = (rewards >= torch.maximum(vertex, top[:, -1])[:, None]).double()
    gap = (flat - steep) * above
    constant = gap.sum(1) / above.sum(1)
    torch.testing.assert_close(gap, constant[:, None] * above, rtol=0, atol=1e-12)
    assert int(above.sum()) > 100


@pytest.mark.parametrize(
    ("options", "prompts"), [({}, 300), ({"tail_fraction": 0.25}, 300), ({"extrapolate_n": 4}, 300)]
)
def test_never_falls_with_the_reward_and_sums_to_zero(options: dict[str, float], prompts: int) -> None:
    rewards = gaussian(prompts, 16, seed=4) ** 3
    rewards[5, 3] = math.nan
    advantages = flat_tea(rewards, deploy_n=N, **options)
    for group, values in zip(rewards, advantages, strict=True):
        scored = ~torch.isnan(group)
        ordered = values[scored][group[scored].argsort()]
        assert all(float(b) >= float(a) - 1e-12 for a, b in pairwise(ordered))
    torch.testing.assert_close(advantages.sum(1), torch.zeros(prompts, dtype=torch.float64), rtol=0, atol=1e-9)


def test_k_of_one_is_the_mean() -> None:
    rewards = gaussian(20, 9, seed=5)
    torch.testing.assert_close(flat_tea(rewards, deploy_n=N, extrapolate_n=1), dr_grpo(rewards), rtol=0, atol=1e-12)


def test_extrapolate_n_takes_the_place_of_n() -> None:
    rewards = gaussian(20, 9, seed=6)
    assert torch.equal(flat_tea(rewards, deploy_n=N, extrapolate_n=32), flat_tea(rewards, deploy_n=32))
    budgets = torch.full((20,), 128)
    assert torch.equal(flat_tea(rewards, deploy_n=budgets, extrapolate_n=32), flat_tea(rewards, deploy_n=32))


def test_one_budget_a_prompt() -> None:
    rewards = gaussian(3, 16, seed=7)
    budgets = torch.tensor([32, 128, 1024])
    each = [flat_tea(group[None], deploy_n=int(n)) for group, n in zip(rewards, budgets, strict=True)]
    torch.testing.assert_close(flat_tea(rewards, deploy_n=budgets), torch.cat(each), rtol=0, atol=1e-12)


def population_gradient(k: float) -> tuple[float, float]:
    """Phi(t) + c phi(t) and c Phi(t), t = 1/c: E[A s] by Stein's lemma, of A'(z) = 1 + c z above -t."""
    c = expected_max_normal(k)
    density, below = math.exp(-0.5 / c**2) / math.sqrt(2 * math.pi), 0.5 * (1 + math.erf(1 / c / math.sqrt(2)))
    return below + c * density, c * below


@pytest.mark.parametrize("k", [2, 16, 128])
def test_gradient_of_a_gaussian_policy_with_many_rollouts(k: int) -> None:
    """Against the sum over an exact grid of Gaussian quantiles, which is a group of 200,000."""
    ranks = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    rewards = torch.special.ndtri(ranks)[None]
    advantages = flat_tea(rewards, deploy_n=N, extrapolate_n=k, validate=False)
    found = [(advantages * score).mean().item() for score in (rewards, rewards**2 - 1)]
    assert found == pytest.approx(population_gradient(k), abs=2e-3)


def test_gradient_and_noise_in_groups_of_sixteen() -> None:
    """Gaussian rewards, N = 128: gradients 1.464 and 1.344, noise .470; standard errors below .004, .006 and .002."""
    rewards = gaussian(200_000, 16, seed=8)
    advantages = flat_tea(rewards, deploy_n=N)
    mu, log_sigma = ((advantages * score).mean().item() for score in (rewards, rewards**2 - 1))
    noise = advantages.square().sum(1).mean().sqrt().item() / 16
    assert (mu, log_sigma, noise) == pytest.approx((1.464, 1.344, 0.470), abs=0.012)


def test_k_beyond_n_is_refused() -> None:
    rewards = gaussian(2, 16)
    with pytest.raises(ValueError, match=r"extrapolate_n = 256 must lie between 1 and deploy_n = 128"):
        flat_tea(rewards, deploy_n=N, extrapolate_n=256)
    with pytest.raises(ValueError, match=r"extrapolate_n = 64 must lie between 1 and deploy_n = 32"):
        flat_tea(rewards, deploy_n=torch.tensor([32, 128]), extrapolate_n=64)
    with pytest.raises(TypeError, match=r"extrapolate_n must be a number or a tensor, got True"):
        flat_tea(rewards, deploy_n=N, extrapolate_n=True)


def test_extrapolating_downwards_is_refused() -> None:
    """The mean of the upper quarter is 1.27 standard deviations up, the best of 4 only 1.03."""
    with pytest.raises(ValueError, match=r"K = 4 lies below the mean of the upper 0\.25.*take a larger K"):
        flat_tea(gaussian(2, 16), deploy_n=N, tail_fraction=0.25, extrapolate_n=4)


def test_warns_where_nothing_is_extrapolated() -> None:
    with pytest.warns(UserWarning, match="deploy_n = 8 is not larger than the 16 rollouts"):
        flat_tea(gaussian(2, 16), deploy_n=8)


def test_equal_top_rewards_give_no_signal_whatever_lies_below() -> None:
    rewards = torch.tensor([[0.1, 0.2, 0.7, 0.7, 0.7, 0.7, -5.0, 0.3]])
    assert bool((flat_tea(rewards, deploy_n=N, tail_fraction=0.5) == 0).all())
    assert bool((tea(rewards, deploy_n=N, tail_fraction=0.5) == 0).all())
