import math

import numpy as np
import pytest
import torch
from scipy import stats

from tailgrad.tails import upper_tail_qq


def test_points_against_scipy() -> None:
    """SciPy's probplot of one prompt: the same residuals, other plotting positions."""
    rewards = np.random.default_rng(0).gumbel(size=(1, 400))
    qq = upper_tail_qq(rewards, tail_fraction=0.2)
    (quantiles, ordered), _ = stats.probplot(stats.zscore(rewards[0]))
    np.testing.assert_allclose(qq.residuals, ordered[-80:], rtol=1e-12)
    np.testing.assert_allclose(qq.normal_quantiles, quantiles[-80:], atol=0.05)
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
    np.testing.assert_allclose(qq.residuals[:-3], qq.normal_quantiles[:-3], atol=0.15)
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
