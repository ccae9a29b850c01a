"""Events: written by one process, read by another while they are written."""

import json
import math
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tailgrad.events import VARIABLE, EventReader, emit, progress_bar
from tailgrad.rollouts.parts import make_table


@pytest.fixture
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EventReader:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "events.jsonl"))
    return EventReader(tmp_path / "events.jsonl")


def test_events_are_read_once_in_their_order(events: EventReader) -> None:
    assert events.new() == []
    emit("start", step=0)
    emit("step", step=1, reward=0.5, kl=None)
    assert events.new() == [{"kind": "start", "step": 0}, {"kind": "step", "step": 1, "reward": 0.5, "kl": None}]
    assert events.new() == []
    emit("end", seconds=2)
    assert events.new() == [{"kind": "end", "seconds": 2}]


def test_nothing_is_written_unasked_or_by_a_helper_process(
    events: EventReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    emit("step", step=1)
    assert not events.path.exists()
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv(VARIABLE)
    emit("step", step=1)
    monkeypatch.setenv(VARIABLE, "")
    emit("step", step=1)
    assert not events.path.exists()
    monkeypatch.setenv(VARIABLE, str(events.path))
    emit("step", step=1)
    assert len(events.new()) == 1


def test_numbers_of_other_libraries_and_numbers_that_are_none(events: EventReader) -> None:
    emit("step", step=np.int64(3), reward=torch.tensor(0.5), kl=np.float32(0.25), forecast=math.nan, name="é\n")
    (event,) = events.new()
    assert (event["step"], event["reward"], event["kl"], event["name"]) == (3, 0.5, 0.25, "é\n")
    assert math.isnan(event["forecast"])


def test_a_line_that_is_not_finished_is_waited_for_and_a_broken_one_passed_over(events: EventReader) -> None:
    whole = [json.dumps({"kind": "step", "step": step}) for step in range(3)]
    events.path.write_text(whole[0] + "\n" + whole[1][:9])
    assert [event["step"] for event in events.new()] == [0]
    assert events.new() == []
    with events.path.open("a") as file:
        file.write(whole[1][9:] + "\n" + '{"kind": "st\n[1]\n{"step": 9}\n\xff\n' + whole[2] + "\n")
    assert [event["step"] for event in events.new()] == [1, 2]


def test_a_reader_of_what_is_added_passes_over_what_is_there(events: EventReader) -> None:
    assert EventReader.at_end(events.path).new() == []
    emit("step", step=1)
    assert EventReader.at_end(events.path).new() == []
    with events.path.open("a") as file:
        file.write('{"kind": "step", "st')  # cut by a full disk
    later = EventReader.at_end(events.path)
    emit("step", step=2)
    assert [event["step"] for event in later.new()] == [2]
    assert [event["step"] for event in events.new()] == [1, 2]


def test_the_bar_and_the_events_say_the_same(events: EventReader, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(7, done=2, name="sample", unit="prompt") as move:
        move(3)
        move(2)
    assert [(event["done"], event["total"]) for event in events.new()] == [(2, 7), (5, 7), (7, 7)]
    assert "sample: 100%" in (shown := capsys.readouterr().err)
    assert "7/7" in shown


def test_sampling_tells_how_far_it_is(events: EventReader, tmp_path: Path) -> None:
    def rows(part: range) -> dict[str, list[Any]]:
        if part.start == 4 and not (tmp_path / "again").exists():
            raise KeyboardInterrupt
        columns: dict[str, Any] = dict.fromkeys(("reward", "logprob", "reference_logprob"), 0.0)
        columns |= {"prompt": "", "response": "", "response_index": 0, "num_tokens": 1, "finished": True}
        return {"prompt_id": list(part)} | {name: [value] * len(part) for name, value in columns.items()}

    maker = SimpleNamespace(prompt_ids=range(5), n=1, part_size=2, metadata={}, rows=rows)
    with pytest.raises(KeyboardInterrupt):
        make_table(tmp_path / "out.parquet", lambda: maker, verb="sample")
    assert [(event["done"], event["total"]) for event in events.new()] == [(0, 5), (2, 5), (4, 5)]
    (tmp_path / "again").touch()
    make_table(tmp_path / "out.parquet", lambda: maker, verb="sample")
    assert [(event["done"], event["total"]) for event in events.new()] == [(4, 5), (5, 5)]


def test_two_processes_do_not_mix_their_lines(events: EventReader) -> None:
    program = (
        "import sys; from tailgrad.events import emit\nfor i in range(300): emit(sys.argv[1], i=i, text='x' * 999)"
    )
    children = [subprocess.Popen([sys.executable, "-c", program, name]) for name in "ab"]
    assert [child.wait() for child in children] == [0, 0]
    found = events.new()
    for name in "ab":
        assert [event["i"] for event in found if event["kind"] == name] == list(range(300))


def test_reading_on_costs_what_is_new_and_not_what_was_read(events: EventReader) -> None:
    events.path.write_text((json.dumps({"kind": "step", "step": 1, "reward": 0.123456789}) + "\n") * 200_000)
    assert len(events.new()) == 200_000
    start = time.perf_counter()
    for _ in range(50):
        emit("step", step=2)
        assert len(events.new()) == 1
    assert time.perf_counter() - start < 1.0  # all of it each time: more than 5 seconds
