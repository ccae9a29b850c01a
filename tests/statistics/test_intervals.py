"""Intervals: coverage of a known truth, and the t intervals that they must have the width of."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from interval_coverage import (
    K,
    additive,
    coverage,
    expected_max_normal,
    normal_pools,
    skewed_pools,
    values_of,
    verifier_pools,
)
from tailgrad.curves import best_of_n
from tailgrad.statistics import mean_interval, paired_difference


@pytest.mark.parametrize("prompts", [50, 100])
@pytest.mark.parametrize(
    ("pools", "budget"),
    [(normal_pools, 16), (skewed_pools, 8), (verifier_pools, 1), (verifier_pools, 16)],
)
def test_an_interval_over_prompts_covers_the_known_value(pools, budget, prompts):
    values, truth = values_of(pools, prompts, budget)
    assert 0.93 <= coverage(mean_interval(values), truth) <= 0.97


def test_a_paired_interval_covers_the_known_difference():
    rng = np.random.default_rng(1)
    mean = rng.normal(size=(50 * K, 1))
    base = mean + rng.normal(size=(50 * K, 16))
    tuned = mean + rng.normal(0.1, 0.3, size=(50 * K, 1)) + 0.8 * rng.normal(size=(50 * K, 16))
    budget = 8
    values, reference = (best_of_n(pool, [budget]).reshape(1, 50, K) for pool in (tuned, base))
    paired = paired_difference(values, reference)
    assert 0.93 <= coverage(paired, 0.1 - 0.2 * expected_max_normal(budget)) <= 0.97
    # Pairing matters: apart, the intervals of the two are wider than that of the difference.
    apart = [np.mean(one.high - one.low) for one in (mean_interval(values), mean_interval(reference))]
    assert np.mean(paired.high - paired.low) < 0.6 * min(apart)


@pytest.mark.parametrize("seed_scale", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("prompt_scale", [0.1, 1.0])
def test_an_interval_over_five_seeds_and_prompts_covers_the_known_value(seed_scale, prompt_scale):
    values = additive(np.random.default_rng(5), 5, seed_scale, prompt_scale)
    most = 0.97 if seed_scale else 0.985  # without a seed effect the larger of two estimates of one noise is taken
    assert 0.93 <= coverage(mean_interval(values), 0.0) <= most


@pytest.mark.parametrize("seed_scale", [0.0, 0.4])
@pytest.mark.parametrize("seeds", [2, 3])
def test_with_very_few_seeds_the_interval_is_not_too_narrow(seeds, seed_scale):
    values = additive(np.random.default_rng(seeds), seeds, seed_scale, prompt_scale=1.0)
    assert 0.93 <= coverage(mean_interval(values), 0.0) <= 0.995


def test_differences_of_methods_with_five_seeds_cover_the_known_value():
    rng = np.random.default_rng(6)
    prompt = rng.normal(size=(1, 50, K))
    methods = [prompt + 0.1 * rng.normal(size=(5, 1, K)) + 0.4 * rng.exponential(size=(5, 50, K)) for _ in range(2)]
    assert 0.93 <= coverage(paired_difference(*methods), 0.0) <= 0.97
    base = prompt + 0.4 * rng.normal(size=(1, 50, K))
    assert 0.93 <= coverage(paired_difference(methods[0], base), 0.4) <= 0.97


def test_the_width_is_that_of_the_t_interval():
    values = np.random.default_rng(2).normal(size=(1, 20, 400))
    interval = mean_interval(values)
    expected = stats.ttest_1samp(values[0], 0.0).confidence_interval(0.95)
    ratio = (interval.high - interval.low) / (expected.high - expected.low)
    np.testing.assert_allclose(ratio, 1.0, atol=0.05)  # one bootstrap: 4000 resamples
    np.testing.assert_allclose(ratio.mean(), 1.0, atol=0.01)


@pytest.mark.parametrize("prompts", [2, 3, 5, 9])
def test_with_few_prompts_the_width_is_that_of_the_t_interval_whatever_the_values(prompts):
    """Resampled means of two prompts take three values, of which the percentiles are the ends: 1.4 SD, not 1.96."""
    rng = np.random.default_rng(prompts)
    for values in (rng.normal(size=(1, prompts, 200)), rng.exponential(size=(1, prompts, 200))):
        interval = mean_interval(values)
        expected = stats.ttest_1samp(values[0], 0.0).confidence_interval(0.95)
        np.testing.assert_allclose(interval.high - interval.low, expected.high - expected.low, rtol=1e-9)


@pytest.mark.parametrize("prompts", [2, 3, 5, 10])
def test_with_few_prompts_an_interval_of_normal_values_covers_the_known_value(prompts):
    values = np.random.default_rng([prompts, 1]).normal(size=(1, prompts, 2 * K))
    assert coverage(mean_interval(values), 0.0) == pytest.approx(0.95, abs=0.014)  # 3.5 errors of 0.4%


def test_where_only_seeds_vary_it_is_the_t_interval_over_seeds():
    values = np.random.default_rng(3).normal(size=(30, 1, 5)).repeat(8, axis=1)
    interval = mean_interval(values)
    expected = stats.ttest_1samp(values[:, 0], 0.0).confidence_interval(0.95)
    np.testing.assert_allclose(interval.high - interval.low, expected.high - expected.low, rtol=0.05)


def test_where_seeds_agree_it_is_the_interval_over_prompts():
    one = np.random.default_rng(4).normal(size=(1, 40, 3))
    np.testing.assert_allclose(mean_interval(one.repeat(5, axis=0))[:3], mean_interval(one)[:3], rtol=1e-9)


def test_the_longer_arm_lies_on_the_side_of_the_skew():
    values = np.random.default_rng(5).exponential(size=(1, 30, 50))
    mean, low, high, _ = mean_interval(values)
    assert np.mean((high - mean) / (mean - low)) > 1.1


def test_a_prompt_that_is_unknown_in_any_seed_is_left_out():
    values = np.random.default_rng(6).normal(size=(2, 12, 3))
    values[1, 4, 1] = np.nan
    values[:, 1:, 2] = np.nan
    interval = mean_interval(values)
    assert interval.prompts.tolist() == [12, 11, 1]
    expected = mean_interval(np.delete(values, 4, axis=1))
    for part, other in zip(interval[:3], expected[:3], strict=True):
        np.testing.assert_allclose(part[1], other[1], rtol=1e-12)
    np.testing.assert_allclose(interval.mean[2], values[:, 0, 2].mean(), rtol=1e-12)
    assert np.isnan([interval.low[2], interval.high[2]]).all()


def test_unknown_everywhere_and_equal_everywhere():
    values = np.stack([np.full((1, 5), np.nan), np.full((1, 5), 0.3)], axis=-1)
    interval = mean_interval(values)
    assert np.isnan([part[0] for part in interval[:3]]).all()
    np.testing.assert_allclose([part[1] for part in interval[:3]], 0.3, rtol=1e-12)
    assert interval.prompts.tolist() == [0, 5]


def test_the_seed_of_the_bootstrap_decides():
    values = np.random.default_rng(7).normal(size=(2, 15, 2))
    np.testing.assert_array_equal(mean_interval(values, seed=1).low, mean_interval(values, seed=1).low)
    assert (mean_interval(values, seed=1).low != mean_interval(values, seed=2).low).all()


@pytest.mark.usefixtures("without_shape_checks")
def test_says_what_is_wrong_with_the_shape():
    with pytest.raises(ValueError, match=r"\[S, P, K\].*got \(3, 4\)"):
        mean_interval(np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"no empty axis, got \(1, 0, 2\)"):
        mean_interval(np.zeros((1, 0, 2)))


def test_seeds_that_agree_by_chance_do_not_make_the_interval_narrower_than_their_noise():
    noise = np.random.default_rng(4).normal(size=(8, 40, 300))
    noise -= noise.mean(axis=1, keepdims=True)  # equal means of all seeds: MS_seed is 0
    noise -= noise.mean(axis=0)  # no effect of a prompt
    interval = mean_interval(noise)
    mean_square = (noise**2).sum(axis=(0, 1)) / (7 * 39)
    expected = 2 * stats.t.isf(0.025, 7 * 39) * np.sqrt(mean_square / (8 * 40))
    np.testing.assert_allclose((interval.high - interval.low).mean(), expected.mean(), rtol=0.03)


@pytest.mark.parametrize("shape", [(1, 50, 99), (1, 7, 99), (3, 50, 99), (2, 2, 99)])
def test_equal_values_have_an_interval_of_no_width_at_their_own_place(shape):
    """Their mean rounds, for 42 of the 99 hundredths with 50 prompts, and what it rounds by is no spread."""
    constants = np.arange(1, 100) / 100
    assert ((np.ones(shape) * constants).mean(axis=(0, 1)) != constants).any() or shape[1] == 2
    for part in mean_interval(np.ones(shape) * constants)[:3]:
        np.testing.assert_array_equal(part, constants)


def test_equal_values_in_every_seed_but_other_ones_are_the_interval_over_seeds():
    values = np.array([0.1, 0.2, 0.4])[:, None, None].repeat(9, axis=1)
    interval = mean_interval(values)
    expected = stats.ttest_1samp(values[:, 0], 0.0).confidence_interval(0.95)
    np.testing.assert_allclose(interval.high - interval.low, expected.high - expected.low, rtol=0.05)


TABLES = arrays.arrays(
    np.float64,
    st.tuples(st.integers(1, 3), st.integers(2, 6), st.integers(1, 3)),
    elements=st.one_of(st.floats(-1e300, 1e300), st.sampled_from([0.1, 0.3, 0.1 + 2**-55, 1.0, np.nan])),
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(values=TABLES)
def test_an_interval_holds_its_mean_and_lies_around_the_values(values):
    mean, low, high, prompts = mean_interval(values)
    two = prompts >= 2
    assert (low[two] <= mean[two]).all()
    assert (mean[two] <= high[two]).all()
    assert np.isnan(low[~two]).all()
    assert np.isnan(high[~two]).all()
    known = ~np.isnan(values).any(axis=0)
    for place in np.flatnonzero(prompts):
        column = values[:, known[:, place], place]
        rounding = 2 * np.spacing(np.abs(column).max())
        assert column.min() - rounding <= mean[place] <= column.max() + rounding
        if column.min() == column.max() and two[place]:
            assert low[place] == mean[place] == high[place] == column[0, 0]


@pytest.mark.parametrize("offset", [1.0, -3.0, 2.0**40])
@pytest.mark.parametrize("seeds", [1, 3])
def test_an_offset_moves_the_interval_and_a_unit_stretches_it(offset, seeds):
    """Multiples of 2^-9, so that adding the offset is exact."""
    values = np.random.default_rng(8).integers(-512, 512, size=(seeds, 20, 3)) / 512
    plain, moved = mean_interval(values), mean_interval(values + offset)
    for one, other in zip(plain[:3], moved[:3], strict=True):
        np.testing.assert_allclose(other - offset, one, rtol=0, atol=2 * np.spacing(abs(offset) + 1))
    for unit in (2.0**-900, 2.0**900):  # whose squares are 0 and infinite
        for one, other in zip(plain[:3], mean_interval(values * unit)[:3], strict=True):
            np.testing.assert_array_equal(other / unit, one)


def test_an_infinite_value_is_refused_by_its_place():
    values = np.zeros((2, 4, 3))
    values[1, 2, 0] = -np.inf
    with pytest.raises(ValueError, match=r"values\[1, 2, 0\] is -inf \(seed, prompt, quantity\)"):
        mean_interval(values)


@pytest.mark.parametrize("seeds", [1, 3])
def test_of_very_many_prompts_nothing_is_resampled_and_the_interval_is_that_of_a_bootstrap(
    seeds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(0).gamma(2.0, size=(seeds, 20_000, 2))
    found = mean_interval(values)
    monkeypatch.setattr("tailgrad.statistics.intervals._MANY", 10**9)
    resampled = mean_interval(values)
    widths = resampled.high - resampled.low
    for ours, theirs in zip(found[:3], resampled[:3], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=0.03 * widths.min())
    if seeds == 1:
        expected = stats.t.interval(0.95, 19_999, values[0, :, 0].mean(), stats.sem(values[0, :, 0]))
        assert (found.low[0], found.high[0]) == pytest.approx(expected, rel=1e-9)
