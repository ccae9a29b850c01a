"""What a training tells of itself while it runs: one event per step, where it goes on from, and how long it took."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tailgrad.cli.main import main
from tailgrad.events import VARIABLE, EventReader
from tailgrad.quickstart.task import build_prompts


def test_a_training_tells_its_steps_and_a_resumed_one_where_it_goes_on(
    policy: Path, options: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rollouts are generated at every second step alone, so that the others log no reward."""
    data = tmp_path / "prompts.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in build_prompts("train")[:24]))
    changes = {"num_iterations": 2, "max_steps": 4, "save_strategy": "steps", "save_steps": 2, "deploy_n": 64}
    given = options(**changes) | {"model_name_or_path": policy, "dataset_name": data}
    given |= {"reward_funcs": "tailgrad.quickstart.task.verifier", "resume_from_checkpoint": "last"}
    argv = ["train", *(word for name, value in given.items() for word in (f"--{name}", str(value)))]
    monkeypatch.setenv(VARIABLE, str(tmp_path / "events.jsonl"))
    events = EventReader(tmp_path / "events.jsonl")
    assert main(argv) == 0
    start, *steps, end = events.new()
    assert start == {"kind": "start", "step": 0}
    assert [event["step"] for event in steps] == [1, 2, 3, 4]
    assert (end["kind"], end["seconds"] > 0) == ("end", True)
    assert [event["reward"] is None for event in steps] == [False, True, False, True]
    logged = json.loads((tmp_path / "out" / "checkpoint-4" / "trainer_state.json").read_text())["log_history"]
    for event, log in zip(steps, logged, strict=True):
        told = (event["reward"], event["forecast"], event["kl"])
        assert told == (log.get("reward"), log.get("tail/forecast_best_of_64"), log.get("kl"))

    shutil.rmtree(tmp_path / "out" / "checkpoint-4")
    assert main(argv) == 0
    assert [(event["kind"], event.get("step")) for event in events.new()] == [
        *(("start", 2), ("step", 3), ("step", 4)),
        ("end", None),
    ]
