import math

import numpy as np
import pytest
import torch
from scipy import stats

from tailgrad.tails import upper_tail_qq
from tailgrad.tails.gaussianity import QUANTILES, linearity, linearity_without, prompt_linearity, standardised


def test_points_against_scipy() -> None:
    """SciPy's probplot of one prompt: the same residuals, other plotting positions."""
    rewards = np.random.default_rng(0).gumbel(size=(1, 400))
    qq = upper_tail_qq(rewards, tail_fraction=0.2)
    (quantiles, ordered), _ = stats.probplot(stats.zscore(rewards[0]))
    np.testing.assert_allclose(qq.residuals, ordered[-80:], rtol=1e-12)
    np.testing.assert_allclose(qq.quantiles, quantiles[-80:], atol=0.05)
    blom = stats.norm.ppf((np.arange(321, 401) - 0.375) / 400.25)
    assert qq.linearity == pytest.approx(stats.pearsonr(blom, ordered[-80:])[0] ** 2, abs=1e-12)
    assert qq.prompt_linearity == pytest.approx([qq.linearity])


def test_residuals_are_standardised_by_prompt_and_pooled() -> None:
    """Rewards that are normal quantiles, at another mean and spread a prompt, lie on the diagonal."""
    n = 200
    quantiles = stats.norm.ppf((np.arange(1, n + 1) - 0.375) / (n + 0.25))
    rewards = np.stack([18.93 + 0.01 * quantiles, -3 + 5 * quantiles[::-1], 1e4 + quantiles])
    qq = upper_tail_qq(torch.from_numpy(rewards))
    expected = np.sort(np.tile(quantiles / quantiles.std(), 3))[-150:]
    np.testing.assert_allclose(qq.residuals, expected, atol=1e-6)
    np.testing.assert_allclose(qq.residuals[:-3], qq.quantiles[:-3], atol=0.15)
    assert qq.linearity > 0.99
    np.testing.assert_allclose(qq.prompt_linearity, 1.0, atol=1e-7)


def test_a_capped_tail_is_not_straight_and_its_prompt_is_the_worst() -> None:
    rewards = np.random.default_rng(1).normal(size=(8, 300))
    rewards[5] = np.minimum(rewards[5], 1.0)
    qq = upper_tail_qq(rewards)
    assert qq.linearity > 0.97
    assert qq.worst_prompts(1) == [5]
    assert qq.prompt_linearity[5] < 0.8
    assert len(qq.worst_prompts()) == 5


def linearity_by_scipy(rewards: np.ndarray, share: float, tail: str) -> float:
    """Pearson's r^2 of one prompt's largest rewards and the expectations of ordered variables of the tail."""
    n, k = len(rewards), math.ceil(share * len(rewards))
    rank = np.arange(n - k + 1, n + 1)
    harmonic = np.cumsum([0, *(1 / np.arange(1, n + 1))])
    quantiles = {
        "gaussian": stats.norm.ppf((rank - 0.375) / (n + 0.25)),
        "exponential": harmonic[n] - harmonic[n - rank],
        "uniform": rank / (n + 1),
    }[tail]
    return float(stats.pearsonr(quantiles, np.sort(rewards)[-k:])[0] ** 2)


@pytest.mark.parametrize("tail", ["gaussian", "exponential", "uniform"])
def test_every_tail_against_scipy_with_groups_of_different_sizes(tail: str) -> None:
    rewards = np.random.default_rng(4).gumbel(size=(4, 60))
    rewards[1, 5:25] = rewards[3, 2:] = math.nan
    found = upper_tail_qq(rewards, tail_fraction=0.4, tail=tail).prompt_linearity
    expected = [linearity_by_scipy(row[~np.isnan(row)], 0.4, tail) for row in rewards[:3]]
    np.testing.assert_allclose(found, [*expected, math.nan], atol=1e-12)


@pytest.mark.parametrize("tail", ["gaussian", "exponential", "uniform"])
def test_the_line_is_straightest_against_the_tail_it_is_drawn_from(tail: str) -> None:
    draws = {"gaussian": "normal", "exponential": "exponential", "uniform": "uniform"}
    rewards = getattr(np.random.default_rng(5), draws[tail])(size=(200, 64))
    means = {name: upper_tail_qq(rewards, tail_fraction=0.5, tail=name).prompt_linearity.mean() for name in draws}
    assert max(means, key=lambda name: means[name]) == tail


def test_the_linearity_without_a_part_is_that_of_the_other_prompts() -> None:
    rewards = np.random.default_rng(6).normal(size=(7, 50))
    rewards[2, 10:] = rewards[4] = math.nan
    found = linearity_without(standardised(rewards, 0.0), 0.3, QUANTILES["gaussian"], parts=3)
    rows = np.delete(np.arange(7), 4)
    expected = [upper_tail_qq(rewards[np.delete(rows, [g, g + 3])], tail_fraction=0.3).linearity for g in range(3)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_unscored_rollouts_and_constant_prompts_are_left_out() -> None:
    rewards = np.random.default_rng(2).normal(size=(3, 101))
    expected = upper_tail_qq(rewards[:1, :100])
    rewards[0, 100] = rewards[1] = math.nan
    rewards[2] = 0.3
    qq = upper_tail_qq(rewards)
    np.testing.assert_allclose(qq.residuals, expected.residuals, rtol=1e-12)
    assert qq.linearity == pytest.approx(expected.linearity)
    assert np.isnan(qq.prompt_linearity).tolist() == [False, True, True]
    assert qq.worst_prompts(1) == [0]


@pytest.mark.parametrize(
    ("rewards", "message"),
    [
        (np.zeros(5), r"shape \[P, n\]"),
        (np.array([[1.0, math.inf, 2.0]]), r"rewards\[0, 1\] is infinite"),
        (np.zeros((3, 50)), "leave 0 residuals"),
        (np.zeros((0, 50)), "leave 0 residuals"),
        (np.arange(4.0)[None], "leave 1 residuals"),
    ],
)
def test_what_cannot_be_judged_is_refused(rewards: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        upper_tail_qq(rewards)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_prompt_that_spreads_by_rounding_alone_is_left_out(dtype: type) -> None:
    """One unit in the last place, standardised, would be residuals of order one."""
    rewards = np.random.default_rng(0).normal(18.93, 0.01, size=(3, 60)).astype(dtype)
    rewards[1] = dtype(18.93)
    rewards[1, ::7] = np.nextafter(dtype(18.93), dtype(20))
    for given in (rewards, torch.from_numpy(rewards)):
        qq, without = upper_tail_qq(given), upper_tail_qq(np.delete(rewards, 1, axis=0))
        np.testing.assert_array_equal(qq.residuals, without.residuals)
        assert np.isnan(qq.prompt_linearity).tolist() == [False, True, False]


def test_an_unknown_tail_is_refused() -> None:
    with pytest.raises(ValueError, match="gaussian, exponential, uniform"):
        upper_tail_qq(np.zeros((2, 8)), tail="cauchy")


def test_a_prompt_is_standardised_by_its_own_rewards_alone() -> None:
    """Also beside one that is 10^18 times as large, one with two rollouts, and one without any."""
    rows = [[1e12, 2e12, 4e12, 3e12], [1e-6, 3e-6, 2e-6, 5e-6], [1.0, 2.0, math.nan, math.nan], [math.nan] * 4]
    together = standardised(np.array(rows), 1e-16)
    for row, found in zip(rows, together, strict=True):
        known = np.array(row)[~np.isnan(row)]
        alone = (known - known.mean()) / known.std() if len(known) else known
        np.testing.assert_allclose(found[~np.isnan(row)], alone, rtol=1e-12)
        assert np.isnan(found[np.isnan(row)]).all()


def test_spread_that_is_rounding_is_none() -> None:
    """Of a reward of 8, a step of rounding is 8 eps: two are none, three are some."""
    eps = float(np.finfo(np.float64).eps)
    rows = np.array([[8.0 + steps * 8 * eps, 8.0, 8.0] for steps in (2, 3)])
    assert np.isnan(standardised(rows, eps)).all(axis=1).tolist() == [True, False]


def test_no_rollouts_have_no_residuals() -> None:
    assert standardised(np.zeros((2, 0)), 1e-16).shape == (2, 0)


@pytest.mark.parametrize(("points", "known"), [(2, False), (3, True), (4, True)])
def test_three_points_make_a_line(points: int, known: bool) -> None:
    ranks, values = np.arange(1.0, points + 1), np.arange(1.0, points + 1) ** 2
    expected = np.corrcoef(ranks, values)[0, 1] ** 2 if known else math.nan
    assert linearity(ranks, values) == pytest.approx(expected, nan_ok=True)
    filled = np.full((2, 5), math.nan)
    filled[0, 5 - points :] = values
    filled[1, :points] = 7.0
    found = prompt_linearity(filled, 1.0, lambda rank, n: rank / n)
    assert found[0] == pytest.approx(expected, nan_ok=True)
    assert math.isnan(found[1])  # no spread


def test_equally_bad_prompts_stand_in_their_order() -> None:
    rows = np.tile(np.array([[0.0, 1.0, 2.0, 10.0]]), (40, 1))
    rows[7] = [0.0, 1.0, 2.0, 3.0]
    assert upper_tail_qq(rows, tail_fraction=1.0).worst_prompts(39) == [row for row in range(40) if row != 7]
