import math

import numpy as np
import pytest

from tailgrad.curves import best_of_n
from tailgrad.statistics import Interval
from tailgrad.tails import expected_max_normal
from tailgrad.tails.reach import ReachTest, reach_tests
from tailgrad.tails.verdict import verdict_of

CONSTANTS = {"gaussian": expected_max_normal, "exponential": lambda n: float((1 / np.arange(1, n + 1)).sum())}


def forecast_by_hand(rewards: np.ndarray, tail: str, first: int, m: int, deploy_n: int) -> np.ndarray:
    """A line through two points of V_N against the expected maximum of N of the standard shape."""
    low, middle = best_of_n(rewards, [first, m]).T
    c_low, c_middle, c_high = (CONSTANTS[tail](size) for size in (first, m, deploy_n))
    return low + (middle - low) * (c_high - c_low) / (c_middle - c_low)


@pytest.mark.parametrize(("tail_fraction", "first"), [(0.25, 4), (0.5, 2), (1.0, 1), (0.1, 10)])
def test_every_error_by_hand(tail_fraction: float, first: int) -> None:
    rewards = np.random.default_rng(0).gumbel(size=(12, 100))
    tests = reach_tests(rewards, tail_fraction=tail_fraction)
    smallest = max(2 * first, 4)
    assert {test.m for test in tests} == {m for m in (4, 8, 16, 32) if m >= smallest}
    mean, best = best_of_n(rewards, [1, 64]).T
    for test in tests:
        error = forecast_by_hand(rewards, test.tail, first, test.m, 64) - best
        assert (test.deploy_n, test.factor) == (64, 64 // test.m)
        assert test.error == pytest.approx(error.sum() / (best - mean).sum(), rel=1e-9)
        assert test.low < test.error < test.high


@pytest.mark.parametrize("tail", CONSTANTS)
def test_its_own_shape_has_no_error_on_average(tail: str) -> None:
    """3,000 prompts of different location and scale; the error of the other tail is above 10% from eight times on."""
    generator = np.random.default_rng(1)
    draw = generator.normal if tail == "gaussian" else generator.exponential
    scale, location = generator.gamma(9.0, size=(3000, 1)), generator.normal(size=(3000, 1))
    for test in reach_tests(location + scale * draw(size=(3000, 64))):
        if test.tail == tail:
            assert abs(test.error) < 1.3 * (test.high - test.low) < 0.04
        elif test.factor >= 8:
            assert abs(test.error) > 0.1


def test_the_interval_covers() -> None:
    """Of 300 pools of 24 Gaussian prompts 95% is 285, give or take 3.8."""
    generator = np.random.default_rng(2)
    tests = [reach_tests(generator.normal(size=(24, 32)))[-2] for _ in range(300)]
    assert {(test.tail, test.m) for test in tests} == {("gaussian", 8)}
    assert 274 <= sum(test.low <= 0 <= test.high for test in tests) <= 296


def test_prompts_with_fewer_scored_responses_are_left_out() -> None:
    """N is what nine tenths of the prompts have."""
    rewards = np.random.default_rng(3).normal(size=(20, 40))
    rewards[0, 20:] = math.nan
    rewards[1] = math.nan
    tests = reach_tests(rewards)
    assert tests[0].deploy_n == 32
    assert tests[0].error == reach_tests(rewards[2:])[0].error


def test_what_cannot_be_tested() -> None:
    normal = np.random.default_rng(4).normal(size=(20, 15))
    assert reach_tests(normal) == reach_tests(normal[:, :0]) == []
    assert reach_tests(np.ones((20, 64))) == []
    (one, *_) = reach_tests(np.random.default_rng(5).normal(size=(1, 64)))
    assert math.isfinite(one.error)
    assert math.isnan(one.low)


def of_gaussian_tail(*errors: tuple[int, float, float]) -> list[ReachTest]:
    """Tests of N = 64: m, the Gaussian's error and its half-width; the exponential's is far off."""
    gaussian = [ReachTest("gaussian", m, 64, error, error - half, error + half) for m, error, half in errors]
    return [*gaussian, *(ReachTest("exponential", m, 64, 0.5, 0.4, 0.6) for m, *_ in errors)]


@pytest.mark.parametrize(
    ("tests", "tail", "reason", "reach"),
    [
        (of_gaussian_tail((32, 0.01, 0.02), (16, 0.02, 0.02), (8, 0.05, 0.05)), "gaussian", "tested", 8),
        (of_gaussian_tail((32, 0.01, 0.02), (16, 0.02, 0.02), (8, 0.051, 0.04)), "unknown", "few_prompts", 4),
        (of_gaussian_tail((32, 0.01, 0.02), (16, 0.02, 0.02), (8, -0.04, 0.061)), "unknown", "few_prompts", 4),
        (of_gaussian_tail((32, 0.06, 0.02), (16, 0.01, 0.02), (8, 0.01, 0.02)), "unknown", "few_prompts", 0),
        (of_gaussian_tail((32, 0.01, 0.02), (16, 0.02, 0.02), (8, 0.08, 0.02)), "none", "short", 4),
    ],
)
def test_where_a_forecast_stops_being_right(tests: list[ReachTest], tail: str, reason: str, reach: int) -> None:
    """5% of the gain, and an interval that reaches at most 10%."""
    numbers = {"constant": 0.0, "saturated": 0.0, "repeated_best": 0.0, "shape": -0.5}
    measures = {name: Interval(*(np.array([value]) for _ in range(4))) for name, value in numbers.items()}
    found = verdict_of(measures, tests, values=1000)
    assert (found.tail, found.reason, found.reach) == (tail, reason, reach)
