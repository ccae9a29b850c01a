"""A table made in parts: what is kept, what is refused by name, and that no row is lost or there twice."""

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tailgrad.rollouts import parts as machinery
from tailgrad.rollouts import read_metadata, read_rollouts, write_table
from tailgrad.rollouts.parts import make_table


@dataclass
class Maker:
    """Makes rows whose reward says which they are; raises before the part with `stop_before`."""

    prompt_ids: list[int] = field(default_factory=lambda: [3, 4, 7, 8, 9, 11, 12])
    n: int = 4
    part_size: int = 2
    metadata: dict[str, Any] = field(default_factory=lambda: {"seed": 0})
    stop_before: int | None = None
    made: list[range] = field(default_factory=list)

    def rows(self, part: range) -> dict[str, list[Any]]:
        if self.stop_before is not None and self.stop_before in part:
            raise KeyboardInterrupt
        self.made.append(part)
        pairs = [(self.prompt_ids[i], j) for i in part for j in range(self.n)]
        columns: dict[str, Any] = dict.fromkeys(("logprob", "reference_logprob"), 0.0)
        columns |= {"prompt": "one", "response": "two", "num_tokens": 1, "finished": True}
        return {
            "prompt_id": [prompt for prompt, _ in pairs],
            "response_index": [index for _, index in pairs],
            "reward": [prompt + index / 10 for prompt, index in pairs],
            **{name: [value] * len(pairs) for name, value in columns.items()},
        }


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "table.parquet"


@pytest.fixture
def begun(out: Path) -> Path:
    """The parts of a table of which the prompts at 0 to 3 are there."""
    with pytest.raises(KeyboardInterrupt):
        make_table(out, lambda: Maker(stop_before=4), verb="make")
    return out.with_name("table.parquet.parts")


def check_whole(out: Path) -> None:
    table, maker = read_rollouts(out), Maker()
    assert table.prompt_ids.tolist() == maker.prompt_ids
    np.testing.assert_allclose(table.rewards, np.array(maker.prompt_ids)[:, None] + np.arange(4) / 10)
    assert sorted(path.name for path in out.parent.iterdir()) == [out.name]


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


def cut(path: Path) -> None:
    rows = pq.read_table(path)
    columns = {name: values[:-1] for name, values in rows.to_pydict().items()}
    write_table(path, columns, read_metadata(path))


def swap(path: Path) -> None:
    columns = pq.read_table(path).to_pydict()
    columns["response_index"][:2] = columns["response_index"][1::-1]
    write_table(path, columns, read_metadata(path))


def drop(path: Path) -> None:
    pq.write_table(pq.read_table(path).drop_columns(["response_index"]), path)


@pytest.mark.parametrize(
    ("change", "named", "message"),
    [
        (
            lambda a, b: shutil.copy(a, b),
            "part-000002-000004",
            "does not hold responses 0 to 3 of each of the prompts 7 ",
        ),
        (lambda a, b: cut(b), "part-000002-000004", r"7 rows there, 8 expected"),
        (lambda a, b: swap(b), "part-000002-000004", "once each and in order"),
        (lambda a, b: drop(b), "part-000002-000004", "response_index"),
        (lambda a, b: b.write_bytes(b""), "part-000002-000004", ""),
        (lambda a, b: b.write_bytes(b"PAR1"), "part-000002-000004", ""),
        (lambda a, b: b.write_bytes(b.read_bytes()[:-9]), "part-000002-000004", ""),
        (lambda a, b: b.rename(b.with_name("part-00001.parquet")), "part-00001", "is not a part of this table of 7"),
        (lambda a, b: b.rename(b.with_name("part-000006-000008.parquet")), "part-000006-000008", "is not a part of"),
        (lambda a, b: b.rename(b.with_name("part-000004-000006.parquet")), "part-000004-000006", "the prompts 9 to 11"),
        (
            lambda a, b: write_table(a.with_name("part-000001-000002.parquet"), Maker().rows(range(1, 2)), {"seed": 0}),
            "part-000001-000002",
            "another part there has too",
        ),
    ],
)
def test_a_part_that_is_not_what_it_says_is_refused_by_name(
    out: Path, begun: Path, change: Callable[[Path, Path], Any], named: str, message: str
) -> None:
    change(*sorted(begun.glob("part-*")))
    with pytest.raises(ValueError, match=rf"{named}\.parquet.*{message}"):
        make_table(out, Maker, verb="make")
    assert not out.exists()
    (begun / f"{named}.parquet").unlink()
    make_table(out, Maker, verb="make")
    check_whole(out)


@pytest.mark.parametrize("place", range(5, 95, 10))
def test_a_part_with_a_damaged_page_is_named(out: Path, begun: Path, place: int) -> None:
    path = max(begun.glob("part-*"))
    content = bytearray(path.read_bytes())
    at = len(content) * place // 100
    content[at : at + 60] = bytes(60)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=path.name):
        make_table(out, Maker, verb="make")
    assert not out.exists()


def test_a_part_that_changes_while_the_rest_is_made_is_seen_at_the_merge(out: Path, begun: Path) -> None:
    class Meddled(Maker):
        def rows(self, part: range) -> dict[str, list[Any]]:
            path = begun / "part-000000-000002.parquet"
            write_table(path, super().rows(range(2)), {"seed": 1})
            return super().rows(part)

    with pytest.raises(ValueError, match="another seed: 1 there, 0 now"):
        make_table(out, Meddled, verb="make")
    assert not out.exists()


def test_a_part_that_vanishes_is_missed_at_the_merge(out: Path, begun: Path) -> None:
    class Meddled(Maker):
        def rows(self, part: range) -> dict[str, list[Any]]:
            (begun / "part-000002-000004.parquet").unlink(missing_ok=True)
            return super().rows(part)

    with pytest.raises(ValueError, match="has lost the prompts 2 to 3"):
        make_table(out, Meddled, verb="make")
    make_table(out, Maker, verb="make")
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
    def killed(parts: Path, **options: Any) -> None:
        for path in sorted(parts.glob("part-*"))[:gone]:
            path.unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(machinery.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        make_table(out, Maker, verb="make")
    monkeypatch.undo()
    for path in out.with_name("table.parquet.parts").glob("lock"):
        path.touch()
    content, maker = out.read_bytes(), Maker()
    assert make_table(out, lambda: maker, verb="make") == out
    assert maker.made == []
    assert out.read_bytes() == content
    check_whole(out)


def test_a_table_that_is_not_that_of_the_parts_is_not_finished(out: Path, begun: Path) -> None:
    for columns, metadata in [({}, {"seed": 1}), ({"n": 3}, {"seed": 0}), ({"prompt_ids": [3, 4]}, {"seed": 0})]:
        maker = Maker(**columns)
        write_table(out, maker.rows(range(len(maker.prompt_ids))), metadata)
        content = out.read_bytes()
        with pytest.raises(ValueError, match=r"table\.parquet' exists already and is not the table of"):
            make_table(out, Maker, verb="make")
        assert out.read_bytes() == content
    write_table(out, Maker().rows(range(7)), {"seed": 0})
    content = out.read_bytes()
    response = content.index(b"\x03\x00\x00\x00two") + 4  # would be another response, and sound otherwise
    for at, length in [(response, 1), *((len(content) * place // 100, 60) for place in range(5, 95, 10))]:
        out.write_bytes(content[:at] + bytes(length) + content[at + length :])
        with pytest.raises(ValueError, match=r"table\.parquet' exists already and is not the table of"):
            make_table(out, Maker, verb="make")
    assert len(list(begun.glob("part-*"))) == 2


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
