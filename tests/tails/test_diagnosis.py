"""What the diagnosis says of rewards whose shape is known, and each number by another way."""

import math

import numpy as np
import pytest
import torch
from numpy.random import Generator

from tailgrad.statistics import mean_interval
from tailgrad.tails import TailDiagnosis, diagnose_tails, pareto_tail, tail_statistics, upper_tail_qq

SHAPE = (64, 256)


def pool(name: str, generator: Generator, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Rewards of a known distribution, with another location and scale for every prompt where that keeps it."""
    normal, uniform = generator.normal(size=shape), generator.uniform(size=shape)
    location, scale = 5 * generator.normal(size=(shape[0], 1)), generator.gamma(9.0, size=(shape[0], 1))
    pools = {
        "gaussian": location + scale * normal,
        "exponential": location + scale * generator.exponential(size=shape),
        "uniform": location + scale * uniform,
        "student_t3": location + scale * generator.standard_t(3, size=shape),
        "lognormal": np.exp(normal),
        "one_percent_far_up": normal + 8 * (uniform < 0.01),
        "two_bumps": np.where(uniform < 0.1, 4 + 0.5 * normal, normal),
        "zero_one": (uniform < 0.1) * 1.0,
        "capped": np.minimum(normal, 1.0),
        "half_solved": np.where(np.arange(shape[0])[:, None] % 4 == 0, normal, np.minimum(normal, -0.5)),
        "integers": np.round(2 * normal),
        "levels": np.clip(np.floor(normal), -2, 1),
        "constant": np.broadcast_to(location, shape).copy(),
    }
    return pools[name]


@pytest.mark.parametrize(
    ("name", "tail", "reason"),
    [
        ("gaussian", "gaussian", "tested"),
        ("integers", "gaussian", "tested"),
        ("exponential", "exponential", "tested"),
        ("uniform", "none", "short"),
        ("two_bumps", "none", "short"),
        ("student_t3", "none", "heavy"),
        ("lognormal", "none", "heavy"),
        ("one_percent_far_up", "none", "heavy"),
        ("zero_one", "none", "two_values"),
        ("capped", "none", "capped"),
        ("levels", "none", "capped"),
        ("half_solved", "none", "saturated"),
        ("constant", "none", "constant"),
    ],
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_verdict_on_known_shapes(name: str, tail: str, reason: str, seed: int) -> None:
    found = diagnose_tails(pool(name, np.random.default_rng(seed)))
    verdict = found.verdict
    assert (verdict.tail, verdict.reason) == (tail, reason), verdict.sentence
    assert (verdict.reach >= 8) == (reason == "tested")
    assert verdict.sentence.startswith("Yes" if reason == "tested" else "No")
    assert ("pool can test no more" in verdict.sentence) == (verdict.reach == 32)


def test_what_is_not_known_is_said() -> None:
    normal = np.random.default_rng(0).normal(size=(64, 256))
    assert diagnose_tails(normal[:1]).verdict[:3] == ("unknown", "one_prompt", 0)
    assert diagnose_tails(normal[:, :15]).verdict[:3] == ("unknown", "few_rollouts", 0)
    assert diagnose_tails(normal[:3]).verdict[:2] == ("unknown", "few_prompts")
    assert diagnose_tails(normal[:1, :3]).verdict[:2] == ("unknown", "few_rollouts")


def wrong_answers(name: str, right: str, shape: tuple[int, int]) -> int:
    verdicts = [diagnose_tails(pool(name, np.random.default_rng(seed), shape)).verdict.tail for seed in range(40)]
    return sum(tail not in (right, "unknown") for tail in verdicts)


@pytest.mark.parametrize(("name", "right"), [("gaussian", "gaussian"), ("exponential", "exponential")])
def test_few_prompts_are_rather_unknown_than_wrong(name: str, right: str) -> None:
    assert wrong_answers(name, right, (16, 64)) <= 2


def check_overall(found: TailDiagnosis, name: str) -> None:
    """A mean over prompts has the interval of a mean over prompts."""
    values = found.by_prompt[name]
    expected = mean_interval(values[None, :, None])
    np.testing.assert_allclose([part[0] for part in found.measures[name][:3]], [part[0] for part in expected[:3]])


def test_the_numbers_are_those_of_the_other_functions() -> None:
    rewards = np.random.default_rng(3).gumbel(size=(12, 80))
    rewards[3, 40:] = rewards[5] = math.nan
    rewards[6] = 0.25
    found = diagnose_tails(rewards, tail_fraction=0.2)
    for tail in ("gaussian", "exponential", "uniform"):
        expected = upper_tail_qq(rewards, tail_fraction=0.4, tail=tail)
        np.testing.assert_array_equal(found.by_prompt[tail], expected.prompt_linearity)
        check_overall(found, tail)
    assert found.measures["linearity"].mean[0] == upper_tail_qq(rewards, tail_fraction=0.4).linearity
    assert 0 < found.measures["linearity"].low[0] < found.measures["linearity"].mean[0]
    assert found.measures["linearity"].mean[0] < found.measures["linearity"].high[0] < 1
    difference = np.nanmean(found.by_prompt["exponential"] - found.by_prompt["gaussian"])
    assert found.measures["exponential_minus_gaussian"].mean[0] == pytest.approx(difference)
    fit = pareto_tail(torch.from_numpy(rewards), tail_fraction=0.2)
    assert found.measures["shape"].mean[0] == fit.shape
    half = found.measures["shape"].high[0] - fit.shape
    assert half == pytest.approx(2.262157 * fit.shape_error)  # t with 9 degrees of freedom: two prompts have no shape
    spread = tail_statistics(torch.from_numpy(rewards), tail_fraction=0.2).std.numpy()
    np.testing.assert_array_equal(found.by_prompt["spread"], spread)
    check_overall(found, "spread")
    variation = np.nanstd(spread, ddof=1) / np.nanmean(spread)
    assert found.measures["spread_variation"].mean[0] == pytest.approx(variation)
    assert found.scored.tolist() == [80, 80, 80, 40, 80, 0, *[80] * 6]


def test_ties_and_what_is_at_the_best() -> None:
    rewards = np.array(
        [
            [0.0, 1.0, 1.0, 2.0, 3.0, 3.0, 3.0, 4.0],  # five of eight are tied, one is the best
            [0.0, 1.0, 2.0, 2.0, 2.0, math.nan, math.nan, math.nan],  # three of five are, and are the best
            [7.0] * 8,
            [5.0, *[math.nan] * 7],
        ]
    )
    found = diagnose_tails(rewards)
    np.testing.assert_allclose(found.by_prompt["tied"], [5 / 8, 3 / 5, 1, math.nan])
    np.testing.assert_allclose(found.by_prompt["at_best"], [1 / 8, 3 / 5, 1, math.nan])
    for name, expected in (("repeated_best", [0, 1, 1]), ("saturated", [0, 1, 1]), ("constant", [0, 0, 1])):
        np.testing.assert_array_equal(found.by_prompt[name], [*expected, math.nan])
        assert found.measures[name].mean[0] == pytest.approx(np.mean(expected))
    assert found.values == 7


def test_rewards_that_spread_by_rounding_alone_are_constant() -> None:
    rewards = np.random.default_rng(0).normal(size=(4, 60)).astype(np.float32)
    rewards[1] = np.float32(18.93)
    rewards[1, ::7] = np.nextafter(np.float32(18.93), np.float32(20))
    assert diagnose_tails(rewards).by_prompt["constant"].tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize(
    ("rewards", "message"),
    [
        (np.zeros(5), r"shape \[P, n\]"),
        (np.array([[1.0, math.inf]]), "infinite"),
        (np.full((3, 4), math.nan), "two scored"),
        (np.zeros((3, 1)), "two scored"),
        (np.zeros((0, 4)), "two scored"),
        (np.array([[0.0, 1e200, 1.0]]), r"1e\+100"),
    ],
)
def test_what_cannot_be_diagnosed_is_refused(rewards: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        diagnose_tails(rewards)


def test_a_tail_fraction_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match="tail_fraction"):
        diagnose_tails(np.random.default_rng(0).normal(size=(4, 64)), tail_fraction=1.5)


@pytest.mark.parametrize("widened", [False, True], ids=["float32", "widened, as files hold it"])
def test_prompts_that_differ_by_rounding_alone_are_in_no_number(widened: bool) -> None:
    rng = np.random.default_rng(0)
    spread = rng.normal(size=(6, 64)).astype(np.float32)
    constant = np.where(rng.random((20, 64)) < 0.5, np.float32(18.93), np.nextafter(np.float32(18.93), np.float32(99)))
    rewards = np.concatenate([spread, constant])
    found = diagnose_tails(rewards.astype(np.float64) if widened else rewards)
    alone = diagnose_tails(spread)
    assert found.measures["linearity"].prompts == 6
    np.testing.assert_allclose(found.measures["linearity"].mean, alone.measures["linearity"].mean, rtol=1e-6)
