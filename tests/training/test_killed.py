"""A training that is killed and resumed ends where one that was not killed ends."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tailgrad.cli.main import main
from tailgrad.quickstart.task import build_prompts
from tailgrad.training.resume import last_checkpoint, step_of

STEPS = 10


@pytest.fixture
def command(policy, tmp_path: Path):
    data = tmp_path / "prompts.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in build_prompts("train")[:6]))  # 6 steps are an epoch
    options = f"""--model_name_or_path {policy} --dataset_name {data} --reward_funcs tailgrad.quickstart.task.verifier
        --num_generations 8 --per_device_train_batch_size 16 --num_iterations 2 --max_completion_length 6
        --max_steps {STEPS} --save_steps 2 --learning_rate 1e-2 --beta 0.05 --seed 5 --deploy_n 64 --logging_steps 1
        --report_to none --use_cpu true --bf16 false --gradient_checkpointing false --disable_tqdm true
        --resume_from_checkpoint last"""

    def make(out: Path) -> list[str]:
        return [
            sys.executable,
            "-m",
            "tailgrad.cli.main",
            "train",
            *options.split(),
            "--output_dir",
            str(out),
        ]

    return make


def steps_logged(log: Path) -> int:
    return log.read_text().count("'reward'") if log.exists() else 0


def run_until(command: list[str], log: Path, step: int) -> None:
    """Run a training and kill it with signal 9 once it has logged so many steps."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | {"PYTHONUNBUFFERED": "1"}
        )
    while steps_logged(log) < step and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.nightly  # processes of their own; tests/faults/test_kills.py kills forked ones for every change
@pytest.mark.parametrize("kills", [1, 3])
def test_killed_and_resumed_it_ends_with_the_same_weights(command, policy, tmp_path: Path, kills: int) -> None:
    assert main(command(tmp_path / "whole")[3:]) == 0
    rng = random.Random()
    for attempt in range(kills):
        left = STEPS - step_of(last_checkpoint(tmp_path / "killed"))
        step = STEPS // 2 if kills == 1 else rng.randint(1, max(1, left - 1))
        run_until(command(tmp_path / "killed"), tmp_path / f"{attempt}.log", step)
        time.sleep(0.05 * rng.random())
    if kills == 1:  # amid the training, with a checkpoint behind it; of three the last may come too late
        assert not (tmp_path / "killed" / "model.safetensors").exists()
        assert step_of(last_checkpoint(tmp_path / "killed")) >= STEPS // 2 - 1
    assert main(command(tmp_path / "killed")[3:]) == 0
    whole, killed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    start = load_file(policy / "model.safetensors")
    assert any(not whole[name].equal(start[name]) for name in whole)
    assert all(whole[name].equal(killed[name]) for name in whole)


def test_killed_after_its_last_checkpoint_it_takes_no_further_step(command, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = [*command(out)[3:], "--num_iterations", "1", "--max_steps", "2", "--save_steps", "1"]
    options += ["--lr_scheduler_type", "constant"]  # a linear one would end at rate 0 and hide the step
    assert main(options) == 0
    expected = load_file(out / "model.safetensors")
    (out / "model.safetensors").unlink()  # as if killed before the trained policy was saved
    assert main(options) == 0
    found = load_file(out / "model.safetensors")
    assert all(found[name].equal(expected[name]) for name in expected)
