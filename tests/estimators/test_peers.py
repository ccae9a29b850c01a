"""The published peers against their definitions, rollout by rollout and subset by subset."""

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from tailgrad.estimators import (
    bind,
    bon_max_mean,
    bon_max_second,
    bon_rl,
    cat_bon,
    cvar,
    max_at_k,
    pass_at_k,
    qae,
    rs_grpo,
    tea,
)
from tailgrad.tails import gaussian_tail


def normal(prompts: int, rollouts: int) -> torch.Tensor:
    return torch.randn(prompts, rollouts, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def assert_rows(actual: torch.Tensor, rewards: torch.Tensor, definition: Any) -> None:
    """Each row equals the definition applied to a list of floats."""
    expected = torch.tensor([definition(group) for group in rewards.tolist()], dtype=torch.float64)
    torch.testing.assert_close(actual, expected, rtol=1e-11, atol=1e-11)


# Groups with and without ties, and of whole numbers.
TABLES = [normal(4, 9), (normal(4, 9) * 2).round(), (normal(6, 9) > 0).double()]
every_table = pytest.mark.parametrize("rewards", TABLES, ids=["distinct", "ties", "binary"])


def test_cvar_is_the_weight_derivative_of_the_tail_mean() -> None:
    """Mean of the top 1/3 of the mass, an atom at the edge split, when weight is added to one rollout."""
    rewards, alpha, step = normal(1, 9), 1 / 3, 1e-7

    def tail_mean(weights: np.ndarray) -> float:
        values = rewards[0].numpy()
        order = np.argsort(-values)
        before = np.cumsum(weights[order]) - weights[order]
        return float((np.clip(alpha - before, 0, weights[order]) * values[order]).sum() / alpha)

    plain = np.full(9, 1 / 9)
    derivative = [(tail_mean(plain + step * np.eye(9)[i]) - tail_mean(plain)) / step for i in range(9)]
    np.testing.assert_allclose(cvar(rewards, tail_fraction=alpha)[0].numpy(), derivative, atol=1e-6)


def test_cvar_is_tea_without_extrapolation() -> None:
    """At the N where ctilde_N = 0 the best of N lies at the mean of the tail, and TEA's quadratic part is gone."""
    rewards = normal(5, 16)
    low, high = 1.0, 100.0
    for _ in range(80):  # c_N = lambda, by bisection
        middle = (low + high) / 2
        low, high = (middle, high) if expected_max(middle) < gaussian_tail(0.25).mean else (low, middle)
    with pytest.warns(UserWarning, match="not larger than the 16 rollouts"):
        advantages = tea(rewards, deploy_n=low)
    torch.testing.assert_close(advantages, cvar(rewards), rtol=1e-8, atol=1e-8)


def expected_max(n: float) -> float:
    x = np.linspace(-10, 12, 20_001)
    cdf = np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in x])
    density = n * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi) * cdf ** (n - 1)
    return float((x * density).sum() * (x[1] - x[0]))


@every_table
def test_bon_max_mean(rewards: torch.Tensor) -> None:
    def definition(group: list[float]) -> list[float]:
        best, mean = max(group), sum(group) / len(group)
        return [len(group) * (best - mean) / group.count(best) if reward == best else 0.0 for reward in group]

    assert_rows(bon_max_mean(rewards), rewards, definition)


@every_table
def test_bon_max_second_is_max_at_k_of_the_whole_group(rewards: torch.Tensor) -> None:
    torch.testing.assert_close(bon_max_second(rewards), max_at_k(rewards, k=rewards.shape[1]))


def test_bon_rl_worked_example() -> None:
    advantages = bon_rl(torch.tensor([[0.0, 1.0, 0.0, 0.0]]), deploy_n=8)
    torch.testing.assert_close(advantages, torch.tensor([[-0.2670, 0.8009, -0.2670, -0.2670]]), rtol=0, atol=5e-5)


def test_bon_rl_binary_is_the_gradient_of_pass_at_n_at_the_plugged_in_p() -> None:
    """A Bernoulli policy with failure share p = sigmoid(-t): d(1 - p^N)/dt, and scores (success - (1 - p))."""
    rewards = torch.tensor([[0.0, 1.0, 0.0, 1.0, 0.0]], dtype=torch.float64)
    t = torch.tensor(-math.log(0.6 / 0.4), dtype=torch.float64, requires_grad=True)
    (truth,) = torch.autograd.grad(1 - torch.sigmoid(-t) ** 16, t)
    scores = rewards - 0.4
    actual = (bon_rl(rewards, deploy_n=16) * scores).mean()
    assert actual.item() == pytest.approx(truth.item(), rel=1e-12)


@pytest.mark.parametrize("rewards", TABLES[:2], ids=["distinct", "ties"])
def test_bon_rl_graded(rewards: torch.Tensor) -> None:
    def definition(group: list[float]) -> list[float]:
        weights = [6 * (rank / len(group)) ** 5 for rank in rankdata(group)]
        baseline = sum(w * r for w, r in zip(weights, group, strict=True)) / sum(weights)
        return [w * (r - baseline) for w, r in zip(weights, group, strict=True)]

    assert_rows(bon_rl(rewards, deploy_n=6), rewards, definition)


def test_bon_rl_takes_groups_of_zero_and_one_by_their_own_formula() -> None:
    rewards = torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.0, 0.5, 1.0, 1.0]], dtype=torch.float64)
    by_itself = bon_rl(rewards, deploy_n=8)
    graded = 2 * bon_rl(rewards / 2, deploy_n=8)  # which is linear in the rewards, and 0/0.5 is graded
    assert torch.equal(by_itself[0], bon_rl(rewards[:1], deploy_n=8)[0])
    torch.testing.assert_close(by_itself[1], graded[1])
    assert not torch.allclose(by_itself[0], graded[0])


@every_table
@pytest.mark.parametrize("budgets", [[10], [4, 10, 64, 300, 1000, 16]], ids=["one N", "one N per prompt"])
def test_cat_bon(rewards: torch.Tensor, budgets: list[int]) -> None:
    table = rewards.numpy()
    n = np.resize(budgets, (len(table), 1))
    ranks = np.array([[sum(group < r) + 1 for r in group] for group in table]) / (table.shape[1] + 1)
    weights = n * ranks ** (n - 1)
    weights /= weights.mean()
    z = (table - table.mean(1, keepdims=True)) / (table.std(1, ddof=1, keepdims=True) + 1e-4)
    np.testing.assert_allclose(cat_bon(rewards, deploy_n=torch.tensor(n[:, 0])).numpy(), weights * z, rtol=1e-10)


@pytest.mark.parametrize("n", [1, 10, 1e9])
def test_weights_survive_a_huge_n(n: float) -> None:
    for name in ("bon_rl", "cat_bon"):
        assert bool(bind(name, deploy_n=n)(TABLES[1]).isfinite().all())


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_pass_at_k_averages_over_all_subsets(k: int) -> None:
    """Each k-subset is rewarded by its best and standardised over all of them; a rollout gets its subsets' mean."""
    rewards = TABLES[2]

    def definition(group: list[float]) -> list[float]:
        subsets = list(combinations(range(len(group)), k))
        values = np.array([max(group[i] for i in subset) for subset in subsets])
        if values.std() == 0:
            return [0.0] * len(group)
        z = (values - values.mean()) / values.std()
        return [float(np.mean([z[s] for s, subset in enumerate(subsets) if i in subset])) for i in range(len(group))]

    assert_rows(pass_at_k(rewards, k=k), rewards, definition)


@pytest.mark.parametrize("beta", [1e-3, 1e-8, 1e-13, 1e-20, -1e-16, 1e-200])
def test_rs_grpo_approaches_dr_grpo_without_noise(beta: float) -> None:
    """A = d + beta (d^2 - mean d^2) / 2 + O(beta^2), with d the deviations from the mean, by Taylor expansion."""
    rewards = normal(20, 9)
    deviations = rewards - rewards.mean(dim=1, keepdim=True)
    squares = deviations**2
    expected = deviations + beta / 2 * (squares - squares.mean(dim=1, keepdim=True))
    torch.testing.assert_close(rs_grpo(rewards, risk_beta=beta), expected, rtol=0, atol=max(40 * beta**2, 1e-14))


def test_rs_grpo_is_the_influence_on_the_exponential_utility() -> None:
    rewards, step = normal(3, 6), 1e-6
    for beta in (2.0, -0.7):

        def utility(weights: torch.Tensor, beta: float = beta) -> torch.Tensor:
            return ((weights * torch.exp(beta * rewards)).sum(1) / weights.sum(1)).log() / beta

        plain = torch.full_like(rewards, 1 / 6)
        for i in range(6):
            more, less = plain.clone(), plain.clone()
            more[:, i] += step
            less[:, i] -= step
            derivative = (utility(more) - utility(less)) / (2 * step)
            torch.testing.assert_close(rs_grpo(rewards, risk_beta=beta)[:, i], derivative, rtol=1e-6, atol=1e-8)


def test_rs_grpo_tends_to_dr_grpo_and_survives_large_exponents() -> None:
    rewards = normal(3, 6)
    torch.testing.assert_close(
        rs_grpo(rewards, risk_beta=1e-7), rewards - rewards.mean(1, keepdim=True), rtol=1e-5, atol=1e-6
    )
    for beta in (1e4, -1e4):
        assert bool(rs_grpo(rewards, risk_beta=beta).isfinite().all())


@pytest.mark.parametrize("beta", [1.0, -0.7])
def test_rs_grpo_in_units_of_the_spread_is_given_the_standard_deviation_of_each_group(beta: float) -> None:
    rewards = normal(5, 9) * torch.tensor([[1e-6], [0.1], [1.0], [30.0], [1e5]]) + 1
    rewards[1, 3] = math.nan
    actual = rs_grpo(rewards, risk_beta=beta, units="spread")
    for group, advantages in zip(rewards, actual, strict=True):
        spread = float(np.nanstd(group.numpy()))
        torch.testing.assert_close(advantages[None], rs_grpo(group[None], risk_beta=beta / spread), rtol=1e-9, atol=0)


def test_rs_grpo_in_units_of_the_spread_has_none_to_divide_by_where_rewards_are_equal() -> None:
    assert not rs_grpo(torch.full((2, 5), 0.3), risk_beta=2.0, units="spread").any()


@pytest.mark.usefixtures("without_shape_checks")
def test_rs_grpo_names_the_units_it_knows() -> None:
    with pytest.raises(ValueError, match="unknown units 'std': choose one of reward, spread"):
        bind("rs_grpo", risk_beta=1.0, units="std")(TABLES[0])


@every_table
@pytest.mark.parametrize("quantile", [0.0, 0.4, 2 / 3, 0.99])
def test_qae(rewards: torch.Tensor, quantile: float) -> None:
    """The right-continuous quantile is the smallest value that more than the share K does not exceed."""

    def definition(group: list[float]) -> list[float]:
        above = [x for x in sorted(group) if sum(r <= x for r in group) > quantile * len(group) + 1e-9]
        std = float(np.std(group, ddof=1))
        return [(r - above[0]) / (std + 1e-4) if std > 0 else 0.0 for r in group]

    assert_rows(qae(rewards, quantile=quantile), rewards, definition)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cvar", {"tail_fraction": 0.1}, r"tail_fraction = 0.1 of m = 9 .* = 2/9"),
        ("bon_rl", {"deploy_n": 0}, "deploy_n = 0 must lie between"),
        ("bon_rl", {"deploy_n": torch.ones(3)}, r"deploy_n must be one number or have shape \[P\] = \[6\], got \[3\]"),
        ("cat_bon", {"deploy_n": 1e10}, "must lie between 1 and 1e9"),
        ("pass_at_k", {"k": 10}, "k = 10 must not exceed the 9 rollouts"),
        ("pass_at_k", {"k": 0}, "k = 0 must be at least 1"),
        ("rs_grpo", {"risk_beta": 0.0}, "risk_beta = 0.0 must be finite and not 0"),
        ("rs_grpo", {"risk_beta": math.inf}, "risk_beta = inf"),
        ("rs_grpo", {}, "needs the option risk_beta"),
        ("qae", {"quantile": 1.0}, r"quantile = 1.0 must lie in \[0, 1\)"),
    ],
)
def test_options_out_of_range(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bind(name, **options)(TABLES[2])


def test_one_deploy_n_a_prompt() -> None:
    budgets = [16, 64, 128, 512]
    together = bon_rl(TABLES[0], deploy_n=torch.tensor(budgets))
    alone = [bon_rl(TABLES[0][[i]], deploy_n=n) for i, n in enumerate(budgets)]
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("tea", {"deploy_n": 64, "tail_fraction": 1.0}, [[0.0, 1.0]]),
        ("grpo", {"eps": 0.0}, [[-(2**-0.5), 2**-0.5]]),
        ("dr_grpo", {}, [[-0.5, 0.5]]),
        ("rloo", {}, [[-1.0, 1.0]]),
        ("max_at_k", {"k": 2}, [[0.0, 2.0]]),
        ("max_at_k", {"k": 1, "baseline": "loo"}, [[-1.0, 1.0]]),
    ],
)
def test_two_rollouts(name: str, options: dict[str, Any], expected: list[list[float]]) -> None:
    """TEA: mu = 1/2, sigma = 1/2, r_hat = 0: the quadratic part is 1/4 - 1/4 = 0, the linear part 1."""
    advantages = bind(name, **options)(torch.tensor([[2.0, 3.0]], dtype=torch.float64))
    torch.testing.assert_close(advantages, torch.tensor(expected, dtype=torch.float64))
