"""`tailgrad sample` and `score` under torchrun: the table is to the byte that of one process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tailgrad.rollouts import SampleConfig, ScoreConfig, rescore, sample
from tailgrad.runner import flags

REWARDS = """
import os, time

def count(completions, **columns):
    if os.environ.get("SLOWLY") and int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) == 0:
        with open(f"pid-of-{os.environ['RANK']}", "w") as file:
            file.write(str(os.getpid()))
        time.sleep(60 if os.environ["RANK"] == "1" else 0)
    return [float(len(text)) for text in completions]

def negative(completions, **columns):
    return [-float(len(text)) for text in completions]
"""


@pytest.fixture(autouse=True)
def _rewards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "launched_rewards.py").write_text(REWARDS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


def torchrun(*words: str, processes: int = 2, **environment: str) -> subprocess.Popen[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return subprocess.Popen(
        [*launcher, *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def sampled(options: dict[str, Any]) -> list[str]:
    """The words of `tailgrad sample` in two parts."""
    return ["-m", "--", "tailgrad.cli.main", "sample", *flags(options | {"reward_funcs": "launched_rewards.count"})]


def sample_alone(options: dict[str, Any], tmp_path: Path) -> Path:
    out = tmp_path / "alone.parquet"
    return sample(SampleConfig(**options | {"reward_funcs": "launched_rewards.count", "out": out}))


def test_torchrun_samples_the_table_of_one_process(options: dict[str, Any], tmp_path: Path) -> None:
    options |= {"batch_size": 4}
    process = torchrun(*sampled(options))
    printed, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    assert printed == f"{options['out']}\n"
    assert options["out"].read_bytes() == sample_alone(options, tmp_path).read_bytes()
    assert not Path(f"{options['out']}.parts").exists()


@pytest.mark.nightly
def test_accelerate_samples_the_table_of_one_process(options: dict[str, Any], tmp_path: Path) -> None:
    options |= {"batch_size": 4}
    recipe = Path(__file__).resolve().parents[2] / "recipes" / "accelerate" / "multi_gpu.yaml"
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(recipe)]
    launcher += ["--num_processes", "2", "--main_process_port", "0"]
    subprocess.run([*launcher, *sampled(options)], check=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert options["out"].read_bytes() == sample_alone(options, tmp_path).read_bytes()


@pytest.mark.nightly
@pytest.mark.parametrize("processes", [3, 4])
def test_torchrun_scores_the_table_of_one_process(options: dict[str, Any], tmp_path: Path, processes: int) -> None:
    table = sample_alone(options, tmp_path)
    scored = {"out": tmp_path / "many.parquet", "reward_funcs": "launched_rewards.negative", "batch_size": 4}
    process = torchrun("-m", "--", "tailgrad.cli.main", "score", str(table), *flags(scored), processes=processes)
    printed, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    assert printed == f"{scored['out']}\n"
    one = rescore(ScoreConfig(table, **scored | {"out": tmp_path / "one.parquet"}))
    assert scored["out"].read_bytes() == one.read_bytes()


@pytest.mark.nightly
@pytest.mark.parametrize("restarts", [0, 1])
def test_a_killed_process_ends_torchrun_or_is_started_again(
    options: dict[str, Any], tmp_path: Path, restarts: int
) -> None:
    options |= {"batch_size": 4}
    process = torchrun("--max_restarts", str(restarts), *sampled(options), SLOWLY="yes")
    pid = tmp_path / "pid-of-1"
    while not (pid.exists() and pid.read_text()):
        assert process.poll() is None
        time.sleep(0.1)
    assert psutil.Process(int(pid.read_text())).ppid() == process.pid
    os.kill(int(pid.read_text()), signal.SIGKILL)
    _, error = process.communicate(timeout=300)
    if restarts == 0:
        assert process.returncode == 1
        assert not options["out"].exists()
        process = torchrun(*sampled(options), processes=1)
        _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    assert options["out"].read_bytes() == sample_alone(options, tmp_path).read_bytes()
