"""What a training tells of itself while it runs: one event per step, where it goes on from, and how long it took."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import ProgressCallback

from tailgrad.cli.main import main
from tailgrad.events import VARIABLE, EventReader
from tailgrad.quickstart.task import build_prompts
from tailgrad.training.progress import ProgressLine, show_progress_line


def test_the_progress_line_shows_the_best_and_its_forecast_beside_the_mean(capsys: pytest.CaptureFixture[str]) -> None:
    line, state = ProgressLine(), SimpleNamespace(is_world_process_zero=True, max_steps=3, global_step=1)
    line.on_train_begin(None, state, None)
    logs = {"loss": 0.5, "reward": 0.25, "kl": 0.125, "tail/best_of_16": 0.75, "tail/forecast_best_of_1e+06": 1.5}
    line.on_log(None, state, None, logs=logs)
    line.on_log(None, state, None, logs={"eval_loss": 0.5})  # leaves it as it is
    assert line.training_bar.postfix == "reward 0.25, best of 16 0.75, best of 1000000 forecast 1.5, KL 0.125"
    line.on_train_end(None, state, None)
    assert "'tail/best_of_16': '0.75'" in capsys.readouterr().out


class OwnLine(ProgressCallback):
    pass


@pytest.mark.parametrize(
    ("given", "shown"), [([ProgressCallback()], [ProgressLine]), ([OwnLine()], [OwnLine]), ([], [])]
)
def test_a_bar_of_the_users_own_stays(given: list[Any], shown: list[Any]) -> None:
    handler = SimpleNamespace(callbacks=given)
    show_progress_line(
        SimpleNamespace(
            callback_handler=handler,
            remove_callback=handler.callbacks.remove,
            add_callback=lambda kind: handler.callbacks.append(kind()),
        )
    )
    assert [type(one) for one in handler.callbacks] == shown


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
        told = (event["reward"], event["best"], event["forecast"], event["kl"])
        names = ("reward", "tail/best_of_8", "tail/forecast_best_of_64", "kl")
        assert told == tuple(log.get(name) for name in names)
        assert (event.get("best_of"), event.get("deploy_n")) == ((8, 64) if "reward" in log else (None, None))
    assert json.loads((tmp_path / "out" / "trainer_state.json").read_text())["log_history"][:4] == logged

    shutil.rmtree(tmp_path / "out" / "checkpoint-4")
    assert main(argv) == 0
    assert [(event["kind"], event.get("step")) for event in events.new()] == [
        *(("start", 2), ("step", 3), ("step", 4)),
        ("end", None),
    ]
