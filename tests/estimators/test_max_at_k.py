from itertools import combinations
from math import comb

import numpy as np
import pytest
import torch

from tailgrad.estimators import max_at_k, rloo
from tailgrad.tails import max_at_k_forecast

BASELINES = ("subset", "loo", "none")


def rho(rewards: list[float], k: int) -> float:
    """Mean of the maximum over all k-subsets."""
    return float(np.mean([max(subset) for subset in combinations(rewards, k)]))


def by_enumeration(rewards: list[float], k: int, baseline: str) -> list[float]:
    """The definitions, subset by subset, times m for the mean scale."""
    m = len(rewards)
    result = []
    for i in range(m):
        with_i = [subset for subset in combinations(range(m), k) if i in subset]
        s = sum(max(rewards[j] for j in subset) for subset in with_i) / comb(m, k)
        without_i = rewards[:i] + rewards[i + 1 :]
        if baseline == "subset" and k > 1:
            less = [max(rewards[j] for j in subset if j != i) for subset in with_i]
            assert s - sum(less) / comb(m, k) == pytest.approx(s - k / m * rho(without_i, k - 1), abs=1e-12)
            s -= sum(less) / comb(m, k)
        elif baseline != "none":
            s -= k / m * rho(without_i, k)
        result.append(m * s)
    return result


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("m", range(2, 9))
def test_against_enumeration(m: int, baseline: str) -> None:
    rng = np.random.default_rng(m)
    rewards = np.stack([rng.normal(5, 1, m), rng.integers(0, 3, m), rng.integers(0, 2, m)])
    needs_one_more = baseline == "loo"
    for k in range(1, m + 1 - needs_one_more):
        expected = torch.tensor([by_enumeration(list(group), k, baseline) for group in rewards])
        actual = max_at_k(torch.from_numpy(rewards), k=k, baseline=baseline)
        torch.testing.assert_close(actual, expected.double(), rtol=1e-11, atol=1e-11)


def test_subset_is_never_negative_even_in_large_groups() -> None:
    rewards = torch.randn(20, 256, generator=torch.Generator().manual_seed(0))
    for k in (2, 3, 16, 128, 255, 256):
        advantages = max_at_k(rewards, k=k)
        assert advantages.min() >= 0
        assert bool((advantages.argmax(dim=1) == rewards.argmax(dim=1)).all())


def test_the_mean_of_the_largest_weights_is_exact_in_large_groups() -> None:
    """Rewards 1 for one rollout and 0 for the others: its advantage is m k / m = k, whatever m."""
    rewards = torch.zeros(1, 512, dtype=torch.float64)
    rewards[0, 100] = 1
    for k in (2, 64, 511, 512):
        advantages = max_at_k(rewards, k=k)
        assert advantages[0, 100].item() == pytest.approx(k, rel=1e-11)
        assert advantages.sum() == advantages[0, 100]


def test_all_of_the_group_is_the_largest_minus_the_second() -> None:
    rewards = torch.tensor([[1.0, 4.0, 2.5, 2.5], [1.0, 4.0, 4.0, 0.0]])
    assert max_at_k(rewards, k=4).tolist() == [[0, 4 * 1.5, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("baseline", ["subset", "loo"])
def test_one_is_rloo(baseline: str) -> None:
    rewards = torch.randn(5, 16, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(max_at_k(rewards, k=1, baseline=baseline), rloo(rewards))


def test_a_group_with_fewer_scored_rollouts_than_k_has_no_signal() -> None:
    """The other group by hand: 3 adds 1, 1 and 2 to {3,2,1}, {3,2,0} and {3,1,0}; 2 adds 1 to {2,1,0}."""
    rewards = torch.tensor([[3.0, torch.nan, 1.0, torch.nan], [3.0, 2.0, 1.0, 0.0]])
    assert max_at_k(rewards, k=3).tolist() == [[0, 0, 0, 0], [4.0, 1.0, 0, 0]]
    assert not max_at_k(rewards[:1], k=2, baseline="loo").any(), "two scored rollouts, and `loo` needs three"
    assert not max_at_k(rewards[:1], k=3, baseline="none").any()
    assert max_at_k(rewards[:1], k=1, baseline="loo").tolist() == [[4.0, 0, -4.0, 0]]


def test_loo_is_the_influence_of_deletion_on_the_u_statistic() -> None:
    """A_i = m (rho_k(r) - rho_k(r without i)): the forecast of V_k with the rollout less that without it."""
    rewards = torch.randn(3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for k in range(1, 7):
        whole = max_at_k_forecast(rewards, deploy_n=k)
        for i in range(7):
            without = max_at_k_forecast(torch.cat([rewards[:, :i], rewards[:, i + 1 :]], dim=1), deploy_n=k)
            torch.testing.assert_close(max_at_k(rewards, k=k, baseline="loo")[:, i], 7 * (whole - without))


@pytest.mark.parametrize(
    ("k", "baseline", "message"),
    [
        (5, "subset", "k = 5 with baseline = 'subset' needs at least 5 rollouts a group, got 4"),
        (4, "loo", "k = 4 with baseline = 'loo' needs at least 5 rollouts a group, got 4"),
        (5, "none", "needs at least 5"),
        (0, "subset", "k = 0 must be at least 1"),
    ],
)
def test_k_out_of_range(k: int, baseline: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        max_at_k(torch.zeros(2, 4), k=k, baseline=baseline)


@pytest.mark.usefixtures("without_shape_checks")
def test_wrong_options() -> None:
    with pytest.raises(TypeError, match=r"k must be an int, got 2\.0"):
        max_at_k(torch.zeros(2, 4), k=2.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown baseline 'mean': choose one of subset, loo, none"):
        max_at_k(torch.zeros(2, 4), k=2, baseline="mean")  # type: ignore[arg-type]
