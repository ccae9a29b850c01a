"""A grid whose training is interrupted, and one that is interrupted itself in the background."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.torch import load_file

from tailgrad.cli.main import main
from tailgrad.grid import GridConfig
from tailgrad.grid.commands import model_folder, training_job
from tailgrad.grid.run import _forget_if_past
from tailgrad.grid.trainings import testing as measurements_of
from tailgrad.grid.trainings import trials
from tailgrad.quickstart.task import build_prompts
from tailgrad.rollouts.generation import TRAINING_RECORD
from tailgrad.training.saving import SaveAtSteps


def test_a_training_interrupted_in_a_later_epoch_ends_with_the_same_weights(
    new_grid: Callable[[], GridConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps are an epoch; the training is interrupted amid the second and again at the end of it."""
    ends = []
    for stops in ([], [3, 4]):
        config = new_grid()
        config = replace(config, train={**config.train, "max_steps": 6}, checkpoints=(5,))
        (config.folder / "train.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in build_prompts("train")[:4])
        )
        training = trials(config)[1]
        save = SaveAtSteps.on_save

        def stop(self, args, state, control, save=save, left=stops, **kwargs) -> None:
            save(self, args, state, control, **kwargs)
            if state.global_step in left:
                left.remove(state.global_step)
                raise KeyboardInterrupt

        with monkeypatch.context() as patch, contextlib.chdir(config.folder):
            patch.setattr(SaveAtSteps, "on_save", stop)
            codes = [main(list(training_job(config, training).argv)) for _ in range(1 + len(stops))]
        assert codes == [130] * (len(codes) - 1) + [0]
        assert not stops
        folder = model_folder(config, training)
        assert {path.name for path in folder.glob("checkpoint-*")} == {"checkpoint-5", "checkpoint-6"}
        ends.append(load_file(folder / "checkpoint-6" / "model.safetensors"))
    assert all(ends[0][name].equal(ends[1][name]) for name in ends[0])


def test_a_training_that_is_forgotten_goes_whole_even_if_that_is_cut_off(
    make_grid: Callable[..., GridConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_grid(train={"max_steps": 4}, checkpoints=[2])
    training = trials(config)[0]
    folder, remove = model_folder(config, training), shutil.rmtree

    def train() -> None:
        for step in (1, 4):  # and not 2
            (folder / f"checkpoint-{step}").mkdir(parents=True)
            (folder / f"checkpoint-{step}" / TRAINING_RECORD).touch()

    def cut_off(path: Path, **kwargs: Any) -> None:
        if path.exists():
            remove(path / "checkpoint-4")
            raise KeyboardInterrupt

    train()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", cut_off)
        with pytest.raises(KeyboardInterrupt):
            _forget_if_past(config, training, measurements_of(config, training))
    assert not folder.exists()
    train()
    _forget_if_past(config, training, measurements_of(config, training))
    assert list(folder.parent.iterdir()) == []


def test_an_interrupt_ends_a_grid_that_was_started_in_the_background(
    new_grid: Callable[[], GridConfig], tmp_path: Path
) -> None:
    """A shell starts `command &` with SIGINT ignored; whoever interrupts twice leaves no command behind either."""
    config = new_grid()
    command = [sys.executable, "-m", "tailgrad.cli.main", "grid", "--config", str(config.folder / "grid.yaml")]
    with (tmp_path / "output").open("w") as output:
        parent = subprocess.Popen(
            ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command], stdout=output, stderr=subprocess.STDOUT
        )
    try:
        children: list[psutil.Process] = []
        while len(children) < 2:  # a command and its guard
            assert parent.poll() is None, (tmp_path / "output").read_text()
            time.sleep(0.1)
            children = psutil.Process(parent.pid).children(recursive=True)
        parent.send_signal(signal.SIGINT)
        time.sleep(0.05)
        parent.send_signal(signal.SIGINT)
        assert parent.wait(timeout=60) in (130, -signal.SIGINT)  # the second may come while Python shuts down
        assert psutil.wait_procs(children, timeout=10)[1] == []
    finally:
        parent.kill()
        parent.wait()
