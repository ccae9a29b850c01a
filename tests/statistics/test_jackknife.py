import numpy as np

from tailgrad.statistics import jackknife_interval, mean_interval


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
