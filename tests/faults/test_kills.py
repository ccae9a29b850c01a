"""A command that is killed at random points and resumed ends as one that was not: nothing lost, doubled or changed."""

import contextlib
import json
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from safetensors.torch import load_file

from forked import Ended, in_child, killed_after, killed_at_event
from tailgrad.cli import main as command_line
from tailgrad.grid.results import read_results

from .conftest import Workshop

KILLS: Final = 3
"""Kills of each command in the gate."""
KILLS_AT_NIGHT: Final = 50

KILLED: Final = (-signal.SIGKILL, -signal.SIGPROF, -signal.SIGALRM)

COMMANDS: Final = tuple(
    module.__name__.rpartition(".")[2]
    for module in command_line.COMMANDS
    if module.__name__.rpartition(".")[2] in ("train", "sample", "score", "curve", "plan", "fidelity", "grid")
)
TIMES: Final = {"train_seconds", "sample_seconds", "finished_at"}


def logged(state: Path) -> list[dict[str, Any]]:
    """What a training logged of its steps, but for how long each took."""
    entries = json.loads(state.read_text())["log_history"]
    return [one | {"step_time": None} for one in entries if "train_runtime" not in one]


def left(command: str, out: Path) -> dict[str, Any]:
    """All that a command leaves, in a form that compares: of a training its weights and log, of a grid its rows."""
    if command == "train":
        weights = {name: one.tolist() for name, one in load_file(out / "model.safetensors").items()}
        return {"weights": weights, "log": logged(out / "trainer_state.json")}
    found: dict[str, Any] = {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name[0] != "." and path.name != "lock" and "work" not in path.parts
    }
    if command == "grid":
        rows = [{k: v for k, v in row.items() if k not in TIMES} for row in read_results(out / "results.parquet")]
        found["results.parquet"] = rows
        found["results/grid.md"] = without_minutes(found["results/grid.md"].decode())
    return found


def without_minutes(text: str) -> str:
    """A grid's report without how long trainings took, which is not known of one that was interrupted."""
    lines, is_of_rates = text.splitlines(), False
    for place, line in enumerate(lines):
        is_of_rates = line.startswith("|") and (is_of_rates or "training, minutes" in line)
        lines[place] = line.rsplit("|", 2)[0] if is_of_rates else line
    return "\n".join(lines)


def finish(workshop: Workshop, command: str, folder: Path) -> dict[str, Any]:
    """Run a command to its end, and give what it leaves."""
    ended = in_child(lambda: workshop.run(command), folder)
    if ended.code == -signal.SIGALRM:  # one more kill
        ended = in_child(lambda: workshop.run(command), folder)
    assert ended.code == 0 or "exists already" in ended.output, ended.output
    return left(command, folder / "out")


@pytest.mark.parametrize("kills", [KILLS, pytest.param(KILLS_AT_NIGHT, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_killed_command_ends_as_one_that_was_not(
    workshop: Workshop, new_folder: Callable[[], Path], command: str, kills: int
) -> None:
    draw, first = random.Random(f"{command} {kills}"), new_folder()
    with contextlib.chdir(first):
        assert workshop.run(command) == 0  # here, so that the children find all libraries loaded
    whole, second = left(command, first / "out"), new_folder()
    uninterrupted = in_child(lambda: workshop.run(command), second, killed_at_event(0, second))
    assert uninterrupted.code == 0, uninterrupted.output
    assert left(command, second / "out") == whole

    folder, done, attempts = new_folder(), 0, 0
    while done < kills:
        attempts += 1
        assert attempts < 5 * kills
        ended = one_attempt(workshop, command, folder, uninterrupted, draw)
        assert ended.code in (0, *KILLED) or "exists already" in ended.output, ended.output
        done += ended.code < 0
        if ended.code >= 0:
            assert left(command, folder / "out") == whole
            folder = new_folder()
    assert finish(workshop, command, folder) == whole


def one_attempt(workshop: Workshop, command: str, folder: Path, whole: Ended, draw: random.Random) -> Ended:
    """Kill a command before a change of a file, or after some time, both drawn from a whole run."""
    if draw.random() < 0.5:
        kill = killed_at_event(draw.randint(1, whole.events), folder)
    else:
        kill = killed_after(draw.uniform(0, whole.seconds))
    return in_child(lambda: workshop.run(command), folder, kill)
