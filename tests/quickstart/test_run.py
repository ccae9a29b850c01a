"""The quickstart from start to finish, at a fraction of its length."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tailgrad.cli.main import main
from tailgrad.jobs import Job, run_side_by_side


def test_quickstart_draws_the_curves_and_goes_on_where_it_stopped(base_policy: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "quickstart"
    shutil.copytree(base_policy, out / "base")
    command = ["quickstart", "--out", str(out), "--steps", "2", "--n", "16"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "Best of the first" in printed
    report = json.loads((out / "report" / "curve.json").read_text())
    assert {"base", "grpo", "tea"} == {run["name"] for run in report["runs"]}
    assert (out / "report" / "curve.png").stat().st_size > 10_000

    kept = {path: path.stat().st_mtime_ns for path in out.glob("rollouts/*.parquet")}
    shutil.rmtree(out / "models" / "tea-seed0")
    next(out.glob("rollouts/tea*.parquet")).unlink()
    assert main(command) == 0
    unchanged = [path for path, written in kept.items() if path.stat().st_mtime_ns == written]
    assert len(unchanged) == 2

    assert main([*command[:-1], "8"]) == 2
    assert "other settings" in capsys.readouterr().err


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
