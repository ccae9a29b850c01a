"""Several processes of one command make one table: to the byte that of one process, whoever is killed."""

import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tqdm.auto import tqdm

from parts_of_tables import Maker, check_whole
from tailgrad.rollouts import parts as machinery
from tailgrad.rollouts.parts import make_table

FORK = multiprocessing.get_context("fork")


class Noting(Maker):
    """Writes down which process begins which part, and takes its time."""

    def __init__(self, log: Path, seconds: float = 0.0, **fields: Any) -> None:
        super().__init__(**fields)
        self.log, self.seconds = log, seconds

    def rows(self, part: range) -> dict[str, list[Any]]:
        with self.log.open("a") as file:
            file.write(f"{os.environ.get('RANK', 0)} {part.start}\n")
        time.sleep(self.seconds)
        return super().rows(part)


def begin(out: Path, index: int, count: int, load: Callable[[], Maker]) -> BaseProcess:
    """Start one process of a command of several."""

    def run() -> None:
        os.environ |= {"RANK": str(index), "WORLD_SIZE": str(count)}
        signal.alarm(60)
        tqdm.set_lock(threading.RLock())  # its own is shared by what is forked, and a kill would leave it held
        make_table(out, load, verb="make")

    process = FORK.Process(target=run)
    process.start()
    return process


def codes(processes: list[BaseProcess]) -> list[int | None]:
    for process in processes:
        process.join(60)
    return [process.exitcode for process in processes]


def begun_parts(log: Path) -> list[int]:
    return sorted(int(line.split()[1]) for line in log.read_text().splitlines())


@pytest.fixture
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "log.txt"


@pytest.fixture
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The table of one process."""
    return make_table(tmp_path_factory.mktemp("whole") / "table.parquet", Maker, verb="make").read_bytes()


@pytest.mark.parametrize(("count", "seconds"), [(2, 0.0), (3, 0.1), (6, 0.0)])
def test_each_part_is_made_once_and_the_table_is_that_of_one(
    out: Path, log: Path, whole: bytes, count: int, seconds: float
) -> None:
    assert codes([begin(out, index, count, lambda: Noting(log, seconds)) for index in range(count)]) == [0] * count
    assert begun_parts(log) == [0, 2, 4, 6]
    assert out.read_bytes() == whole
    check_whole(out)
    assert codes([begin(out, 1, count, lambda: Noting(log))]) == [0], "one that comes late"
    assert begun_parts(log) == [0, 2, 4, 6]
    check_whole(out)


def test_what_a_killed_process_was_making_others_make(out: Path, log: Path, whole: bytes) -> None:
    killed = begin(out, 0, 3, lambda: Noting(log, 60))
    while not log.exists():
        time.sleep(0.01)
    others = [begin(out, index, 3, lambda: Noting(log)) for index in (1, 2)]
    while len(begun_parts(log)) < 4:
        time.sleep(0.01)
    assert not out.exists(), "the first part is being made still, and the others wait for it"
    killed.kill()
    assert codes([killed, *others]) == [-signal.SIGKILL, 0, 0]
    assert begun_parts(log) == [0, 0, 2, 4, 6]
    assert out.read_bytes() == whole
    check_whole(out)


def kill_and_go_on(out: Path, log: Path, random: np.random.Generator) -> None:
    """Begin with any number of processes and kill all of them at any time."""
    processes = [begin(out, index, 3, lambda: Noting(log, 0.02)) for index in range(random.integers(1, 4))]
    time.sleep(random.uniform(0.0, 0.15))
    for process in processes:
        process.kill()
    codes(processes)


def check_kills(out: Path, log: Path, whole: bytes, kills: int) -> None:
    random, killed = np.random.default_rng(kills), 0
    while killed < kills:
        kill_and_go_on(out, log, random)
        killed += 1
        if out.exists():
            assert out.read_bytes() == whole
            for path in [out, *out.with_name("table.parquet.parts").glob("*")]:
                path.unlink()
    assert codes([begin(out, index, 2, lambda: Noting(log)) for index in (0, 1)]) == [0, 0]
    assert out.read_bytes() == whole
    check_whole(out)


def test_after_kills_any_number_of_processes_goes_on(out: Path, log: Path, whole: bytes) -> None:
    check_kills(out, log, whole, 3)


@pytest.mark.nightly
def test_after_many_kills_any_number_of_processes_goes_on(out: Path, log: Path, whole: bytes) -> None:
    check_kills(out, log, whole, 100)


def test_a_second_command_is_refused_and_another_table_is_left(
    out: Path, log: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = begin(out, 0, 2, lambda: Noting(log, 1.0))
    while not log.exists():
        time.sleep(0.01)
    for count in ("1", "4"):
        monkeypatch.setenv("WORLD_SIZE", count)
        with pytest.raises(ValueError, match=r"table\.parquet' is being written by another process"):
            make_table(out, Maker, verb="make")
    assert codes([begin(out, 1, 2, lambda: Noting(log)), first]) == [0, 0]
    assert out.read_bytes() == whole
    with pytest.raises(ValueError, match=r"is not the table of .* another seed: 0 there, 1 now"):
        make_table(out, lambda: Maker(metadata={"seed": 1}), verb="make")
    assert out.read_bytes() == whole
    check_whole(out)


def test_another_process_may_remove_the_folder_at_the_end(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_table(out, Maker, verb="make")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(machinery, "_check_merged", lambda out, maker, parts: shutil.rmtree(parts))
    make_table(out, Maker, verb="make")
    check_whole(out)


def test_a_process_that_fails_leaves_what_others_made(out: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    other = begin(out, 1, 2, lambda: Noting(log, stop_before=0))
    other.join(60)
    assert other.exitcode == 1
    assert begun_parts(log) == [0, 4, 6]
    maker = Maker()
    make_table(out, lambda: maker, verb="make")
    assert maker.made == [range(2), range(2, 4)]
    check_whole(out)
