"""Commands side by side: real processes of a module that does next to nothing."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tailgrad.jobs import Job, bar_progress, flags, run_side_by_side


@pytest.fixture
def job(tmp_path: Path):
    """Make a job that runs a line of Python, with the folder of the test as its own."""

    def make(name: str, line: str = "pass") -> Job:
        argv = ["-n1", "-r1", "-u", "sec", line]
        return Job(name, argv, tmp_path / "logs" / name, 1, lambda text: (1, ""), "timeit", tmp_path)

    return make


def note(word: str) -> str:
    return f"open('notes', 'a').write('{word} ')"


def fail(word: str) -> str:
    return f"raise SystemExit('{word} is broken')"


def notes(folder: Path) -> list[str]:
    return (folder / "notes").read_text().split()


def test_a_chain_goes_on_when_the_job_before_has_ended(job, tmp_path: Path) -> None:
    seen = []

    def chain() -> Iterator[Job]:
        for word in ("one", "two"):
            yield job(word, f"__import__('time').sleep(0.2); {note(word)}")
            seen.append(notes(tmp_path)[-1])  # what the job left is there when the next is asked for

    run_side_by_side([chain()], processes=2)
    assert seen == ["one", "two"]
    assert "1 loop, best of 1" in (tmp_path / "logs" / "two").read_text()


def test_chains_start_in_their_order_and_finish_before_the_next(job, tmp_path: Path) -> None:
    def chain(name: str) -> Iterator[Job]:
        yield job(name + "1", note(name + "1"))
        yield job(name + "2", note(name + "2"))

    run_side_by_side([chain("a"), job("b", note("b"))], processes=1, overall="all")
    assert notes(tmp_path) == ["a1", "a2", "b"]


def test_the_rate_of_a_resumed_job_counts_from_where_it_goes_on(job, capsys: pytest.CaptureFixture[str]) -> None:
    line = "print('900/1000 ['); import time; time.sleep(1); print('901/1000 ['); time.sleep(0.7)"
    resumed = replace(job("resumed", line), total=1000, progress=bar_progress(1000))
    run_side_by_side([resumed], processes=1)
    shown = re.findall(r"901/1000 \[.*?, +([\d.]+)(s/it|it/s)", capsys.readouterr().err)
    assert shown
    assert all(unit == "s/it" or float(value) < 50 for value, unit in shown)  # not 900 in a second


@pytest.mark.parametrize(("asked", "expected"), [(None, 4), ("1", 1)])
def test_jobs_share_the_cores_unless_told_how_many_threads(
    job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str | None, expected: int
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    run_side_by_side(
        [job("threads", "open('notes', 'w').write(__import__('os').environ['OMP_NUM_THREADS'])")], processes=2
    )
    assert notes(tmp_path) == [str(expected)]


def test_a_chain_that_yields_nothing_is_done(job, tmp_path: Path) -> None:
    run_side_by_side([iter(()), job("a", note("a")), iter(())], processes=1, overall="all")
    assert notes(tmp_path) == ["a"]
    run_side_by_side([], processes=2, overall="none")


def test_a_failure_stops_the_others(job, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)bad failed \(exit code 1; log: .*bad is broken"):
        run_side_by_side([job("bad", fail("bad")), job("late", note("late"))], processes=1)
    assert not (tmp_path / "notes").exists()


def test_keep_going_finishes_the_others_and_names_what_failed(job, tmp_path: Path) -> None:
    def chain() -> Iterator[Job]:
        yield job("bad", fail("bad"))
        yield job("never", note("never"))

    chains = [chain(), job("good", note("good")), job("worse", fail("worse")), job("last", note("last"))]
    with pytest.raises(RuntimeError, match=r"(?s)bad failed .*bad is broken.*\n\nworse failed .*worse is broken"):
        run_side_by_side(chains, processes=2, keep_going=True)
    assert sorted(notes(tmp_path)) == ["good", "last"]


def test_what_a_chain_raises_stops_the_running_jobs(job, tmp_path: Path) -> None:
    def broken() -> Iterator[Job]:
        yield from ()
        raise ValueError("no such prompts")

    slow = job("slow", f"__import__('time').sleep(60); {note('slow')}")
    with pytest.raises(ValueError, match="no such prompts"):
        run_side_by_side([slow, broken()], processes=2, keep_going=True)
    assert not (tmp_path / "notes").exists()


def test_options_as_a_command_line() -> None:
    options = {"n": 4, "out": Path("x"), "reward": ("a", "b"), "seed": None, "bf16": False, "rate": 1e-5}
    assert flags(options) == ["--n", "4", "--out", "x", "--reward", "a", "b", "--bf16", "False", "--rate", "1e-05"]
