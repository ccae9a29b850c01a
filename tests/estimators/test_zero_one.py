"""Estimators of 0/1 rewards: what they are the gradient of, over all numbers of successes in a group.

A prompt succeeds with probability p = sigmoid(t). The score of a rollout, the derivative of its log-probability by t,
is r - p.
"""

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import beta, roots_jacobi

from tailgrad.estimators import bind, f_grpo, grpo, max_rl, pass_at_n, rloo
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


PRIORS = [(0.3, 3.0), (1.0, 9.0), (0.5, 0.5), (2.0, 60.0)]


def over_beta(a: float, b: float, points: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Rates p and weights, exact for the mean of polynomials over Beta(a, b)."""
    x, weights = roots_jacobi(points, b - 1, a - 1)
    return (1 + x) / 2, weights / weights.sum()


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize(("m", "n"), [(2, 64), (8, 1), (8, 5), (8, 128), (15, 128)])
def test_pass_at_n_is_unbiased_over_prompts_from_the_prior(prior: tuple[float, float], m: int, n: int) -> None:
    """The derivative of pass@N = 1 - (1 - p)^N by t is N (1 - p)^(N - 1) p (1 - p)."""
    advantages = pass_at_n(every_group(m), deploy_n=n, prior=prior)
    rates, weights = over_beta(*prior)
    truth = weights @ (n * rates * (1 - rates) ** n)
    assert weights @ [expected(advantages, p) for p in rates] == pytest.approx(truth, rel=1e-9)


def test_pass_at_n_is_biased_for_one_prompt() -> None:
    advantages = pass_at_n(every_group(8), deploy_n=128, prior=(1.0, 9.0))
    assert expected(advantages, 0.0005) < 0.5 * 128 * 0.0005 * (1 - 0.0005) ** 128
    assert expected(advantages, 0.1) > 100 * 128 * 0.1 * (1 - 0.1) ** 128


def test_pass_at_n_is_unbiased_over_batches_whose_prior_is_unknown() -> None:
    """Two prompts, of four and three scored rollouts; one of the 70 priors, drawn for both."""
    n, sizes = 32, (4, 3)
    counts = list(product(range(5), range(4)))
    table = torch.full((len(counts), 2, 4), math.nan, dtype=torch.float64)
    for row, successes in enumerate(counts):
        for prompt, (s, size) in enumerate(zip(successes, sizes, strict=True)):
            table[row, prompt, :size] = (torch.arange(size) < s).double()
    # given the successes, the estimate has the mean of A_i (r_i - p) over all four, whatever p is: A is centred
    advantages = torch.stack([pass_at_n(batch, deploy_n=n) for batch in table])
    gradients = (advantages * table.nan_to_num(nan=0.0)).mean(dim=2).numpy()
    estimate, truth = np.zeros(2), 0.0
    for a, b in product(2.0 ** np.arange(-3, 4), 2.0 ** np.arange(-2, 8)):
        chance = [[math.comb(m, s) * beta(a + s, b + m - s) / beta(a, b) for s in range(m + 1)] for m in sizes]
        estimate += sum(chance[0][s] * chance[1][u] * gradients[row] for row, (s, u) in enumerate(counts)) / 70
        truth += n * beta(a + 1, b + n) / beta(a, b) / 70
    np.testing.assert_allclose(estimate, truth, rtol=1e-10)


def test_one_deploy_n_a_prompt() -> None:
    budgets = [2, 64, 1e9, 512.5]
    groups = every_group()[1:5]
    together = pass_at_n(groups, deploy_n=torch.tensor(budgets, dtype=torch.float64), prior=(0.5, 4.0))
    alone = [pass_at_n(groups[[i]], deploy_n=n, prior=(0.5, 4.0)) for i, n in enumerate(budgets)]
    torch.testing.assert_close(together, torch.cat(alone))


def test_a_large_batch_finds_the_prior() -> None:
    """Weights of one to four successes of 16, within a fifth of those of the prior that made the batch."""
    generator = np.random.default_rng(0)
    groups = every_group(16)
    for prior in PRIORS:
        rates = generator.beta(*prior, size=(4000, 1))
        batch = torch.from_numpy((generator.random((4000, 16)) < rates).astype(float))
        fitted = pass_at_n(torch.cat([batch, groups[1:5]]), deploy_n=128)[-4:]
        ratio = fitted / pass_at_n(groups[1:5], deploy_n=128, prior=prior)
        assert bool(((ratio > 0.8) & (ratio < 1.25)).all()), prior


def test_pass_at_n_weighs_a_rare_success_where_plugging_in_the_rate_does_not() -> None:
    groups = every_group(8)[1:2]
    alone, one = pass_at_n(groups, deploy_n=128).max(), pass_at_n(groups, deploy_n=128, prior=(1.0, 9.0)).max()
    assert bind("bon_rl", deploy_n=128)(groups).max() < 1e-5
    weight = 128 * beta(2, 16 + 127) / beta(2, 16)
    assert one.item() == pytest.approx(weight, rel=1e-11)
    assert 0.5 < alone / one < 5


def test_graded_rewards_are_a_sum_of_successes() -> None:
    levels = (0.0, 1 / 3, 0.7, 1.0)  # 0.7 is less in bfloat16
    generator = torch.Generator().manual_seed(0)
    grades = torch.randint(0, 4, (6, M), generator=generator)
    rewards = torch.tensor(levels, dtype=torch.float64)[grades]
    rewards[2, 3] = math.nan
    expected = sum(
        (levels[j] - levels[j - 1])
        * pass_at_n((grades >= j).double().masked_fill(rewards.isnan(), math.nan), deploy_n=64)
        for j in (1, 2, 3)
    )
    torch.testing.assert_close(pass_at_n(rewards, deploy_n=64, levels=levels), expected)
    torch.testing.assert_close(pass_at_n(rewards, deploy_n=1, levels=levels), rloo(rewards))
    for dtype in (torch.float32, torch.bfloat16):
        rounded = pass_at_n(rewards.to(dtype), deploy_n=64, levels=levels)
        torch.testing.assert_close(rounded, expected.float())


def test_a_batch_without_a_success_or_a_failure_has_no_signal() -> None:
    for value in (0.0, 1.0):
        assert not pass_at_n(torch.full((3, M), value), deploy_n=128).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": (0.0,)}, r"levels = \(0\.0,\) must be two or more finite numbers"),
        ({"levels": (0.0, 1.0, 1.0)}, "each larger than the one before"),
        ({"levels": (0.0, math.inf)}, "two or more finite numbers"),
        ({"prior": (1.0,)}, r"prior = \(1\.0,\) must be a and b of a Beta"),
        ({"prior": (0.0, 2.0)}, "both positive"),
        ({"prior": (1.0, math.nan)}, "both positive"),
        ({"levels": (0.0, 2.0)}, r"rewards 0 and 2 only, got 1.0 \(prompt 1, rollout 0\): name every value in levels"),
        ({"deploy_n": 0}, "deploy_n = 0 must lie between"),
    ],
)
def test_pass_at_n_refuses_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pass_at_n(every_group(), **{"deploy_n": 64, **options})


@pytest.mark.parametrize("name", ["max_rl", "f_grpo", "pass_at_n"])
def test_graded_rewards_are_refused(name: str) -> None:
    rewards = torch.tensor([[0.0, 1.0, math.nan], [1.0, 0.0, 0.5]])
    with pytest.raises(ValueError, match=rf"{name} takes rewards 0 and 1 only, got 0.5 \(prompt 1, rollout 2\)"):
        bind(name, **({"deploy_n": 64} if name == "pass_at_n" else {}))(rewards)
