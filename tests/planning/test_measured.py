"""What a fidelity report says of a policy: traits that are found again, and reports that cannot be used."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest

from reports import tables_of
from tailgrad.fidelity import gradient_fidelity, write_fidelity
from tailgrad.planning import MeasuredGradients, PolicyTraits, make_plan, plan_markdown, read_fidelity_report
from tailgrad.planning.measured import fitted_traits
from tailgrad.planning.replay import replay, scores
from tailgrad.planning.scoring import measures

TEA = "tea:center=true,tail_fraction=1"


def test_traits_are_found_again() -> None:
    pool = np.random.default_rng(2).normal(size=(16, 256)) * np.linspace(1, 3, 16)[:, None]
    groups = [("grpo", 8), ("cvar", 8), ("max_at_k:k=4", 8)]
    replayed = replay(pool, groups, deploy_n=32)
    direction, signal, _ = (of[:, 0] for of in measures(replayed, PolicyTraits(1234.0, 0.3, ""), np.full(3, 20)))
    points = {pair: (d, s) for pair, d, s in zip(groups, direction, signal, strict=True)}
    found = fitted_traits(replayed, groups, MeasuredGradients(20, points, "report"))
    assert found.spread_weight == pytest.approx(0.3)
    assert found.noise_directions == pytest.approx(1234.0)


@pytest.mark.parametrize("weight", [0.1, 0.8])
def test_a_report_of_a_policy_that_is_known(weight: float, tmp_path) -> None:
    """Its gradient has a location, a spread that moves so much as easily, and noise in 150 directions."""
    rng = np.random.default_rng(3)
    prompts, n, noise = 12, 512, 150
    rewards = rng.normal(size=(prompts, n))
    moved = scores(rewards).swapaxes(1, 2) * [1.0, math.sqrt(weight)]
    gradients = np.concatenate([moved, rng.normal(size=(prompts, n, noise))], axis=2)
    asked = {"estimators": ["grpo", "dr_grpo", "max_at_k:k=4", TEA], "m": [16], "deploy_n": [32]}
    write_fidelity(gradient_fidelity(rewards, gradients, **asked), tmp_path)
    measured = read_fidelity_report(tmp_path, 32)
    assert {name for name, _ in measured.points} == set(asked["estimators"])
    plan = make_plan(rewards, deploy_n=32, estimators=["cvar", TEA], m=[8, 16], measured=measured)
    assert plan.traits.spread_weight == pytest.approx(weight, abs=0.2)
    assert plan.traits.noise_directions == pytest.approx(noise, rel=0.25)
    assert plan.elsewhere == {}
    row = next(one for one in plan.rows if (one.estimator, one.m) == (TEA, 16))
    assert row.measured_direction == pytest.approx(row.direction.mean[0], abs=0.15)
    text = plan_markdown(plan)
    shown = {cells[0]: cells for cells in tables_of(text)[0]}
    assert shown["estimator"][-1] == "measured direction"
    assert shown[TEA][-1].startswith(f"{row.measured_direction:.2f}")
    assert shown["cvar"][-1] == ""
    gaps = [abs(one.direction.mean[0] - one.measured_direction) for one in plan.rows if one.measured_direction]
    assert len(gaps) == 2
    assert f"off by {np.mean(gaps):.2f} on average" in text


def test_a_report_that_hardly_knows_its_directions_says_so_in_the_plan(tmp_path) -> None:
    """Forty responses of two prompts, and noise in many directions."""
    rng = np.random.default_rng(0)
    rewards = rng.normal(size=(2, 40))
    gradients = np.concatenate([scores(rewards).swapaxes(1, 2), rng.normal(size=(2, 40, 900))], axis=2)
    asked = {"estimators": ["grpo", "tea"], "m": [8], "deploy_n": [16]}
    found = gradient_fidelity(rewards, gradients, **asked)
    write_fidelity(found, tmp_path)
    measured = read_fidelity_report(tmp_path, 16)
    assert measured.halves_agree == found.truth_agreement[16] < 0.25
    words = f"halves of its pool have cosine {measured.halves_agree:.2f}"
    known = MeasuredGradients(2, {("grpo", 8): (0.9, 0.3), ("tea", 8): (1.0, 0.1)}, "report", 0.25)
    assert any(words in note for note in make_plan(rewards, deploy_n=16, m=[8], measured=measured).notes)
    for other in (known, replace(known, halves_agree=math.nan)):
        assert not any("halves" in note for note in make_plan(rewards, deploy_n=16, m=[8], measured=other).notes)


POOL = {
    "model": "org/policy",
    "model_files": "1f",
    "reward": "org/judge",
    "reward_files": ["2e"],
    "sampling": {"n": 64, "temperature": 1.0},
    "dataset": {"name": "mine", "sha256": "3d"},
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "renamed"}, None),
        ({"dataset": {"name": "other", "sha256": "4c"}, "sampling": {"n": 512, "temperature": 1.0}}, None),
        ({"model_files": "9f"}, "another policy: model_files is '9f' there and '1f' in the rollout table"),
        ({"model_files": None, "model": "org/other"}, "another policy: model is 'org/other' there"),
        ({"reward": "org/other", "reward_files": ["8e"]}, "another reward or sampling: reward is 'org/other' there"),
        ({"sampling": {"n": 64, "temperature": 0.3}}, "another reward or sampling: temperature is 0.3 there"),
    ],
)
def test_a_report_of_another_policy_or_reward_is_refused(tmp_path, change: dict, words: str | None) -> None:
    point = {"estimator": "tea", "m": 16, "deploy_n": 64, "direction": {"mean": 0.9}, "signal_to_noise": {"mean": 0.1}}
    path = tmp_path / "fidelity.json"
    path.write_text(json.dumps({"prompts": 3, "points": [point], "pool": POOL | change}))
    if words is None:
        assert read_fidelity_report(path, 64, table=POOL).points
    else:
        with pytest.raises(ValueError, match=re.escape(words)):
            read_fidelity_report(path, 64, table=POOL)
    assert read_fidelity_report(path, 64).points, "of a table that says nothing"


def test_reports_that_cannot_be_used(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        read_fidelity_report(tmp_path / "none.json", 32)
    path = tmp_path / "fidelity.json"
    for text in ("[]", "{}", "not JSON", '{"prompts": 3, "points": [{"estimator": "tea"}]}'):
        path.write_text(text)
        with pytest.raises(ValueError, match="no report of `tailgrad fidelity`"):
            read_fidelity_report(path, 32)
    point = {"estimator": "tea", "m": 16, "deploy_n": 64, "direction": {"mean": 0.9}, "signal_to_noise": {"mean": 0.1}}
    path.write_text(
        json.dumps({"prompts": 3, "points": [point, point | {"deploy_n": 32, "direction": {"mean": None}}]})
    )
    assert read_fidelity_report(path, 64).points == {("tea", 16): (0.9, 0.1)}
    with pytest.raises(ValueError, match="no known direction at N = 32"):
        read_fidelity_report(path, 32)
    with pytest.raises(ValueError, match=r"measured tea \(m = 16\); none of these can be replayed"):
        make_plan(
            np.random.default_rng(0).normal(size=(2, 20)), deploy_n=8, m=[4], measured=read_fidelity_report(path, 64)
        )
