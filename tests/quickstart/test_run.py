"""The quickstart from start to finish, at a fraction of its length."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from in_process import InProcess
from tailgrad import __version__
from tailgrad.cli.main import main
from tailgrad.curves import Rollouts
from tailgrad.files import locked, replacing_folder
from tailgrad.quickstart.config import QuickstartConfig
from tailgrad.quickstart.policy import _RECORD, FIT, fit_base_policy
from tailgrad.quickstart.run import _at_equal_kl, _measured_steps, _training_jobs, quickstart
from tailgrad.rollouts.generation import TRAINING_RECORD
from tailgrad.runner import Job, run_side_by_side


@pytest.mark.parametrize("jobs", ["in this process", pytest.param("as processes", marks=pytest.mark.nightly)])
def test_quickstart_draws_the_curves_and_goes_on_where_it_stopped(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, jobs: str
) -> None:
    if jobs == "in this process":
        monkeypatch.setattr("tailgrad.quickstart.run.run_side_by_side", InProcess(keep_going=False))
        monkeypatch.setenv("TAILGRAD_EVENTS", "")
    out = tmp_path / "quickstart"
    shutil.copytree(policy, out / "base")
    (out / "base" / _RECORD).write_text(json.dumps({"tailgrad_version": __version__, **FIT}))
    command = ["quickstart", "--out", str(out), "--max_steps", "2", "--n", "16"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "Best of the first" in printed
    report = json.loads((out / "report" / "curve.json").read_text())
    assert {"base", "grpo", "tea", "flat_tea"} == {run["name"] for run in report["runs"]}
    for figure in ("curve.png", "frontier.png"):
        assert (out / "report" / figure).stat().st_size > 10_000

    kept = {path: path.stat().st_mtime_ns for path in out.glob("rollouts/*.parquet")}
    shutil.rmtree(out / "models" / "tea-seed0")
    next(out.glob("rollouts/tea*.parquet")).unlink()
    assert main(command) == 0
    unchanged = [path for path, written in kept.items() if path.stat().st_mtime_ns == written]
    assert len(unchanged) == 6

    assert main([*command[:-1], "8"]) == 2
    assert "with other settings (n)" in capsys.readouterr().err

    record = out / "quickstart.json"
    settings = json.loads(record.read_text())
    record.write_text(json.dumps({name: value for name, value in settings.items() if name != "advantage_scaling"}))
    assert main(command) == 2  # begun before all were scaled alike by group
    assert "with other settings (advantage_scaling)" in capsys.readouterr().err
    record.write_text(json.dumps(settings))

    moved = tmp_path / "moved"
    shutil.copytree(out / "base", moved)
    (moved / "README.md").write_text("the same policy")
    assert main([*command, "--base", str(moved)]) == 0
    weights = moved / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert main([*command, "--base", str(moved)]) == 2
    assert "holds a quickstart from another base policy" in capsys.readouterr().err


def test_a_folder_that_holds_something_else_is_not_replaced_by_a_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    assert main(["quickstart", "--out", "~/out", "--base", "~/model"]) == 2
    assert "holds something else than a base policy of the quickstart" in capsys.readouterr().err
    assert [path.name for path in model.iterdir()] == ["config.json"]
    assert (tmp_path / "out" / "quickstart.lock").is_file()
    with pytest.raises(ValueError, match="holds something else"):
        fit_base_policy(model)


def test_a_policy_whose_fit_was_killed_while_it_was_put_in_place_is_not_fitted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, rename = json.dumps({"tailgrad_version": __version__, **FIT}), os.replace
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / _RECORD).write_text("{}")

    def killed_afterwards(source: Path, place: Path) -> None:
        rename(source, place)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed_afterwards)
        with pytest.raises(KeyboardInterrupt), replacing_folder(tmp_path / "base") as new:
            (new / _RECORD).write_text(record)
    assert not (tmp_path / "base").exists()
    monkeypatch.setattr("tailgrad.quickstart.policy._fit", lambda folder, fit: pytest.fail("fitted again"))
    assert (fit_base_policy(tmp_path / "base") / _RECORD).read_text() == record
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_two_quickstarts_do_not_run_in_one_folder(tmp_path: Path) -> None:
    with locked(tmp_path / "quickstart.lock", "it"), pytest.raises(ValueError, match="written by another process"):
        quickstart(QuickstartConfig(out=str(tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == ["quickstart.lock"]


def test_a_policy_whose_training_was_cut_off_while_it_was_saved_is_trained_again(tmp_path: Path) -> None:
    config, folder = QuickstartConfig(), tmp_path / "models" / "tea-seed0"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").touch()
    jobs = partial(_training_jobs, tmp_path, tmp_path / "base", tmp_path / "train.jsonl", [("tea", 0)], config)
    assert len(jobs()) == 1
    (folder / TRAINING_RECORD).touch()
    assert jobs() == []


def test_an_estimator_may_have_options(tmp_path: Path) -> None:
    config = QuickstartConfig(estimators=("max_at_k:k=4",))
    (job,) = _training_jobs(tmp_path, tmp_path, tmp_path, [("max_at_k:k=4", 0)], config)
    words = " ".join(job.argv)
    assert "--estimator max_at_k:k=4 " in words
    assert "--save_at_steps 25 50 --" in words  # which are sampled later,
    assert "--save_total_limit" not in words  # and which this would remove


@pytest.mark.parametrize(("max_steps", "steps"), [(1, []), (2, [1]), (3, [1]), (4, [1, 2]), (100, [25, 50])])
def test_policies_are_measured_on_the_way(max_steps: int, steps: list[int]) -> None:
    assert _measured_steps(QuickstartConfig(max_steps=max_steps)) == steps


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--processes", "0"], "processes is 0; it must be at least 1"),
        (["--max_steps", "-1"], "max_steps is -1; it must be at least 1"),
        (["--n", "0"], "n is 0; it must be at least 1"),
        (["--seeds", "0", "0"], "seeds must name at least one and none twice"),
        (["--seeds", "-1"], "each must be 0 or more"),
        (["--learning_rate", "nan"], "learning_rate is nan"),
        (["--beta", "-0.1"], "beta is -0.1"),
        (["--estimators", "te"], "unknown estimator 'te', did you mean 'tea'"),
        (["--estimators", "max_at_k"], "max_at_k needs the option k"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["quickstart", "--out", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_job_that_fails_shows_the_end_of_its_log(tmp_path: Path) -> None:
    job = Job(
        "broken",
        ["curve", str(tmp_path / "no.parquet"), "--out", "x"],
        tmp_path / "log",
        1,
    )
    with pytest.raises(RuntimeError, match=r"(?s)broken failed \(exit code 2.*no\.parquet"):
        run_side_by_side([job], processes=2)


def test_a_terminated_quickstart_leaves_no_process_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tailgrad.cli.main", "quickstart", "--out", str(tmp_path)]
    parent = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    children: list[psutil.Process] = []
    while len(children) < 2:  # a command and its guard
        assert parent.poll() is None
        time.sleep(0.1)
        children = psutil.Process(parent.pid).children(recursive=True)
    parent.terminate()
    assert parent.wait(timeout=60) == 128 + signal.SIGTERM
    assert psutil.wait_procs(children, timeout=10)[1] == []


def test_a_slow_estimator_is_compared_with_a_fast_one_at_equal_kl(tmp_path: Path) -> None:
    """As in the quickstart itself: GRPO goes twice as far as TEA."""
    config = QuickstartConfig(estimators=("grpo", "tea"))
    generator = np.random.default_rng(0)

    def measured(kl: float) -> Rollouts:
        rewards = generator.normal(np.sqrt(kl), 0.1, (20, 128)).astype(np.float32)
        return Rollouts(rewards=rewards, kl=np.full(20, kl), name="run")

    runs = {"base": measured(0.0)}
    for estimator, path in {"grpo": (1.4, 3.1, 5.0), "tea": (0.7, 1.5, 2.6)}.items():
        labels = (f"{estimator}-seed0{end}" for end in ("-step25", "-step50", ""))
        runs |= {label: measured(kl) for label, kl in zip(labels, path, strict=True)}
    lines = _at_equal_kl(runs, config, tmp_path / "frontier").splitlines()
    assert lines[0] == "V_128 at equal KL (nats per response), from step 25 of 100 on"
    (row,) = [line.split("|") for line in lines if line.startswith("| 2 ")]
    difference = float(row[4].split()[0])
    assert abs(difference) < 0.1
