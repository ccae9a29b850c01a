import numpy as np

from tailgrad.statistics import jackknife_interval, mean_interval
from tailgrad.statistics.jackknife import means_without_each, without_each


def test_of_a_mean_it_is_the_interval_of_the_mean() -> None:
    values = np.random.default_rng(0).gamma(2.0, size=(30, 2))
    without = (values.sum(axis=0) - values) / 29
    found, expected = jackknife_interval(values.mean(axis=0), without), mean_interval(values[None])
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_it_covers_the_ratio_of_two_means() -> None:
    """20 prompts, 400 times: the truth is 2; 95% is 380, give or take 4.4."""
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        below = generator.gamma(4.0, size=20)
        above = 2 * below + generator.normal(size=20)
        ratio = np.array([above.sum() / below.sum()])
        without = ((above.sum() - above) / (below.sum() - below))[:, None]
        interval = jackknife_interval(ratio, without)
        covered += bool(interval.low[0] <= 2 <= interval.high[0])
    assert 366 <= covered <= 394


def test_without_two_prompts_or_with_a_number_that_is_not_finite_there_is_no_interval() -> None:
    one = jackknife_interval(np.array([3.0]), np.empty((0, 1)))
    assert (one.mean[0], np.isnan(one.low[0]), one.prompts[0]) == (3.0, True, 0)
    without = np.array([[1.0, 1.0], [np.inf, 3.0], [2.0, 2.0]])
    found = jackknife_interval(np.array([2.0, 2.0]), without)
    assert np.isnan(found.low).tolist() == [True, False]


def test_means_without_each_are_those_of_the_weights() -> None:
    values = np.random.default_rng(0).normal(size=(3, 4, 17))
    np.testing.assert_allclose(means_without_each(values), values @ without_each(17).T, rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(means_without_each(np.array([2.0, 5.0])), [5.0, 2.0])


def test_one_large_value_does_not_blur_the_mean_of_the_others() -> None:
    values = np.array([0.25, 0.5, 1e15, 0.75])
    assert means_without_each(values)[2] == 0.5
