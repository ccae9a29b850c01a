"""Estimators of 0/1 rewards: what they are the gradient of, over all numbers of successes in a group.

A prompt succeeds with probability p = sigmoid(t). The score of a rollout, the derivative of its log-probability by t,
is r - p.
"""

import math

import pytest
import torch

from tailgrad.estimators import bind, f_grpo, grpo, max_rl
from tailgrad.types import Advantages

M = 7


def every_group(m: int = M) -> torch.Tensor:
    """Groups of m with 0 to m successes: `[m + 1, m]`."""
    return (torch.arange(m) < torch.arange(m + 1)[:, None]).double()


def chances(p: float, m: int = M) -> torch.Tensor:
    """How likely each number of successes is."""
    return torch.tensor([math.comb(m, s) * p**s * (1 - p) ** (m - s) for s in range(m + 1)], dtype=torch.float64)


def expected(advantages: Advantages, p: float) -> float:
    """Expectation of (1/m) sum_i A_i (r_i - p) from the advantages of `every_group`."""
    m = advantages.shape[1]
    return float(chances(p, m) @ (advantages * (every_group(m) - p)).mean(dim=1))


RATES = pytest.mark.parametrize("p", [0.001, 0.03, 0.4, 0.97])


@RATES
@pytest.mark.parametrize("m", [2, 3, 7])
def test_max_rl_is_unbiased_for_all_but_the_last_of_m_terms_of_the_likelihood(p: float, m: int) -> None:
    """Each term (1 - p)^k / k has the derivative (1 - p)^(k - 1) by p, and p = sigmoid(t) has p (1 - p)."""
    terms = [(1 - p) ** (k - 1) * p * (1 - p) for k in range(1, m + 1)]
    groups = every_group(m)
    assert expected(max_rl(groups), p) == pytest.approx(sum(terms[:-1]), rel=1e-11)
    mean_of_successes = groups / groups.mean(dim=1, keepdim=True).clamp(min=1e-9)
    assert expected(mean_of_successes, p) == pytest.approx(sum(terms), rel=1e-11)


def test_max_rl_tends_to_the_gradient_of_log_p() -> None:
    """The derivative of log p by t is 1 - p."""
    assert expected(max_rl(every_group(200)), 0.1) == pytest.approx(0.9, rel=1e-8)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 3.0])
def test_f_grpo_scales_each_group_of_grpo(gamma: float) -> None:
    groups = every_group()
    factor = torch.tensor([[((M - s) / M) ** gamma] for s in range(M + 1)], dtype=torch.float64)
    torch.testing.assert_close(f_grpo(groups, gamma=gamma), factor * grpo(groups))
    assert torch.equal(f_grpo(groups), f_grpo(groups, gamma=1.0))


@pytest.mark.parametrize("gamma", [-0.5, math.inf, math.nan])
def test_f_grpo_refuses_a_gamma_out_of_range(gamma: float) -> None:
    with pytest.raises(ValueError, match=f"gamma = {gamma} must not be negative, nor infinite"):
        f_grpo(every_group(), gamma=gamma)


@pytest.mark.parametrize("name", ["max_rl", "f_grpo"])
def test_graded_rewards_are_refused(name: str) -> None:
    rewards = torch.tensor([[0.0, 1.0, math.nan], [1.0, 0.0, 0.5]])
    with pytest.raises(ValueError, match=rf"{name} takes rewards 0 and 1 only, got 0.5 \(prompt 1, rollout 2\)"):
        bind(name)(rewards)
