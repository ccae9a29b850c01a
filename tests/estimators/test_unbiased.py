"""Which estimators are unbiased, and for what: all tuples of rollouts of a small softmax policy are enumerated.

An estimator that claims to be unbiased for V_k must have the gradient of V_k as its exact expectation; one that
claims nothing must miss the gradient of every V_k up to the size of the group.
"""

import math
from functools import cache
from itertools import product
from typing import Any

import pytest
import torch
from contract_rows import ROWS

from tailgrad.estimators import ESTIMATORS, bind

# Two of the four responses have equal rewards.
REWARDS = torch.tensor([0.3, -1.0, 2.0, 0.3], dtype=torch.float64)
LOGITS = torch.tensor([0.1, -0.4, -1.2, 0.7], dtype=torch.float64)
M = 6
ZERO_ONE = {row.name for row in ROWS if row.binary}

UNBIASED: list[tuple[str, dict[str, Any], int]] = [
    ("rloo", {}, 1),
    ("bon_max_second", {}, M),
    *(("max_at_k", {"k": k}, k) for k in range(1, M + 1)),
    *(("order_grad", {"k": k, "top": 1}, k) for k in range(1, M)),
    *(("order_grad", {"k": k, "top": k}, 1) for k in range(1, M)),
    *(("max_at_k", {"k": k, "baseline": "none"}, k) for k in range(1, M + 1)),
    *(("max_at_k", {"k": k, "baseline": "loo"}, k) for k in range(1, M)),
    *(("max_at_k", {"k": k, "baseline": "subset"}, k) for k in range(1, M + 1)),
]
BIASED: list[tuple[str, dict[str, Any]]] = [
    ("tea", {"deploy_n": 64, "tail_fraction": 0.5}),
    ("tea", {"deploy_n": 64, "tail_fraction": 0.5, "center": True}),
    ("flat_tea", {"deploy_n": 64}),
    ("flat_tea", {"deploy_n": 64, "tail_fraction": 0.5, "extrapolate_n": 32}),
    ("prefix_tea", {"deploy_n": 64, "tail_fraction": 0.5}),
    ("cvar", {"tail_fraction": 0.5}),
    ("grpo", {}),
    ("dr_grpo", {}),
    ("bon_max_mean", {}),
    ("bon_rl", {"deploy_n": 64}),
    ("cat_bon", {"deploy_n": 64}),
    ("pass_at_k", {"k": 2}),
    ("pass_at_n", {"deploy_n": 64}),
    ("max_rl", {}),
    ("f_grpo", {}),
    ("rs_grpo", {"risk_beta": 1.0}),
    ("rs_grpo", {"risk_beta": 1.0, "units": "spread"}),
    ("entropic", {}),
    ("qae", {}),
]


def all_tuples(m: int) -> torch.Tensor:
    """Every tuple of m responses: `[4^m, m]`."""
    return torch.tensor(list(product(range(4), repeat=m)))


@cache
def gradient_of_v(k: int) -> torch.Tensor:
    """Exact gradient of E[max of k] in the logits, by automatic differentiation."""
    logits = LOGITS.clone().requires_grad_()
    tuples = all_tuples(k)
    value = (logits.softmax(0)[tuples].prod(dim=1) * REWARDS[tuples].amax(dim=1)).sum()
    return torch.autograd.grad(value, logits)[0]


def expected_gradient(name: str, options: dict[str, Any], m: int = M, rewards: torch.Tensor = REWARDS) -> torch.Tensor:
    """Expectation of (1/m) sum_i A_i grad log pi(y_i) over all tuples of rollouts."""
    probabilities, tuples = LOGITS.softmax(0), all_tuples(m)
    advantages = bind(name, **options)(rewards[tuples])
    scores = torch.eye(4, dtype=torch.float64)[tuples] - probabilities
    estimates = (advantages[:, :, None] * scores).mean(dim=1)
    return (probabilities[tuples].prod(dim=1)[:, None] * estimates).sum(dim=0)


def test_every_estimator_is_in_one_of_the_lists() -> None:
    assert {name for name, *_ in UNBIASED} | {name for name, _ in BIASED} == set(ESTIMATORS)
    assert not {name for name, *_ in UNBIASED} & {name for name, _ in BIASED}


@pytest.mark.parametrize(("name", "options", "k"), UNBIASED)
def test_unbiased_for_v_k(name: str, options: dict[str, Any], k: int) -> None:
    torch.testing.assert_close(expected_gradient(name, options), gradient_of_v(k), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "options"), BIASED)
def test_what_claims_nothing_is_biased_for_every_v_k(name: str, options: dict[str, Any]) -> None:
    rewards = (REWARDS > 1).double() if name in ZERO_ONE else REWARDS
    expected = expected_gradient(name, options, rewards=rewards)
    for k in range(1, M + 1):
        assert (expected - gradient_of_v(k)).abs().max() > 0.01 * gradient_of_v(k).abs().max()


@pytest.mark.parametrize("baseline", ["subset", "loo", "none"])
@pytest.mark.parametrize("m", [2, 3, 5])
def test_max_at_k_in_groups_of_other_sizes(m: int, baseline: str) -> None:
    for k in range(1, m + 1):
        if k == m and (baseline == "loo" or (baseline == "subset" and k == 1)):
            continue
        expected = expected_gradient("max_at_k", {"k": k, "baseline": baseline}, m)
        torch.testing.assert_close(expected, gradient_of_v(k), rtol=0, atol=1e-13)


def test_dr_grpo_is_short_of_rloo_by_its_own_part_in_the_mean() -> None:
    short = expected_gradient("dr_grpo", {})
    torch.testing.assert_close(short, gradient_of_v(1) * (M - 1) / M, rtol=0, atol=1e-14)


def test_best_minus_mean_is_half_of_the_gradient_in_groups_of_two() -> None:
    torch.testing.assert_close(expected_gradient("bon_max_mean", {}, 2), gradient_of_v(2) / 2, rtol=0, atol=1e-14)


def success_gradient(m: int, p: float) -> float:
    """Exact expectation of (1/m) sum_i A_i d log pi(r_i) / dp for 0/1 rewards that are 1 with probability p."""
    total = 0.0
    for successes in range(m + 1):
        rewards = (torch.arange(m) < successes).double()
        scores = rewards / p - (1 - rewards) / (1 - p)
        estimate = float((bind("bon_max_mean")(rewards[None])[0] * scores).mean())
        total += math.comb(m, successes) * p**successes * (1 - p) ** (m - successes) * estimate
    return total


@pytest.mark.parametrize(("m", "ratio"), [(2, 0.50), (4, 0.76), (8, 0.90), (16, 1.01)])
def test_best_minus_mean_of_rare_successes(m: int, ratio: float) -> None:
    """V_m = 1 - (1 - p)^m."""
    truth = m * (1 - 0.01) ** (m - 1)
    assert success_gradient(m, 0.01) / truth == pytest.approx(ratio, abs=0.005)


@pytest.mark.parametrize(("m", "ratio", "error"), [(2, 0.5, 0.01), (4, 1.3, 0.02), (16, 3.35, 0.04)])
def test_best_minus_mean_of_gaussian_rewards(m: int, ratio: float, error: float) -> None:
    """Along the mean, whose score is the reward and in which V_m has the derivative 1."""
    rewards = torch.randn(400_000 // m, m, dtype=torch.float64, generator=torch.Generator().manual_seed(m))
    assert (bind("bon_max_mean")(rewards) * rewards).mean().item() == pytest.approx(ratio, abs=error)


def test_best_minus_mean_can_point_away_from_the_gradient() -> None:
    """A rare best response (0.7) beside a common good one (0.5), which is pushed at the expense of the rare one."""
    rewards = torch.tensor([0.5, -0.4, -0.1, 0.7], dtype=torch.float64)
    probabilities = torch.tensor([3.6, -1.4, 1.8, -2.1], dtype=torch.float64).softmax(0)
    tuples = all_tuples(M)
    weights = probabilities[tuples].prod(dim=1)[:, None]

    def expected(name: str) -> torch.Tensor:
        scores = torch.eye(4, dtype=torch.float64)[tuples] - probabilities
        return (weights * (bind(name)(rewards[tuples])[:, :, None] * scores).mean(dim=1)).sum(dim=0)

    cosine = torch.cosine_similarity(expected("bon_max_mean"), expected("bon_max_second"), dim=0)
    assert cosine.item() < 0


def test_the_mean_of_s_is_no_baseline() -> None:
    """At k = m all s_i are equal: minus their mean they are zero, and so is their expected gradient."""
    s = bind("max_at_k", k=M, baseline="none")(REWARDS[all_tuples(M)])
    torch.testing.assert_close(s - s.mean(dim=1, keepdim=True), torch.zeros_like(s))
    assert gradient_of_v(M).abs().max() > 0.1
