"""Parts of a table that are damaged, or change while the rest is made, are refused by name."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from parts_of_tables import Maker, check_whole
from tailgrad.rollouts import read_metadata, write_table
from tailgrad.rollouts.parts import make_table


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
