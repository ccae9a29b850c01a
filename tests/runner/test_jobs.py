"""Commands side by side: real processes of a module that does next to nothing."""

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tailgrad.runner import Job, flags, run_side_by_side


@pytest.fixture
def job(tmp_path: Path):
    """Make a job that runs a line of Python, with the folder of the test as its own."""

    def make(name: str, line: str = "pass") -> Job:
        argv = ["-n1", "-r1", "-u", "sec", line]
        return Job(name, argv, tmp_path / "logs" / name, 1, "timeit", tmp_path)

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


def tell(kind: str, **fields: Any) -> str:
    return f"__import__('tailgrad.events').events.emit({kind!r}, **{fields!r})"


def test_the_rate_of_a_resumed_job_counts_from_where_it_goes_on(
    job, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    sleep = "; __import__('time').sleep(1); "
    training = (
        tell("start", step=900)
        + sleep
        + tell("step", step=901, reward=0.5, forecast=1.25, deploy_n=64, kl=None)
        + sleep
    )
    sampling = tell("progress", done=900, total=999) + sleep + tell("progress", done=901, total=999) + sleep
    jobs = [replace(job(name, line + "0"), total=1000) for name, line in (("a", training), ("b", sampling))]
    run_side_by_side(jobs, processes=2)
    shown = capsys.readouterr().err
    for total, words in (("1000", ", reward 0.5, best of 64 forecast 1.25"), ("999", "")):
        rates = re.findall(rf"901/{total} \[.*?, +([\d.?]+)(s/it|it/s){words}\]", shown)
        assert rates  # "?" where a busy machine saw both events at once
        assert all(unit == "s/it" or value == "?" or float(value) < 50 for value, unit in rates)  # not 900 in a second


def test_a_bar_shows_the_events_of_this_attempt(job, capsys: pytest.CaptureFixture[str]) -> None:
    one = job("one", "pass")
    one.events.parent.mkdir()
    one.events.write_text('{"kind": "step", "step": 77}\n{"kind": "st')  # an earlier attempt, cut off
    steps = tell("step", step=1, reward=2.0, kl=0.5) + ";" + tell("step", step=2, reward=None, kl=None)
    run_side_by_side([replace(one, argv=[*one.argv[:-1], steps], total=2)], processes=1)
    shown = capsys.readouterr().err
    assert "77" not in shown
    assert re.search(r"2/2 \[.*reward 2, KL 0.5\]", shown)  # a step without new rollouts keeps the words


@pytest.mark.parametrize("terminal", [True, False])
def test_in_a_file_a_bar_stands_once_a_minute(
    job, terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    steps = ";".join(f"{tell('step', step=i, reward=i)}; __import__('time').sleep(0.4)" for i in range(1, 6))
    run_side_by_side([job("one", steps)], processes=1)
    states = set(re.findall(r"reward (\d)", capsys.readouterr().err))
    assert "5" in states
    assert len(states) == 1 or (terminal and len(states) >= 4)


def test_a_second_attempt_keeps_the_log_of_the_first(job) -> None:
    first, second = job("one", "print('a first try')"), job("one", fail("the second"))
    run_side_by_side([first], processes=1)
    with pytest.raises(RuntimeError) as caught:
        run_side_by_side([second], processes=1)
    assert "the second is broken" in str(caught.value)
    assert "a first try" not in str(caught.value)
    log = first.log.read_text()
    assert log.index("-m timeit") < log.index("a first try") < log.index("the second is broken")


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


def test_what_a_signal_ended_has_failed(job) -> None:
    with pytest.raises(RuntimeError, match=r"killed failed \(exit code 137, killed"):
        run_side_by_side([job("killed", "__import__('os').kill(__import__('os').getpid(), 9)")], processes=1)


def test_at_least_one_runs_at_a_time(job) -> None:
    with pytest.raises(ValueError, match="processes is 0; at least 1"):
        run_side_by_side([job("one")], processes=0)


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
    assert flags({"model_init_kwargs": {"a": True, "b": None}}) == ["--model_init_kwargs", '{"a": true, "b": null}']
    assert flags(options) == ["--n", "4", "--out", "x", "--reward", "a", "b", "--bf16", "False", "--rate", "1e-05"]
