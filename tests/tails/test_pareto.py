import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import beta

from tailgrad.tails import pareto_tail, tail_size

SHAPES = (-1.0, -0.2, 0.0, 0.3)


def expected_order_statistics(shape: float, n: int) -> np.ndarray:
    """Expectations of n ordered generalised Pareto variables: ((1 - U)^-xi - 1) / xi, with U ~ Beta(i, n - i + 1)."""
    i = np.arange(1, n + 1)
    if shape == 0:
        return np.array([sum(1 / (n - j) for j in range(place)) for place in i])
    return (beta(i, n - i + 1 - shape) / beta(i, n - i + 1) - 1) / shape


def shape_by_hand(excess: np.ndarray) -> float:
    """2 - mean / (half the mean difference of two), over all pairs."""
    pairs = np.abs(excess[:, None] - excess[None, :]).sum() / (len(excess) * (len(excess) - 1))
    return float(2 - excess.mean() / (pairs / 2))


def excess_by_hand(rewards: np.ndarray, tail_fraction: float) -> tuple[np.ndarray, float, float]:
    """Excesses, threshold and spread below it of one prompt."""
    ascending = np.sort(rewards[~np.isnan(rewards)])
    k = min(tail_size(len(ascending), tail_fraction), len(ascending) - 1)
    below, tail = ascending[:-k], ascending[-k:]
    return tail - below[-1], float(below[-1]), float(below[-1] - np.median(below))


@pytest.mark.parametrize("shape", [*SHAPES, -0.5, 0.7])
@pytest.mark.parametrize("tail_fraction", [0.1, 0.25, 1.0])
def test_expected_order_statistics_give_back_the_shape(shape: float, tail_fraction: float) -> None:
    """The moments are linear in the order statistics and unbiased, so their expectations give exactly xi."""
    order = expected_order_statistics(shape, 40)
    np.testing.assert_allclose(order.mean(), stats.genpareto.mean(shape), rtol=1e-9)
    fit = pareto_tail(torch.from_numpy(np.stack([order, 1e3 - 7 + 0.01 * order[::-1]])), tail_fraction=tail_fraction)
    assert fit.shape == pytest.approx(shape, abs=1e-8)
    assert fit.prompt_shape.tolist() == pytest.approx([shape, shape], abs=1e-8)
    assert fit.shape_error == pytest.approx(0, abs=1e-8)
    above = stats.genpareto.mean(shape, scale=1 + shape * order[-fit.size[0] - 1])  # E[X - u | X > u] is linear in u
    assert fit.mean_excess[0].item() == pytest.approx(above, rel=1e-8)
    assert fit.scale[0].item() == pytest.approx(1 + shape * order[-fit.size[0] - 1], rel=1e-7)


@pytest.mark.parametrize("tail_fraction", [0.25, 0.6, 1.0])
def test_every_number_by_hand(tail_fraction: float) -> None:
    """Groups of different sizes, one rollout left out at a time, one prompt left out at a time."""
    rewards = np.random.default_rng(0).gumbel(size=(5, 24))
    rewards[1, 3:9] = rewards[4, 13:] = math.nan
    fit = pareto_tail(torch.from_numpy(rewards), tail_fraction=tail_fraction)
    parts = [excess_by_hand(row, tail_fraction) for row in rewards]
    means, halves = [], []
    for row, (excess, threshold, below) in enumerate(parts):
        k, shape = len(excess), shape_by_hand(excess)
        left_out = np.array([shape_by_hand(np.delete(excess, place)) for place in range(k)])
        assert (fit.size[row], fit.scored[row]) == (k, (~np.isnan(rewards[row])).sum())
        assert fit.threshold[row].item() == threshold
        assert fit.mean_excess[row].item() == pytest.approx(excess.mean())
        assert fit.prompt_shape[row].item() == pytest.approx(shape)
        assert fit.prompt_shape_error[row].item() == pytest.approx(math.sqrt((k - 1) * left_out.var()))
        unit = max(below, 0.1 * excess.mean())
        means.append(excess.mean() / unit)
        halves.append(excess.mean() / (2 - shape) / unit)
    assert fit.shape == pytest.approx(2 - sum(means) / sum(halves))
    without = [2 - (sum(means) - mean) / (sum(halves) - half) for mean, half in zip(means, halves, strict=True)]
    assert fit.shape_error == pytest.approx(math.sqrt(4 * np.var(without)))
    np.testing.assert_allclose(fit.scale, fit.mean_excess * (1 - fit.shape))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n", [32, 128])
def test_the_pooled_shape_is_unbiased_and_its_error_right(shape: float, n: int) -> None:
    """64 prompts of different location and scale, 200 times: SciPy draws. A prompt alone is biased, as is written."""
    generator = np.random.default_rng(1)
    scales = np.exp(generator.normal(size=(200, 64, 1)))
    rewards = 3 * scales + scales * stats.genpareto.rvs(shape, size=(200, 64, n), random_state=generator)
    fits = [pareto_tail(torch.from_numpy(table)) for table in rewards]
    found, errors = np.array([fit.shape for fit in fits]), np.array([fit.shape_error for fit in fits])
    assert abs(found.mean() - shape) < 0.008 + 2.5 * found.std() / math.sqrt(200)
    assert np.sqrt((errors**2).mean()) == pytest.approx(found.std(), rel=0.2)
    assert 0.9 <= np.mean(np.abs(found - shape) < stats.t.isf(0.025, 63) * errors) <= 0.985
    prompts, errors = (
        torch.cat([getattr(fit, name) for fit in fits]) for name in ("prompt_shape", "prompt_shape_error")
    )
    assert -0.25 < float(prompts.mean()) - shape < 0
    covered = (prompts - shape).abs() < stats.t.isf(0.025, n // 4 - 1) * errors
    assert 0.92 <= float(covered.double().mean()) <= 0.985


def test_offset_scale_order_and_unscored_rollouts_do_not_matter() -> None:
    rewards = torch.randn(6, 40, dtype=torch.float64, generator=torch.manual_seed(2))
    fit = pareto_tail(rewards)
    padded = torch.cat([torch.full((6, 3), math.nan, dtype=torch.float64), 8 * rewards.flip(1) - 64], dim=1)
    other = pareto_tail(padded)
    assert (other.shape, other.shape_error) == pytest.approx((fit.shape, fit.shape_error))
    torch.testing.assert_close(other.threshold, 8 * fit.threshold - 64)
    torch.testing.assert_close(other.scale, 8 * fit.scale)
    torch.testing.assert_close(other.prompt_shape_error, fit.prompt_shape_error)


def test_a_prompt_with_a_huge_spread_decides_no_more_than_the_others() -> None:
    """With one prompt of a thousand times the scale, and a tail of its own, the pooled shape is that of the many."""
    generator = np.random.default_rng(3)
    rewards = generator.exponential(size=(50, 200))
    without = pareto_tail(torch.from_numpy(rewards[1:])).shape
    rewards[0] = 1e3 * generator.uniform(size=200)
    assert abs(pareto_tail(torch.from_numpy(rewards)).shape - without) < 0.03


def test_prompts_without_spread_are_left_out() -> None:
    rewards = torch.randn(5, 40, dtype=torch.float64, generator=torch.manual_seed(4))
    expected = pareto_tail(rewards[:1])
    rewards[1] = 0.3  # all equal
    rewards[2, :12] = 7.7  # the tail is an atom
    rewards[3] = math.nan
    rewards[4, 2:] = math.nan  # one in the tail
    fit = pareto_tail(rewards)
    assert (fit.shape, fit.shape_error) == (expected.shape, expected.shape_error)
    assert fit.shape_error == fit.prompt_shape_error[0].item() > 0
    assert fit.prompt_shape.isnan().tolist() == fit.prompt_shape_error.isnan().tolist() == [False, *[True] * 4]
    assert fit.mean_excess.isnan().tolist() == [False, False, False, True, True]
    assert fit.mean_excess[1].item() == 0
    nothing = pareto_tail(rewards[1:])
    assert math.isnan(nothing.shape)
    assert math.isnan(nothing.shape_error)


def test_zeros_and_ones_do_no_harm() -> None:
    """Where less than the tail succeeds, half the mean difference of k zeros and ones is p (1 - p) k / (k - 1)."""
    rewards = torch.zeros(3, 40)
    rewards[0, :4] = rewards[1, :20] = 1
    fit = pareto_tail(rewards)
    assert fit.prompt_shape[0].item() == pytest.approx(2 - 1 / (0.6 * 10 / 9))
    assert fit.prompt_shape.isnan().tolist() == [False, True, True]


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="tail_fraction"):
        pareto_tail(torch.zeros(2, 8), tail_fraction=0.0)
    with pytest.raises(ValueError, match="inf"):
        pareto_tail(torch.tensor([[0.0, math.inf, 1.0]]))
