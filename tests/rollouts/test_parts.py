"""A table made in parts: what is kept, what is refused by name, and that no row is lost or there twice."""

import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

from parts_of_tables import Maker, check_whole
from tailgrad.rollouts import parts as machinery
from tailgrad.rollouts import read_metadata
from tailgrad.rollouts.parts import make_table


def test_a_table_is_made_and_its_parts_are_gone(out: Path) -> None:
    maker = Maker()
    assert make_table(out, lambda: maker, verb="make") == out
    assert maker.made == [range(2), range(2, 4), range(4, 6), range(6, 7)]
    check_whole(out)
    with pytest.raises(ValueError, match=r"table\.parquet' exists already"):
        make_table(out, Maker, verb="make")
    check_whole(out)


@pytest.mark.parametrize(
    ("size", "made"),
    [(2, [range(4, 6), range(6, 7)]), (1, [range(4, 5), range(5, 6), range(6, 7)]), (9, [range(4, 7)])],
)
def test_whatever_the_size_of_a_part_each_row_is_there_once(
    out: Path, begun: Path, size: int, made: list[range]
) -> None:
    maker = Maker(part_size=size)
    make_table(out, lambda: maker, verb="make")
    assert maker.made == made
    check_whole(out)


def test_parts_that_are_missing_in_the_middle_are_made(out: Path, begun: Path) -> None:
    (begun / "part-000000-000002.parquet").unlink()
    maker = Maker(part_size=3)
    make_table(out, lambda: maker, verb="make")
    assert maker.made == [range(2), range(4, 7)]
    check_whole(out)


def test_what_kills_left_behind_is_cleared(out: Path, begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = out.with_name(".other.parquet.77.tmp")
    for path in (out.with_name(".table.parquet.99.tmp"), begun / ".part-000004-000006.parquet.99.tmp", other):
        path.write_bytes(b"PAR1")
    make_table(out, Maker, verb="make")
    other.unlink()  # of another table, which somebody may be writing
    check_whole(out)


@pytest.mark.parametrize("gone", [0, 2, 4])
def test_a_merged_table_whose_parts_stayed_is_finished(out: Path, monkeypatch: pytest.MonkeyPatch, gone: int) -> None:
    def killed(parts: Path) -> None:
        for path in sorted(parts.glob("part-*"))[:gone]:
            path.unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(machinery, "_remove_parts", killed)
    with pytest.raises(KeyboardInterrupt):
        make_table(out, Maker, verb="make")
    monkeypatch.undo()
    parts = out.with_name("table.parquet.parts")
    parts.mkdir(exist_ok=True)
    (parts / "lock").touch()  # which a kill leaves
    content, maker = out.read_bytes(), Maker()
    assert make_table(out, lambda: maker, verb="make") == out
    assert maker.made == []
    assert out.read_bytes() == content
    check_whole(out)


def test_a_run_that_fails_before_its_first_part_leaves_nothing(out: Path) -> None:
    def fails() -> Maker:
        raise ValueError("no such model")

    with pytest.raises(ValueError, match="no such model"):
        make_table(out, fails, verb="make")
    assert not list(out.parent.iterdir())


def hold(out: Path, made: Any, go_on: Any) -> None:
    class Slow(Maker):
        def rows(self, part: range) -> dict[str, list[Any]]:
            made.set()
            go_on.wait(60)
            return super().rows(part)

    make_table(out, Slow, verb="make")


def test_a_second_process_is_refused(out: Path) -> None:
    """Not at the end, when both have sampled, but at once; and the first is not disturbed."""
    context = multiprocessing.get_context("fork")
    made, go_on = context.Event(), context.Event()
    first = context.Process(target=hold, args=(out, made, go_on))
    first.start()
    try:
        assert made.wait(60)
        for metadata in ({"seed": 0}, {"seed": 1}):
            second = Maker(metadata=metadata)
            with pytest.raises(ValueError, match=r"table\.parquet' is being written by another process"):
                make_table(out, lambda maker=second: maker, verb="make")
            assert second.made == []
    finally:
        go_on.set()
        first.join(60)
    assert first.exitcode == 0
    check_whole(out)


HASH, OTHER = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    ("theirs", "ours", "difference"),
    [
        ({"model": "a", "model_files": HASH}, {"model": "b", "model_files": HASH}, None),
        ({"model": "a", "model_files": HASH}, {"model": "a", "model_files": OTHER}, "model_files"),
        ({"model": "a", "model_files": None}, {"model": "b", "model_files": None}, "model: 'a' there, 'b' now"),
        ({"model": "a", "model_files": None}, {"model": "a", "model_files": HASH}, "model_files"),
        ({"reference": "a", "reference_files": HASH}, {"reference": "b", "reference_files": HASH}, None),
        ({"reward": "a", "reward_files": [HASH]}, {"reward": "b", "reward_files": [HASH]}, None),
        ({"reward": "a", "reward_files": [HASH]}, {"reward": "a", "reward_files": [OTHER]}, "reward_files"),
        ({"reward": "a", "reward_files": [None]}, {"reward": "b", "reward_files": [None]}, "reward: 'a' there"),
        ({"reward": "a", "reward_files": [HASH, None]}, {"reward": "b", "reward_files": [HASH, None]}, "reward: 'a'"),
        (
            {"reward": "a", "reward_files": [HASH], "reward_options": {"batch_size": 9}},
            {"reward": "a", "reward_files": [HASH], "reward_options": {}},
            None,
        ),
        ({"dataset": {"name": "a", "sha256": HASH}}, {"dataset": {"name": "b", "sha256": HASH}}, None),
        ({"dataset": {"name": "a", "sha256": HASH}}, {"dataset": {"name": "a", "sha256": OTHER}}, "dataset"),
        ({"sampling": {"n": 1}}, {"sampling": {"n": 1, "min_p": 0.1}}, "sampling"),
        ({"gone": 1}, {}, "gone: 1 there, None now"),
        ({}, {"new": 1}, "new: None there, 1 now"),
    ],
)
def test_content_decides_whether_a_run_goes_on(
    out: Path, theirs: dict[str, Any], ours: dict[str, Any], difference: str | None
) -> None:
    with pytest.raises(KeyboardInterrupt):
        make_table(out, lambda: Maker(metadata=theirs, stop_before=4), verb="make")
    if difference is None:
        make_table(out, lambda: Maker(metadata=ours), verb="make")
        assert read_metadata(out) == ours
    else:
        with pytest.raises(ValueError, match=f"holds an interrupted run with another {difference}"):
            make_table(out, lambda: Maker(metadata=ours), verb="make")


def test_a_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert make_table(Path("~/table.parquet"), Maker, verb="make") == tmp_path / "table.parquet"
    assert json.dumps(os.listdir(tmp_path)) == '["table.parquet"]'
