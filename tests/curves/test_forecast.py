"""The forecast beyond the responses, in the numbers, the table, the JSON and the figure of a curve."""

import json
from pathlib import Path

import numpy as np
import pytest

from tailgrad.curves import Rollouts, compare, forecast_curve, write_report
from tailgrad.statistics import mean_interval
from tailgrad.tails import expected_max_normal


def normal(prompts: int, n: int, seed: int, name: str = "base") -> Rollouts:
    return Rollouts(np.random.default_rng(seed).normal(size=(prompts, n)), name=name)


def test_the_forecast_of_several_seeds_is_their_mean_and_so_is_its_error() -> None:
    runs = [normal(32, 64, seed) for seed in range(4)]
    alone = [forecast_curve([run], [512, 1024]) for run in runs]
    together = forecast_curve(runs, [512, 1024])
    assert together.v_n.mean == pytest.approx(np.mean([one.v_n.mean for one in alone], axis=0))
    errors = np.array([one.high - one.v_n.mean for one in alone])
    assert together.high - together.v_n.mean == pytest.approx(errors.mean(axis=0))
    assert (together.low < expected_max_normal(512)).any()


def test_the_interval_over_prompts_holds_both_errors() -> None:
    rewards = np.random.default_rng(0).normal(size=(32, 64)) + 5 * np.arange(32)[:, None]
    found = forecast_curve([Rollouts(rewards)], [512])
    over_prompts = mean_interval(rewards.max(axis=1)[None, :, None])
    own, whole = found.high - found.v_n.mean, found.v_n.high - found.v_n.mean
    assert whole > over_prompts.high - over_prompts.mean - 1
    assert whole**2 - own**2 == pytest.approx((over_prompts.high - over_prompts.mean) ** 2, rel=0.1)


def test_a_seed_that_may_not_be_trusted_refuses_for_its_method() -> None:
    heavy = Rollouts(np.random.default_rng(0).standard_t(1.5, size=(32, 64)), name="base")
    found = forecast_curve([normal(32, 64, 0), heavy], [512])
    assert "heavy" in found.refused[0]
    assert np.isnan([*found.v_n.mean, *found.low]).all()


def test_another_reward_that_picks_is_refused() -> None:
    rewards = np.random.default_rng(0).normal(size=(8, 32))
    with pytest.raises(ValueError, match="another reward picks"):
        forecast_curve([Rollouts(rewards, selection_rewards=rewards)], [64])


def test_no_interval_of_a_success_rate_goes_beyond_1() -> None:
    rng = np.random.default_rng(0)
    rewards = (rng.random((24, 64)) < rng.beta(1, 3, size=(24, 1))).astype(float)
    found = forecast_curve([Rollouts(rewards)], [128, 1024])
    assert (found.v_n.high == 1).any()
    assert (found.v_n.high <= 1).all()


def test_prompts_without_a_forecast_are_counted_in_the_report(tmp_path: Path) -> None:
    rewards = np.random.default_rng(0).normal(size=(24, 64))
    rewards[:3, 12:] = np.nan
    write_report([Rollouts(rewards, name="base")], tmp_path, forecast_n=[128])
    assert "the forecast is of the 21 of 24 prompts" in (tmp_path / "curve.md").read_text()


def test_too_few_responses_are_a_reason_and_no_error(tmp_path: Path) -> None:
    write_report([normal(8, 3, 0)], tmp_path, forecast_n=[64])
    assert "3 scored responses per prompt are too few: a forecast needs 16" in (tmp_path / "curve.md").read_text()


def test_n_within_the_responses_is_refused() -> None:
    with pytest.raises(ValueError, match="above the 32 responses"):
        compare([normal(8, 32, 0)], forecast_n=[32])


def test_the_report_holds_the_forecast_and_why_it_stops(tmp_path: Path) -> None:
    runs = [normal(24, 64, 0), normal(24, 64, 1, "tuned")]
    compared = write_report(runs, tmp_path, forecast_n=[4096, 256])
    forecast = compared.curves[1].forecast
    assert forecast is not None
    assert forecast.deploy_n == (256, 4096)
    document = json.loads((tmp_path / "curve.json").read_text())
    points = document["runs"][1]["forecast"]
    assert [point["n"] for point in points] == [256, 4096]
    assert points[0]["mean"] == pytest.approx(forecast.v_n.mean[0])
    assert points[0]["low"] < points[0]["low_of_these_prompts"] < points[0]["mean"]
    assert points[0]["refused"] is None
    assert points[1]["mean"] is None
    table = (tmp_path / "curve.md").read_text()
    assert f"{forecast.v_n.mean[0]:.2f} [{forecast.v_n.low[0]:.2f}" in table
    assert "| 4096 | refused" in table
    assert points[1]["refused"] in table


def test_without_a_forecast_nothing_is_said_of_one(tmp_path: Path) -> None:
    write_report([normal(8, 16, 0)], tmp_path)
    assert "forecast" not in (tmp_path / "curve.md").read_text().lower()
    assert json.loads((tmp_path / "curve.json").read_text())["runs"][0]["forecast"] is None


def test_the_figure_continues_the_curve_with_dashes(tmp_path: Path) -> None:
    write_report([normal(24, 64, 0)], tmp_path / "without")
    write_report([normal(24, 64, 0)], tmp_path / "with", forecast_n=[512])
    without, with_it = ((tmp_path / folder / "curve.svg").read_text() for folder in ("without", "with"))
    assert with_it.count("stroke-dasharray") == without.count("stroke-dasharray") + 1


def test_a_forecast_of_few_of_the_prompts_is_none() -> None:
    """The others need not be like them: it would be drawn as if it went on where the mean over all ends."""
    rng = np.random.default_rng(0)
    rewards = rng.normal(size=(40, 64))
    rewards[4:, 8:] = np.nan
    rewards[:4] += 5
    found = forecast_curve([Rollouts(rewards)], [128])
    assert found.refused == ("only 4 of 40 prompts have enough scored responses",)
    assert np.isnan(found.v_n.mean).all()
    whole = forecast_curve([Rollouts(rewards[:7])], [128])
    assert whole.refused == ("",)
    assert not np.isnan(whole.v_n.mean).any()


def test_one_response_per_prompt_has_a_reason_and_no_forecast() -> None:
    found = forecast_curve([Rollouts(np.arange(6.0)[:, None])], [256])
    assert found.refused[0] != ""
    assert np.isnan(found.v_n.mean).all()
