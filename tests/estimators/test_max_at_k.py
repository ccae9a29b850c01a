from itertools import combinations
from math import comb, sqrt

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
        advantages = max_at_k(rewards, k=k, baseline="subset")
        assert advantages.min() >= 0
        assert bool((advantages.argmax(dim=1) == rewards.argmax(dim=1)).all())


def test_the_mean_of_the_largest_weights_is_exact_in_large_groups() -> None:
    """Rewards 1 for one rollout and 0 for the others: its advantage is m k / m = k, whatever m."""
    rewards = torch.zeros(1, 512, dtype=torch.float64)
    rewards[0, 100] = 1
    for k in (2, 64, 511, 512):
        advantages = max_at_k(rewards, k=k, baseline="subset")
        assert advantages[0, 100].item() == pytest.approx(k, rel=1e-11)
        assert advantages.sum() == advantages[0, 100]
        if k < 512:  # the others: k ((k - 1) / (m - 1) - k / (m - 1))
            centred = torch.full((1, 512), -k / 511, dtype=torch.float64).index_fill(1, torch.tensor([100]), k)
            torch.testing.assert_close(max_at_k(rewards, k=k, baseline="loo"), centred, rtol=1e-9, atol=0)


def test_all_of_the_group_is_the_largest_minus_the_second() -> None:
    rewards = torch.tensor([[1.0, 4.0, 2.5, 2.5], [1.0, 4.0, 4.0, 0.0]])
    assert max_at_k(rewards, k=4).tolist() == [[0, 4 * 1.5, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("baseline", [None, "subset", "loo"])
def test_one_is_rloo(baseline: str | None) -> None:
    rewards = torch.randn(5, 16, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(max_at_k(rewards, k=1, baseline=baseline), rloo(rewards))


def test_a_group_with_fewer_scored_rollouts_than_k_has_no_signal() -> None:
    """The other group by hand: 3 adds 1, 1 and 2 to {3,2,1}, {3,2,0} and {3,1,0}; 2 adds 1 to {2,1,0}."""
    rewards = torch.tensor([[3.0, torch.nan, 1.0, torch.nan], [3.0, 2.0, 1.0, 0.0]])
    assert max_at_k(rewards, k=3, baseline="subset").tolist() == [[0, 0, 0, 0], [4.0, 1.0, 0, 0]]
    assert not max_at_k(rewards[:1], k=2, baseline="loo").any(), "two scored rollouts, and `loo` needs three"
    assert not max_at_k(rewards[:1], k=3, baseline="none").any()
    assert max_at_k(rewards[:1], k=1, baseline="loo").tolist() == [[4.0, 0, -4.0, 0]]


def test_the_default_is_loo_and_in_groups_of_k_scored_rollouts_subset() -> None:
    rewards = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rewards[1, [0, 4]] = torch.nan
    rewards[2, :3] = torch.nan
    for k, alone in ((4, max_at_k(rewards[1:2, [1, 2, 3, 5]], k=4, baseline="subset")), (1, None), (6, None)):
        expected = max_at_k(rewards, k=k, baseline="subset" if k == 6 else "loo")
        if alone is not None:
            expected[1, [1, 2, 3, 5]] = alone[0] * 6 / 4
        torch.testing.assert_close(max_at_k(rewards, k=k), expected, rtol=1e-13, atol=0)
    assert not max_at_k(rewards, k=4)[2].any()


def test_few_scored_rollouts_in_a_large_table_do_not_overflow() -> None:
    """C(1199, 512) / C(512, 512) is beyond float64."""
    rewards = torch.randn(1, 1200, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rewards[:, 513:] = torch.nan
    for baseline in BASELINES:
        alone = max_at_k(rewards[:, :513], k=512, baseline=baseline) * 1200 / 513
        torch.testing.assert_close(max_at_k(rewards, k=512, baseline=baseline)[:, :513], alone)


def noise(rewards: torch.Tensor, k: int, baseline: str) -> torch.Tensor:
    """Variance of each group's gradient along a direction that has nothing to do with the rewards."""
    return (max_at_k(rewards, k=k, baseline=baseline) ** 2).sum(dim=1) / rewards.shape[1] ** 2


def test_loo_has_less_noise_than_subset_on_gaussian_rewards() -> None:
    rewards = torch.randn(20_000, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    less = [1 - sqrt(noise(rewards, k, "loo").mean() / noise(rewards, k, "subset").mean()) for k in range(2, 16)]
    assert less == sorted(less, reverse=True)
    assert [less[0], less[2], less[6]] == pytest.approx([0.293, 0.111, 0.033], abs=0.002)
    assert less[10] > 0 > less[12] > less[13] > -0.012


def test_loo_has_three_percent_more_noise_than_subset_where_successes_are_rare() -> None:
    """Exactly, over the number of successes among 16. One success: k^2 (1 + 1 / 15) against k^2."""
    rewards = (torch.arange(16) < torch.arange(17)[:, None]).double()

    def ratio(p: float, k: int) -> float:
        weights = torch.tensor([comb(16, s) * p**s * (1 - p) ** (16 - s) for s in range(17)], dtype=torch.float64)
        loo, subset = ((noise(rewards, k, baseline) * weights).sum() for baseline in ("loo", "subset"))
        return sqrt(loo / subset)

    for k in range(2, 16):
        ratios = [ratio(p, k) for p in (1e-4, 0.01, 0.1, 0.3, 0.5, 0.9)]
        assert ratios == sorted(ratios, reverse=True)
        assert ratios[0] <= sqrt(16 / 15)
    assert ratio(1e-4, 4) == pytest.approx(1.033, abs=5e-4)
    assert ratio(0.5, 4) == pytest.approx(0.742, abs=5e-4)


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
        (5, None, "k = 5 needs at least 5 rollouts per group, got 4"),
        (5, "subset", "k = 5 with baseline = 'subset' needs at least 5 rollouts per group, got 4"),
        (4, "loo", "k = 4 with baseline = 'loo' needs at least 5 rollouts per group, got 4"),
        (5, "none", "needs at least 5"),
        (0, "subset", "k = 0 must be at least 1"),
    ],
)
def test_k_out_of_range(k: int, baseline: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        max_at_k(torch.zeros(2, 4), k=k, baseline=baseline)


@pytest.mark.usefixtures("without_shape_checks")
def test_wrong_options() -> None:
    with pytest.raises(TypeError, match=r"k must be an int, got 2\.0"):
        max_at_k(torch.zeros(2, 4), k=2.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown baseline 'mean': choose one of subset, loo, none"):
        max_at_k(torch.zeros(2, 4), k=2, baseline="mean")  # type: ignore[arg-type]
