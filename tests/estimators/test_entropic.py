"""The entropic advantage against a root found by SciPy, its limits, and the rewards that are hard on the root."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from torch import Tensor

from tailgrad.estimators import bind, entropic


def by_definition(group: list[float]) -> list[float]:
    """beta by SciPy, rollout by rollout; the rewards in units of their range."""
    rewards = np.array(group)
    rewards = (rewards - rewards.max()) / np.ptp(rewards)

    def divergence(log_beta: float) -> float:
        logits = math.exp(log_beta) * rewards
        log_q = logits - np.log(np.exp(logits).sum())
        return float((np.exp(log_q) * (log_q + math.log(len(group)))).sum()) - math.log(2)

    gap = -rewards[rewards < 0].max()
    beta = math.exp(brentq(divergence, -5, math.log(1000 / gap), xtol=1e-14, rtol=1e-14))
    weights = np.exp(beta * rewards)
    return [w / ((weights.sum() - w) / (len(group) - 1)) - 1 for w in weights]


def drawn(shape: str, m: int) -> Tensor:
    generator = torch.Generator().manual_seed(m)
    normal, other = torch.randn(2, 40, m, dtype=torch.float64, generator=generator)
    uniform = torch.rand(40, m, dtype=torch.float64, generator=generator)
    return {
        "normal": normal,
        "flat": uniform,
        "heavy": (3 * normal).exp(),
        "far below": -(3 * normal).exp(),
        "cauchy": normal / other,
        "all scales": -(10 ** (-12 * uniform)),
        "offset": 18.93 + 0.01 * normal,
    }[shape]


@pytest.mark.parametrize("m", [3, 4, 5, 16, 64])
@pytest.mark.parametrize("shape", ["normal", "flat", "heavy", "far below", "cauchy", "all scales", "offset"])
def test_against_a_root_found_by_scipy(shape: str, m: int) -> None:
    rewards = drawn(shape, m)
    expected = torch.tensor([by_definition(group) for group in rewards.tolist()], dtype=torch.float64)
    torch.testing.assert_close(entropic(rewards), expected, rtol=1e-7, atol=1e-9)


def test_whole_numbers_with_fewer_than_half_at_the_top() -> None:
    rewards = torch.tensor([[0.0, 1, 2, 3, 3], [0, 0, 0, 0, 1], [0, 0, 0, 1, 1]], dtype=torch.float64)
    expected = torch.tensor([by_definition(group) for group in rewards.tolist()], dtype=torch.float64)
    torch.testing.assert_close(entropic(rewards), expected)


def test_a_group_of_successes_and_failures_by_hand() -> None:
    """One success of m, weight w: q = w / (w + m - 1) and KL = ln 2; its advantage is w - 1."""
    for m in (3, 8, 100):
        rewards = (torch.arange(m) == 0).double()[None]
        weight = float(entropic(rewards)[0, 0]) + 1
        success, failure = weight / (weight + m - 1), 1 / (weight + m - 1)
        divergence = success * math.log(success * m) + (m - 1) * failure * math.log(failure * m)
        assert divergence == pytest.approx(math.log(2), rel=1e-12)


@pytest.mark.parametrize(("m", "top"), [(4, 2), (5, 3), (16, 8), (16, 15), (3, 2)])
def test_where_half_or_more_share_the_top_it_is_the_limit(m: int, top: int) -> None:
    rewards = torch.randn(1, m, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rewards[0, :top] = 5.0
    expected = torch.full((1, m), -1.0, dtype=torch.float64)
    expected[0, :top] = (m - top) / (top - 1)
    torch.testing.assert_close(entropic(rewards), expected, rtol=1e-14, atol=0)


def test_two_scored_rollouts_give_zeros() -> None:
    rewards = torch.tensor([[1.0, torch.nan, 0.0, torch.nan], [3.0, 1.0, torch.nan, 0.0]])
    advantages = entropic(rewards)
    assert not advantages[0].any()
    alone = torch.tensor([by_definition([3.0, 1.0, 0.0])]).float() * 4 / 3
    torch.testing.assert_close(advantages[1, [0, 1, 3]], alone[0])


def test_grows_with_the_reward_and_never_below_minus_one() -> None:
    rewards = drawn("normal", 16).sort(dim=1).values
    advantages = entropic(rewards)
    assert bool((advantages.diff(dim=1) > 0).all())
    assert advantages.min() > -1


def test_wrong_rewards() -> None:
    with pytest.raises(ValueError, match="entropic needs at least 3 rollouts per group, got 2: use more rollouts"):
        bind("entropic")(torch.zeros(4, 2))
