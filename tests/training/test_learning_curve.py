"""Learning curves: what a training logged, found in its folder or its events, and its means by hand."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from reports import numbers_in, tables_of
from tailgrad.training.learning_curve import save_learning_curve
from tailgrad.training.log import log_file, read_log

REWARDS = [1.0, 2.0, 3.0, 6.0, 5.0, 5.0, 5.0, 5.0]


def history(rewards: list[float] = REWARDS) -> list[dict[str, Any]]:
    """Steps as TRL logs them; every second one is evaluated, in an entry of its own, and the last one ends it."""
    steps = [
        {"step": step, "loss": 0.1, "reward": reward, "tail/best_of_8": 2 * reward, "tail/forecast_best_of_64": 9.0}
        for step, reward in enumerate(rewards, start=1)
    ]
    tested = [{"step": step, "eval_reward": 7.0} for step in range(2, len(rewards) + 1, 2)]
    return [*steps, *tested, {"step": len(rewards), "train_runtime": 3.0, "train_loss": 0.1}]


def write_state(folder: Path, entries: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": entries, "global_step": 8}))
    return folder / "trainer_state.json"


def test_the_table_has_the_means_of_the_parts_with_their_intervals(tmp_path: Path) -> None:
    state = write_state(tmp_path, history())
    record = {"estimator": "tea", "options": {"deploy_n": 64}, "num_generations": 8, "prompts_per_step": 2.0}
    (tmp_path / "tailgrad_training.json").write_text(json.dumps(record | {"beta": 0.5, "seed": 3}))
    text = save_learning_curve(read_log(state), tmp_path / "training")
    assert {"training.svg", "training.png"} <= {path.name for path in tmp_path.iterdir()}
    ((heading, first, second),) = tables_of(text)
    assert heading == ["steps", "mean reward", "best of 8", "best of 64, forecast", "mean reward, evaluation"]
    mean, low, high = numbers_in(first[1].replace("[", " ").replace("]", " ").replace(",", " "))
    assert first[0] == "1 to 4"
    assert mean == 3.0
    width = stats.t.ppf(0.975, 3) * np.std([1, 2, 3, 6], ddof=1) / 2
    assert (high - low) / 2 == pytest.approx(width, rel=0.15)
    assert [cell.split()[0] for cell in second] == ["5", "5.0", "10.0", "9.000", "7.000"]
    assert numbers_in(text.split("\n\n")[0])[:5] == [64, 8, 2, 0.5, 3]


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (7, 1), (8, 2), (41, 10), (400, 10)])
def test_a_training_of_any_length_has_at_most_ten_rows(tmp_path: Path, count: int, rows: int) -> None:
    rewards = np.random.default_rng(0).normal(size=count).tolist()
    (table,) = tables_of(save_learning_curve(read_log(write_state(tmp_path, history(rewards))), tmp_path / "t"))
    assert len(table) == 1 + rows
    assert table[-1][0].split()[-1] == str(count)
    assert ("[" in table[1][1]) == (count > 1)  # of one step there is no interval


def test_steps_without_rollouts_and_numbers_that_are_none(tmp_path: Path) -> None:
    entries = [
        entry if entry["step"] % 2 else {"step": entry["step"], "loss": 0.1, "kl": math.inf} for entry in history()
    ]
    log = read_log(write_state(tmp_path, entries))
    (table,) = tables_of(save_learning_curve(log, tmp_path / "training"))
    assert table[0] == ["steps", "mean reward", "best of 8", "best of 64, forecast"]
    assert table[1][1].startswith("2 [")  # of the steps 1 and 3; two values have a wide interval


def test_a_log_of_plain_trl_has_what_it_has(tmp_path: Path) -> None:
    entries = [{"step": step, "reward": 1.0 * step, "kl": 0.5, "completions/mean_length": 9.0} for step in range(1, 9)]
    (table,) = tables_of(save_learning_curve(read_log(write_state(tmp_path, entries)), tmp_path / "training"))
    assert table[0] == ["steps", "mean reward", "KL per token (nats)", "tokens"]


def test_the_log_beside_the_policy_is_found_before_that_of_the_newest_checkpoint(tmp_path: Path) -> None:
    assert log_file(tmp_path) is None
    for step in (9, 10):
        write_state(tmp_path / f"checkpoint-{step}", history())
    (tmp_path / "checkpoint-11").mkdir()  # not finished
    (tmp_path / "checkpoint-old").mkdir()
    assert log_file(tmp_path) == tmp_path / "checkpoint-10" / "trainer_state.json"
    state = write_state(tmp_path, history())
    assert log_file(tmp_path) == log_file(state) == state
    assert log_file(tmp_path / "other.json") is None


def test_events_say_the_same_and_of_a_step_taken_twice_the_last(tmp_path: Path) -> None:
    file = tmp_path / "tea.events.jsonl"
    events = [{"kind": "progress", "done": 1, "total": 8}, {"kind": "start", "step": 0}]
    events += [{"kind": "step", "step": 1, "reward": 77.0, "forecast": None, "kl": None}]  # before it was interrupted
    for step, reward in enumerate(REWARDS, start=1):
        told = {"kind": "step", "step": step, "reward": reward, "kl": None}
        events.append(told | {"best": 2 * reward, "best_of": 8, "forecast": 9.0, "deploy_n": 64})
    file.write_text("".join(json.dumps(event) + "\n" for event in events))
    entries = [entry for entry in history() if "reward" in entry]
    assert log_file(file) == file
    told, logged = (
        save_learning_curve(read_log(path), tmp_path / "t") for path in (file, write_state(tmp_path, entries))
    )
    assert tables_of(told) == tables_of(logged)


@pytest.mark.parametrize("content", ["", "no", "[1]", '{"global_step": 3}', '{"log_history": 3}'])
def test_what_is_no_log_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "trainer_state.json").write_text(content)
    with pytest.raises(ValueError, match=r"trainer_state.json' is not the log of a training"):
        read_log(tmp_path / "trainer_state.json")


@pytest.mark.parametrize(
    "entries", [[], [{"step": 1, "loss": 0.5}], [{"step": 1, "reward": math.nan}], [{"reward": 1.0}]]
)
def test_a_log_without_rewards_is_refused(tmp_path: Path, entries: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match="holds no step with a reward"):
        read_log(write_state(tmp_path, entries))
