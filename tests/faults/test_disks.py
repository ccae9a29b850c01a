"""A disk that is full or can only be read: one line, exit code 2, and what was finished serves the next run."""

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from forked import in_child, on_small_disk, remounted, with_small_files
from tailgrad.cli.main import main

from .conftest import Workshop
from .test_kills import left

ROOM = {
    "train": 150_000,
    "sample": 24_000,
    "score": 24_000,
    "curve": 24_000,
    "plan": 24_000,
    "fidelity": 24_000,
    "grid": 200_000,
}
"""Bytes of a disk that is full amid the command."""


def gate(*commands: str, of: Iterable[str]) -> list[Any]:
    """Of these commands some for every change, and the others at night."""
    return [one if one in commands else pytest.param(one, marks=pytest.mark.nightly) for one in of]


def skip_without_mounts(folder: Path) -> None:
    ended = in_child(lambda: 0, folder, on_small_disk(folder, 4096))
    if ended.code != 0:
        pytest.skip("this process may not mount a disk, not even for itself")


def said(output: str) -> str:
    """The error that a command has printed: its last line."""
    line = output.strip().splitlines()[-1]
    assert ": error: " in line, output
    assert "did not foresee" not in output, output
    assert "Traceback" not in output
    return line


@pytest.mark.parametrize("command", gate("sample", "train", "curve", of=ROOM))
def test_a_full_disk_is_said_and_with_more_room_the_command_goes_on(
    workshop: Workshop, new_folder: Callable[[], Path], command: str
) -> None:
    first, folder = new_folder(), new_folder()
    (folder / "out").mkdir()
    skip_without_mounts(folder)
    with contextlib.chdir(first):
        assert workshop.run(command) == 0
    whole = left(command, first / "out")

    def run() -> int:
        return main(workshop.argv(command)) if command == "grid" else workshop.run(command)  # its jobs have to fail

    def work() -> int:
        if run() != 2:
            return 1
        remounted(folder / "out", 2**25)
        print("--- more room", flush=True)
        return run() or int(left(command, folder / "out") != whole)

    ended = in_child(work, folder, on_small_disk(folder / "out", ROOM[command]))
    assert ended.code == 0, ended.output
    assert "the disk is full: free some space; the same command" in said(ended.output.partition("--- more room")[0])


@pytest.mark.parametrize("command", ["sample"])
def test_a_limit_of_the_size_of_files_is_said(workshop: Workshop, new_folder: Callable[[], Path], command: str) -> None:
    folder = new_folder()
    ended = in_child(lambda: workshop.run(command), folder, with_small_files(8000))
    assert ended.code == 2
    assert "could not be written" in (line := said(ended.output)) or "cannot be used" in line
    assert not [*(folder / "out").rglob(".*.tmp")]


@pytest.mark.parametrize("command", gate("sample", "train", "grid", of=ROOM))
def test_a_folder_that_can_only_be_read_is_said(
    workshop: Workshop, new_folder: Callable[[], Path], command: str
) -> None:
    folder = new_folder()
    (folder / "out").mkdir()
    prepare = []
    if os.getuid() == 0:  # who may write everywhere needs a disk that cannot be written
        skip_without_mounts(folder)
        prepare = [on_small_disk(folder / "out", 4096, read_only=True)]
    else:
        (folder / "out").chmod(0o500)
    ended = in_child(lambda: workshop.run(command), folder, *prepare)
    assert ended.code == 2, ended.output
    assert "can only be read: name another folder" in (line := said(ended.output)) or "permission denied" in line
    assert "out" in line
