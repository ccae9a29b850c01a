import math

import pytest
import torch

from tailgrad.estimators import tea
from tailgrad.estimators.tea import smallest_tail_group
from tailgrad.tails import expected_max_normal, extrapolation_coefficient, gaussian_tail
from tailgrad.tails.shapes import GAUSSIAN, FittedTail
from tailgrad.tails.statistics import tail_size


def test_by_hand() -> None:
    """Top four of 0..7 and 11 (sorted 5, 6, 7, 11): r = 5, mu = 7.25, sigma^2 = 83/16; alpha = 4/9."""
    rewards = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 7, 11]])
    slope = extrapolation_coefficient(128, 4 / 9) / (2 * math.sqrt(83 / 16))
    tail = [9 / 4 * ((u - 5) + slope * ((u - 7.25) ** 2 - (5 - 7.25) ** 2)) for u in (5, 6, 7, 11)]
    advantages = tea(rewards, deploy_n=128, tail_fraction=4 / 9)
    torch.testing.assert_close(advantages, torch.tensor([[0.0] * 5 + tail]))
    assert tail[0] == 0
    assert tail[1] < 0 < tail[3]


def population_influence(u: torch.Tensor, deploy_n: float, alpha: float) -> torch.Tensor:
    """TEA's influence with the true tail of N(0, 1) in the place of the estimated one."""
    threshold, mean, std = (torch.tensor(x, dtype=torch.float64) for x in gaussian_tail(alpha))
    coefficient = extrapolation_coefficient(deploy_n, alpha)
    tail = FittedTail(threshold, mean - threshold, std, torch.tensor(0), torch.tensor(0))
    return GAUSSIAN.influence(tail, coefficient, alpha).of((u - threshold).clamp(min=0))


def test_with_population_constants_the_gradient_of_v_n_is_exact() -> None:
    """R ~ N(0, 1), scores R (for mu) and R^2 - 1 (for log sigma): dV/dmu = 1, dV/dlog sigma = c_N."""
    u = torch.linspace(-12, 12, 240_001, dtype=torch.float64)
    density = torch.exp(-0.5 * u**2) / math.sqrt(2 * math.pi) * (u[1] - u[0])
    for alpha in (0.1, 0.25, 0.5):
        for deploy_n in (64, 128, 512):
            influence = population_influence(u, deploy_n, alpha)
            assert (density * influence * u).sum().item() == pytest.approx(1, abs=1e-6)
            by_log_sigma = (density * influence * (u**2 - 1)).sum().item()
            assert by_log_sigma == pytest.approx(expected_max_normal(deploy_n), abs=1e-6)


def test_ties_at_the_threshold_get_exactly_zero() -> None:
    rewards = torch.tensor([[0.3, 0.3, 0.3, 0.3, 0.3, 0.7, 0.9, 0.1]])
    advantages = tea(rewards, deploy_n=128, tail_fraction=0.5)
    assert bool((advantages[rewards == 0.3] == 0).all())
    assert bool((advantages[0, 5:7] != 0).all())


def test_equal_top_rewards_give_no_signal_whatever_lies_below() -> None:
    rewards = torch.tensor([[0.1, 0.2, 0.7, 0.7, 0.7, 0.7, -5.0, 0.3]])
    assert bool((tea(rewards, deploy_n=128, tail_fraction=0.5) == 0).all())


def test_advantages_are_bounded_however_small_sigma_is() -> None:
    """(u - mu)^2 <= (k - 1) sigma^2, so |A| <= sigma / alpha (2 sqrt(k-1) + |ctilde| (k - 1) / 2)."""
    k, alpha = 4, 0.25
    for spread in (1e-30, 1e-8, 1.0, 1e8):
        rewards = torch.zeros(1, 16, dtype=torch.float64)
        rewards[0, :4] = torch.tensor([1.0, 1.0, 1.0, 1.0], dtype=torch.float64) * 2.0
        rewards[0, 0] += spread
        sigma = rewards[0, :4].std(correction=0).item()
        bound = sigma / alpha * (2 * math.sqrt(k - 1) + extrapolation_coefficient(128, alpha) * (k - 1) / 2)
        assert tea(rewards, deploy_n=128).abs().max().item() <= bound * (1 + 1e-12)


def test_not_monotone_above_n_13() -> None:
    """Just above the threshold a wider tail is paid for with a negative weight, from N ~ 13 on."""
    u = torch.linspace(0.6745, 4.0, 2000, dtype=torch.float64)
    smallest = {n: population_influence(u, n, 0.25).min().item() for n in (8, 12, 13, 15, 128)}
    assert smallest[12] >= 0
    assert smallest[8] >= 0
    assert smallest[15] < 0
    assert smallest[128] < -0.4


def test_center_subtracts_the_mean_over_the_scored() -> None:
    rewards = torch.randn(4, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    plain, centred = tea(rewards, deploy_n=128), tea(rewards, deploy_n=128, center=True)
    torch.testing.assert_close(centred, plain - plain.mean(dim=1, keepdim=True))
    rewards[:, 3] = math.nan
    centred = tea(rewards, deploy_n=128, center=True)
    assert bool((centred[:, 3] == 0).all())
    torch.testing.assert_close(centred.sum(dim=1), torch.zeros(4, dtype=torch.float64))


def test_one_budget_a_prompt() -> None:
    rewards = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    budgets = torch.tensor([64, 128, 512])
    expected = torch.cat([tea(group[None], deploy_n=n) for group, n in zip(rewards, [64, 128, 512], strict=True)])
    torch.testing.assert_close(tea(rewards, deploy_n=budgets), expected)
    torch.testing.assert_close(tea(rewards, deploy_n=budgets, validate=False), expected)
    torch.testing.assert_close(tea(rewards, deploy_n=torch.tensor(64)), tea(rewards, deploy_n=64))


@pytest.mark.usefixtures("without_shape_checks")
def test_budgets_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"deploy_n must be one number or have shape \[P\] = \[3\], got \[2\]"):
        tea(torch.zeros(3, 16), deploy_n=torch.tensor([64, 128]))


@pytest.mark.parametrize("deploy_n", [0.5, 0, -1, 2e9])
def test_budget_out_of_range(deploy_n: float) -> None:
    with pytest.raises(ValueError, match=f"deploy_n = {deploy_n} must lie between 1 and 1e9"):
        tea(torch.zeros(3, 16), deploy_n=deploy_n)


@pytest.mark.parametrize("deploy_n", [16, 5, torch.tensor([128, 16])])
def test_a_budget_within_the_group_warns(deploy_n: int | torch.Tensor) -> None:
    rewards = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="not larger than the 16 rollouts of a group.*max_at_k"):
        advantages = tea(rewards, deploy_n=deploy_n)
    assert torch.equal(advantages, tea(rewards, deploy_n=deploy_n, validate=False))
    tea(rewards, deploy_n=17)


@pytest.mark.parametrize(("m", "alpha"), [(4, 0.25), (16, 0.05), (2, 0.5)])
def test_too_few_in_the_tail(m: int, alpha: float) -> None:
    message = rf"tail_fraction = {alpha} of m = {m} .*tail_fraction = 2/{m} = {2 / m:.4g}"
    for validate in (True, False):
        with pytest.raises(ValueError, match=message):
            tea(torch.zeros(3, m), deploy_n=128, tail_fraction=alpha, validate=validate)
    tea(torch.zeros(3, m), deploy_n=128, tail_fraction=2 / m)


@pytest.mark.parametrize("alpha", [1.0, 0.9, 0.5, 1 / 3, 0.3, 0.25, 0.1, 0.07])
def test_smallest_group_leaves_two_in_the_tail(alpha: float) -> None:
    smallest = smallest_tail_group(tail_fraction=alpha)
    assert tail_size(smallest, alpha) == 2
    assert tail_size(smallest - 1, alpha) == 1


def test_options_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"tail_fraction = 1\.5 must lie in"):
        tea(torch.zeros(3, 16), deploy_n=128, tail_fraction=1.5)
    with pytest.raises(ValueError, match="unknown tail 'pareto': choose one of gaussian, exponential"):
        tea(torch.zeros(3, 16), deploy_n=128, tail="pareto")
