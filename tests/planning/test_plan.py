"""Plans: values against closed forms, a policy whose traits are known, what is chosen, and bad input."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from reports import tables_of
from tailgrad.planning import (
    Plan,
    PolicyTraits,
    make_plan,
    plan_markdown,
    write_plan,
)
from tailgrad.planning.choice import choose
from tailgrad.planning.pool import LARGEST, usable_pool
from tailgrad.planning.replay import replay
from tailgrad.planning.scoring import COMMITTED, measures
from tailgrad.planning.words import dependence
from tailgrad.statistics.intervals import Interval

TEA = "tea:center=true,tail_fraction=1"


@pytest.fixture(scope="module")
def gaussian() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(24, 512))


@pytest.fixture(scope="module")
def planned(gaussian: np.ndarray) -> Plan:
    return make_plan(gaussian, deploy_n=128, estimators=["dr_grpo", "max_at_k:k=4", TEA], m=[8, 16])


def test_values_of_the_contract(gaussian: np.ndarray) -> None:
    """Cosine and gain over noise of the table for m = 16, N = 128, where location and spread move alike."""
    replayed = replay(gaussian, [("dr_grpo", 16), ("max_at_k:k=4", 16), (TEA, 16), ("tea", 16)], deploy_n=128)
    found = measures(replayed, PolicyTraits(1e9, 1.0, ""), np.ones(4))
    np.testing.assert_allclose(found.direction[:, 0], [0.48, 0.90, 0.997, 0.99], atol=0.05)
    np.testing.assert_allclose(found.value[:, 0] * math.sqrt(1e9), [1.86, 3.28, 3.65, 2.34], rtol=0.05)
    location = measures(replayed, PolicyTraits(1e9, 0.0, ""), np.ones(4))
    np.testing.assert_allclose(location.value[:, 0] * math.sqrt(1e9), [3.87, 2.94, 1.99, 1.38], rtol=0.05)
    whole, quarter = found.value[2:, 0]
    assert (whole / quarter) ** 2 == pytest.approx(2.4, rel=0.1)  # times as many rollouts for the same


def test_numbers_per_prompt_are_those_of_that_prompt_alone(gaussian: np.ndarray, tmp_path: Path) -> None:
    rewards = gaussian.copy()
    rewards[3, 100:] = np.nan  # left out
    rewards[5] = 2.0  # no signal
    plan = make_plan(rewards, deploy_n=64, estimators=["tea", TEA], m=[8, 16])
    pool = usable_pool(rewards, 64)
    assert plan.used_prompts == tuple(place for place in range(24) if place != 3)
    groups = [(row.estimator, row.m) for row in plan.rows]
    replayed = replay(pool.rewards, groups, deploy_n=64)
    w, d = plan.traits.spread_weight, plan.traits.noise_directions
    for place, row in enumerate(plan.rows):
        square, along, truth = (
            part[..., 0] + w * part[..., 1] for part in (replayed.square[place], replayed.along[place], replayed.truth)
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            direction = np.where((square > 0) & (truth > 0), along / np.sqrt(square * truth), np.nan)
            signal = square * row.prompts_per_step / (d * replayed.noise[place])
        np.testing.assert_allclose(row.directions, direction, rtol=1e-12)
        np.testing.assert_allclose(row.signals_to_noise, signal, rtol=1e-12)
        assert np.isnan(row.directions[4])
        assert np.isnan(row.signals_to_noise[4])
    text = write_plan(plan, tmp_path)
    document = json.loads((tmp_path / "plan.json").read_text())
    assert document["used_prompts"] == list(plan.used_prompts)
    assert document["rows"][0]["per_prompt"]["direction"][4] is None
    table = tables_of(text)[-1]
    (cells,) = (row for row in table[1:] if row[0] == "tea")
    (own,) = (row for row in plan.rows if (row.estimator, str(row.m)) == ("tea", cells[1]))
    known = np.array(own.directions)[np.isfinite(own.directions)]
    assert cells[2] == " / ".join(f"{np.quantile(known, part):.2f}" for part in (0.25, 0.5, 0.75))
    assert cells[4] == str(len(known))


def test_what_is_chosen_follows_the_policy(planned: Plan) -> None:
    """The mean where only the location moves; the whole group's TEA where both do and steps are noisy."""
    assert planned.traits is COMMITTED
    assert planned.chosen.estimator == "grpo"
    assert not planned.robust
    directions = sorted({d for d, _ in planned.elsewhere})
    assert directions == [60.0, 600.0, 6000.0]
    assert {planned.elsewhere[d, 0.0][0] for d in directions} == {"grpo"}
    assert {planned.elsewhere[d, 1.0][0] for d in directions[1:]} == {TEA}
    assert planned.elsewhere[planned.traits.noise_directions, planned.traits.spread_weight] == ("grpo", 8)
    by_weight = [planned.mean_direction[w].mean[0] for w in (0.0, 0.1, 1.0)]
    np.testing.assert_allclose(by_weight, [1 / math.sqrt(1 + w * 2.5946**2 / 2) for w in (0.0, 0.1, 1.0)], atol=0.05)


@pytest.mark.parametrize(("of_small", "chosen"), [(0.48, 0), (0.47, 1)])
def test_a_smaller_m_is_taken_within_5_percent(of_small: float, chosen: int) -> None:
    noise = np.array([0.0, 0.001, -0.001, 0.001, -0.001])
    groups = [("tea", 8), ("tea", 32), ("grpo", 8)]
    found = choose(groups, np.array([[of_small], [0.5], [0.3]]) + noise)
    assert (found.chosen, found.best) == (chosen, 1)


def test_the_closest_rival_may_have_another_m(planned: Plan) -> None:
    rival = max((row for row in planned.rows if "grpo" not in row.estimator), key=lambda row: row.value.mean[0])
    assert f"`{rival.estimator}` with m = {rival.m} comes closest" in plan_markdown(planned)


def test_break_even_is_where_two_values_cross(gaussian: np.ndarray, planned: Plan) -> None:
    assert (planned.reference.estimator, planned.reference.m) == ("grpo", 16)
    row = next(one for one in planned.rows if (one.estimator, one.m) == ("max_at_k:k=4", 8))
    replayed = replay(gaussian, [("grpo", 16), ("max_at_k:k=4", 8)], deploy_n=128)
    steps = np.arange(16, 5000, 16)
    both = np.array([measures(replayed, COMMITTED, step / np.array([16, 8])).value[:, 0] for step in steps])
    mean, tail = both.T
    crossing = steps[np.argmax(tail > mean)]
    assert 100 < crossing < 4000
    assert row.ahead_from.mean[0] == pytest.approx(crossing, abs=16)
    assert row.ahead_from.low[0] < crossing < row.ahead_from.high[0]


def test_values_at_other_sizes_of_a_step(gaussian: np.ndarray, planned: Plan) -> None:
    place = planned.steps.index(planned.rollouts_per_step)
    for row in planned.rows:
        assert row.values[place] == pytest.approx(row.value.mean[0], rel=1e-12)
        assert sorted(row.values) == [*row.values]
        assert row.value.low[0] <= row.value.mean[0] <= row.value.high[0]
        assert row.prompts_per_step * row.m == planned.rollouts_per_step
    assert planned.chosen.difference.mean[0] == 0


@pytest.mark.parametrize(
    ("rewards", "asked", "message"),
    [
        (np.zeros((4, 64)), {}, "nothing to learn"),
        (np.arange(64.0)[None], {}, "there is one prompt"),
        (np.random.default_rng(0).normal(size=(4, 20)), {}, "needs 2 N = 32 scored responses"),
        (np.random.default_rng(0).normal(size=(4, 64)), {"deploy_n": 1}, "must be at least 2"),
        (np.full((2, 64), np.inf), {}, r"rewards\[0, 0\] is inf"),
        (np.random.default_rng(0).normal(size=(4, 64)), {"m": [33]}, "must lie between 2 and 32"),
        (np.random.default_rng(0).normal(size=(4, 64)), {"m": [12]}, "does not hold whole groups"),
        (np.random.default_rng(0).normal(size=(4, 64)), {"m": [4, 4]}, "none twice"),
        (np.random.default_rng(0).normal(size=(4, 64)), {"rollouts_per_step": 7}, "give --num_generations"),
        (np.random.default_rng(0).normal(size=(4, 64)), {"estimators": ["tee"]}, "did you mean 'tea'"),
        (np.random.default_rng(0).normal(size=(4, 64)), {"estimators": ["max_at_k:k=32"], "m": [8]}, "at least 32"),
        (np.random.default_rng(0).normal(size=(4, 64)), {"estimators": ["tea:deploy_n=64"]}, "leave it out"),
        (np.random.default_rng(0).normal(size=(4, 64)), {"estimators": ["pass_at_k:k=2"]}, "0 and 1 only"),
    ],
)
def test_bad_input_is_refused_in_a_line(rewards: np.ndarray, asked: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        make_plan(rewards, **{"deploy_n": 16} | asked)
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("without_shape_checks")
def test_rewards_that_are_no_matrix_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be a matrix \[P, n\]"):
        make_plan(np.zeros(64), deploy_n=16)


def test_a_pool_without_a_signal_of_v_n_is_refused() -> None:
    """Two prompts whose halves contradict each other: nothing is known, and nothing made up."""
    pool = np.zeros((2, 64))
    pool[:, 0] = 1.0  # one response of the first half alone is better
    with pytest.raises(ValueError, match="Sample more responses"):
        make_plan(pool, deploy_n=32, m=[8])


@pytest.mark.parametrize("seed", range(4))
def test_a_cosine_that_cannot_be_is_no_plan(seed: int) -> None:
    """Of normal rewards a few are a million: the gradient of V_N is theirs, and the halves of the pool share none."""
    rng = np.random.default_rng(seed)
    pool = rng.normal(size=(12, 64)) + 1e6 * (rng.random((12, 64)) < 0.002)
    with pytest.raises(ValueError, match=r"comes out as .*, and no cosine is above 1\. Sample more responses") as told:
        make_plan(pool, deploy_n=16)
    assert "\n" not in str(told.value)


def test_what_is_hardly_known_is_not_called_robust() -> None:
    interval = Interval(*(np.array([number]) for number in (0.5, 0.1, 0.9)), np.array([8]))
    plan = make_plan(np.random.default_rng(1).normal(size=(24, 256)), deploy_n=16, estimators=["grpo", "tea"], m=[8])
    same = dict.fromkeys(plan.elsewhere, (plan.chosen.estimator, plan.chosen.m))
    plan = dataclasses.replace(plan, elsewhere=same)
    assert dependence(plan).startswith("Robust")
    noisy = dataclasses.replace(plan, chosen=dataclasses.replace(plan.chosen, value=interval))
    assert "hardly known" in dependence(noisy)
    assert "Robust" not in dependence(noisy)


@pytest.mark.parametrize("levels", [2, 5])
def test_rewards_with_ties(levels: int) -> None:
    rng = np.random.default_rng(0)
    success = rng.beta(0.5, 4.0, size=(32, 1))
    rewards = rng.binomial(levels - 1, success, size=(32, 256)).astype(float)
    rewards[0] = 0.0
    plan = make_plan(rewards, deploy_n=32)
    assert any("equal rewards" in note for note in plan.notes)
    assert any("0 and 1" in note for note in plan.notes) == (levels == 2)
    assert any("nearly always the largest" in note for note in plan.notes) == (levels == 2)
    known = [row for row in plan.rows if np.isfinite(row.value.mean[0])]
    assert len(known) > 30
    assert plan.chosen in known
    if levels == 2:  # the spread of a 0/1 reward is its mean
        assert len({interval.mean[0] for interval in plan.mean_direction.values()}) == 1
        assert {estimator for estimator, _ in plan.elsewhere.values()} == {plan.chosen.estimator}


def test_prompts_with_different_numbers_of_responses() -> None:
    rng = np.random.default_rng(0)
    rewards = rng.normal(size=(6, 100))
    rewards[1, 70:], rewards[2, 10:], rewards[3, 5] = np.nan, np.nan, np.nan
    pool, used, notes = usable_pool(rewards, 16)
    assert pool.shape == (5, 70)
    assert used.tolist() == [0, 1, 3, 4, 5]
    assert np.isfinite(pool).all()
    np.testing.assert_array_equal(pool[2], np.delete(rewards[3], 5)[:70])
    assert len(notes) == 2


def test_ten_million_rewards_are_cut_and_it_is_said() -> None:
    rewards = np.random.default_rng(0).random((10_000, 1000), dtype=np.float32)
    pool, _, notes = usable_pool(rewards, 32)
    assert pool.shape[1] == 1000
    assert LARGEST // 2 < pool.size <= LARGEST
    assert any("of 10000 prompts" in note for note in notes)
    wide, _, notes = usable_pool(rewards.reshape(20, -1), 32)
    assert len(wide) == 20
    assert LARGEST // 2 < wide.size <= LARGEST
    assert any("13,106" in note for note in notes)


def test_n_within_reach_of_m_is_compared_with_the_unbiased_estimator(gaussian: np.ndarray) -> None:
    plan = make_plan(gaussian[:4, :64], deploy_n=12)
    assert {row.m for row in plan.rows if row.estimator == "max_at_k:k=12"} == {16, 32}


def test_the_text_says_what_the_numbers_say(planned: Plan) -> None:
    text = plan_markdown(planned)
    assert text.startswith("Take `grpo` with m = 8, 16 prompts per step of 128 rollouts")
    elsewhere, numbers, by_m, per_prompt = tables_of(text)
    assert len(elsewhere) == 4
    rows = {(row.estimator, row.m): row for row in planned.rows}
    shown = [rows[cells[0], int(cells[1])].value.mean[0] for cells in numbers[1:]]
    assert shown == sorted(shown, reverse=True)
    assert len(shown) == 4
    assert by_m[0] == ["estimator", "m = 8", "m = 16"]
    assert [cells[:2] for cells in per_prompt[1:]] == [cells[:2] for cells in numbers[1:]]
    assert f"{planned.chosen.value.mean[0]:.3f} [" in text
