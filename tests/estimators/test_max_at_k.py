from itertools import combinations, product
from math import comb

import numpy as np
import pytest
import torch

from tailgrad.estimators import dr_grpo, max_at_k, rloo

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


# A softmax policy over four responses, two of them with equal rewards; all tuples of rollouts are enumerated.
REWARDS = torch.tensor([0.3, -1.0, 2.0, 0.3], dtype=torch.float64)
LOGITS = torch.tensor([0.1, -0.4, -1.2, 0.7], dtype=torch.float64)


def gradient_of_v(k: int) -> torch.Tensor:
    """Exact gradient of E[max of k] in the logits, by automatic differentiation."""
    logits = LOGITS.clone().requires_grad_()
    tuples = torch.tensor(list(product(range(4), repeat=k)))
    value = (logits.softmax(0)[tuples].prod(dim=1) * REWARDS[tuples].amax(dim=1)).sum()
    return torch.autograd.grad(value, logits)[0]


def expected_gradient(advantages: torch.Tensor, tuples: torch.Tensor) -> torch.Tensor:
    """Expectation of (1/m) sum_i A_i grad log pi(y_i) over all tuples of rollouts."""
    probabilities = LOGITS.softmax(0)
    scores = torch.eye(4, dtype=torch.float64)[tuples] - probabilities
    estimates = (advantages[:, :, None] * scores).mean(dim=1)
    return (probabilities[tuples].prod(dim=1)[:, None] * estimates).sum(dim=0)


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("m", [2, 3, 5])
def test_exactly_unbiased_for_a_softmax_policy(m: int, baseline: str) -> None:
    tuples = torch.tensor(list(product(range(4), repeat=m)))
    for k in range(1, m + 1):
        if k == m and (baseline == "loo" or k == 1):
            continue
        advantages = max_at_k(REWARDS[tuples], k=k, baseline=baseline)
        torch.testing.assert_close(expected_gradient(advantages, tuples), gradient_of_v(k), rtol=0, atol=1e-13)


def test_the_mean_baselines_on_the_softmax_policy() -> None:
    """RLOO is unbiased for the mean reward; Dr. GRPO is short of it by the factor (m - 1) / m."""
    tuples = torch.tensor(list(product(range(4), repeat=4)))
    rewards = REWARDS[tuples]
    truth = gradient_of_v(1)
    torch.testing.assert_close(expected_gradient(rloo(rewards), tuples), truth, rtol=0, atol=1e-14)
    short = expected_gradient(dr_grpo(rewards), tuples)
    torch.testing.assert_close(short, truth * 3 / 4, rtol=0, atol=1e-14)


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
