"""The recipe for Ray, with Ray itself: `make check-ray`."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tailgrad.rollouts import SampleConfig, ScoreConfig, rescore, sample
from tailgrad.runner import flags

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "ray" / "on_ray.py"
REWARDS = """
import os, pathlib, time

NOTES = pathlib.Path("process-1")  # a line for each time that process 1 came to score

def come(times):
    # Notes that process 1 has come; the others wait until it has come so many times.
    if os.environ.get("RANK") == "1":
        with NOTES.open("a") as file:
            print(os.getpid(), file=file)
    while os.environ.get("RANK") == "0" and (not NOTES.exists() or len(NOTES.read_text().split()) < times):
        time.sleep(0.1)

def count(completions, **columns):
    come(1)
    if os.environ.get("RANK") == "1" and len(NOTES.read_text().split()) == 1:
        time.sleep(300)
    return [float(len(text)) for text in completions]

def die(completions, **columns):
    come(4)
    if os.environ.get("RANK") == "1":
        os.kill(os.getpid(), 9)
    return [float(len(text)) for text in completions]
"""


@pytest.fixture(autouse=True)
def _rewards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ray_rewards.py").write_text(REWARDS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


def on_ray(command: str, *words: str, **options: Any) -> subprocess.Popen[str]:
    given = [sys.executable, str(RECIPE), "--num_processes", "2", command, *words, *flags(options)]
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(given, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    printed, _ = process.communicate(timeout=500)
    assert process.returncode == 0, printed
    return printed


def test_one_of_two_processes_is_killed_and_the_table_is_that_of_one(options: dict[str, Any], tmp_path: Path) -> None:
    options |= {"batch_size": 4, "reward_funcs": "ray_rewards.count"}
    process, note = on_ray("sample", **options), tmp_path / "process-1"
    while not (note.exists() and note.read_text().endswith("\n")):
        assert process.poll() is None
        time.sleep(0.1)
    os.kill(int(note.read_text()), signal.SIGKILL)
    assert str(options["out"]) in finish(process)
    one = sample(SampleConfig(**options | {"out": tmp_path / "one.parquet"}))
    assert options["out"].read_bytes() == one.read_bytes()

    scored = {"reward_funcs": "ray_rewards.count", "batch_size": 4, "selection": "reward"}
    finish(on_ray("score", str(one), out=tmp_path / "scored.parquet", **scored))
    two = rescore(ScoreConfig(one, tmp_path / "scored-by-one.parquet", **scored))
    assert (tmp_path / "scored.parquet").read_bytes() == two.read_bytes()


def test_a_process_that_dies_each_time_leaves_the_table_to_the_others(options: dict[str, Any], tmp_path: Path) -> None:
    options |= {"batch_size": 4, "reward_funcs": "ray_rewards.die"}
    process = on_ray("sample", **options)
    printed, _ = process.communicate(timeout=500)
    assert process.returncode == 1
    assert "1 of 2 processes were lost; the same command goes on" in printed
    one = sample(SampleConfig(**options | {"out": tmp_path / "one.parquet"}))
    assert options["out"].read_bytes() == one.read_bytes()


def test_a_refused_command_ends_with_its_exit_code(options: dict[str, Any]) -> None:
    process = on_ray("sample", **options | {"reward_funcs": "no_such.reward"})
    printed, _ = process.communicate(timeout=500)
    assert process.returncode == 2
    assert "no_such" in printed
