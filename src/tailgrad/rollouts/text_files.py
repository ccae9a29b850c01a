"""JSON and CSV files as a memory-mapped data set whose values are those of the file: text stays text."""

from __future__ import annotations

import csv
import json
import lzma
import re
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, reduce
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final, TextIO

BATCH: Final = 1000
"""Rows that are held in memory at once."""

EVERY_ROW: Final = "every row must be an object with the columns as its keys"

Kind = str | list[Any] | dict[str, Any] | None
"""What a column holds: the name of a type, `[kind]` for lists, one kind per key where every object has the same keys,
"json" where values have nothing in common, None where all are null."""

_SCALARS: Final = {bool: "bool", int: "int64", float: "float64", str: "string"}
_NUMBER: Final = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_CELLS: Final[dict[str, Callable[[str], Any]]] = {
    "int64": int,
    "float64": float,
    "bool": lambda cell: cell.lower() == "true",
}
"""How a cell of a CSV column becomes a value; a cell of any other column is text."""


def read_text_files(paths: Sequence[Path], file_format: str, *, separator: str = ",") -> Any:
    """Read JSON or CSV files row by row into a memory-mapped `datasets.Dataset`.

    `datasets` turns strings that look like dates into dates, "7" into 7 beside an object, and 007 into 7. Here a value
    is what the file says: strings of JSON are strings, and where the keys of objects differ, each has its own alone. A
    CSV column holds numbers where every cell is a number as JSON writes it, booleans where every cell is true or false,
    else text; empty cells are null.

    Args:
        paths: The files, also compressed; their rows come in this order.
        file_format: "json" (one object per line, or a list of objects, or an object of columns) or "csv".
        separator: What stands between two cells of a CSV file.

    Returns:
        The rows. Their bytes stay on disk: no process holds more than the rows that it looks at.

    Raises:
        ValueError: A file is not written in its format; the message names the line.

    Examples:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "rows.jsonl")
        ...     _ = path.write_text('{"day": "2024-02-29", "id": 7}')
        ...     read_text_files([path], "json")[0]
        {'day': '2024-02-29', 'id': 7}
    """
    from datasets import Dataset, Features
    from datasets.arrow_writer import ArrowWriter

    rows = json_rows if file_format == "json" else partial(csv_rows, separator=separator)
    kinds = _kinds(chain.from_iterable(map(rows, paths)), _kind if file_format == "json" else _cell_kind)
    if not kinds:
        return Dataset.from_dict({})
    if file_format == "csv":
        kinds = {name: "string" if kind == "json" else kind for name, kind in kinds.items()}
        encoders = {name: _CELLS.get(str(kind), str) for name, kind in kinds.items()}
    else:
        encoders = {name: partial(_encoded, kind) for name, kind in kinds.items() if _holds_json(kind)}
    features = Features({name: _feature(kind) for name, kind in kinds.items()})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = str(Path(folder) / "rows.arrow")
        with ArrowWriter(path=path, features=features) as writer:
            for batch in _batches(chain.from_iterable(map(rows, paths))):
                writer.write_batch({name: _column(batch, name, encoders.get(name)) for name in kinds})
            writer.finalize()
        return without_cache_files(Dataset.from_file(path), features)


def without_cache_files(rows: Any, features: Any = None) -> Any:
    """Return a data set that keeps its memory-mapped bytes after its files are deleted, and writes none beside them.

    Args:
        rows: The data set.
        features: The types of its columns; None is those that it has.

    Returns:
        The same rows.
    """
    from datasets import Dataset, DatasetInfo
    from datasets.fingerprint import generate_random_fingerprint

    # without a fingerprint `datasets` would pickle the whole table to make one
    info = rows.info if features is None else DatasetInfo(features=features)
    return Dataset(rows.data.table, info=info, split=rows.split, fingerprint=generate_random_fingerprint())


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    left = iter(rows)
    while batch := list(islice(left, BATCH)):
        yield batch


def _column(batch: list[dict[str, Any]], name: str, encode: Callable[[Any], Any] | None) -> list[Any]:
    values = [row.get(name) for row in batch]
    return values if encode is None else [None if value is None else encode(value) for value in values]


def _kinds(rows: Iterable[dict[str, Any]], kind_of: Callable[[Any], Kind]) -> dict[str, Kind]:
    """Return what every column holds, in the order in which they appear."""
    kinds: dict[str, Kind] = {}
    for i, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ValueError(f"row {i} (counted from 0) is {repr(row)[:60]}; {EVERY_ROW}.")
        for name, value in row.items():
            try:
                kinds[name] = _common(kinds.get(name), kind_of(value))
            except OverflowError as error:
                raise ValueError(f"row {i} (counted from 0), column {name!r}: {error}") from error
    return kinds


def _kind(value: Any) -> Kind:
    if isinstance(value, dict):
        return {key: _kind(part) for key, part in value.items()} or "json"
    if isinstance(value, list):
        return [reduce(_common, map(_kind, value), None)]
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise OverflowError(f"{value} has more than 64 bits; write it as a string.")
    return None if value is None else _SCALARS[type(value)]


def _cell_kind(cell: str | None) -> Kind:
    if cell is None:
        return None
    number = _NUMBER.fullmatch(cell)
    if number is None:
        return "bool" if cell in ("true", "false", "True", "False") else "string"
    if number[2] or number[3]:
        return "float64"
    return "int64" if -(2**63) <= int(cell) < 2**63 else "string"


def _common(first: Kind, second: Kind) -> Kind:
    """Return the narrowest kind that holds the values of both."""
    if first == second or second is None:
        return first
    if first is None:
        return second
    if isinstance(first, list) and isinstance(second, list):
        return [_common(first[0], second[0])]
    if isinstance(first, dict) and isinstance(second, dict) and first.keys() == second.keys():
        return {key: _common(kind, second[key]) for key, kind in first.items()}
    return "float64" if first in ("int64", "float64") and second in ("int64", "float64") else "json"


def _feature(kind: Kind) -> Any:
    from datasets import List, Value

    from tailgrad.rollouts.exact_json import ExactJson

    if isinstance(kind, list):
        return List(_feature(kind[0]))
    if isinstance(kind, dict):
        return {key: _feature(part) for key, part in kind.items()}
    return ExactJson() if kind == "json" else Value(kind or "null")


def _holds_json(kind: Kind) -> bool:
    parts = kind if isinstance(kind, list) else kind.values() if isinstance(kind, dict) else ()
    return kind == "json" or any(map(_holds_json, parts))


def _encoded(kind: Kind, value: Any) -> Any:
    """Write the values of the kind "json" as JSON, which `datasets` reads back; a bare "7" it would take for 7."""
    if value is None:
        return None
    if isinstance(kind, list):
        return [_encoded(kind[0], part) for part in value]
    if isinstance(kind, dict):
        return {key: _encoded(part, value[key]) for key, part in kind.items()}
    return json.dumps(value) if kind == "json" else value


@contextmanager
def opened(path: Path) -> Iterator[TextIO]:
    """Open a text file, also a compressed one.

    Args:
        path: The file.

    Raises:
        ValueError: Its compression is damaged, or its values are nested too deeply.
    """
    import fsspec

    try:
        with fsspec.open(str(path), "rt", encoding="utf-8-sig", newline="", compression="infer") as file:
            yield file
    except (EOFError, lzma.LZMAError, zlib.error) as error:
        raise ValueError(f"its compression is damaged: {error}.") from error
    except RecursionError as error:
        raise ValueError("its values are nested too deeply.") from error


def json_rows(path: Path) -> Iterator[Any]:
    """Read a JSON file: one object per line, a list of objects, or an object of columns.

    Args:
        path: The file.

    Raises:
        ValueError: It is not JSON; the message names the line.
    """
    one_value = ".json" in path.suffixes
    with opened(path) as file:
        lines = ((number, line) for number, line in enumerate(file, 1) if not line.isspace())
        _, first = next(lines, (0, ""))
        if not (first.startswith("{") and _is_json(first)):
            yield from _json_values(first + file.read())
            return
        row = json.loads(first)
        second = next(lines, None)
        yield from _rows_of_columns(row) if one_value and second is None and _are_columns(row) else [row]
        for number, line in chain([] if second is None else [second], lines):
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"line {number}, column {error.colno} is not JSON: {error.msg}.") from error


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _json_values(text: str) -> Iterator[Any]:
    """Yield the rows of a file that is one JSON value: a list of objects one at a time, or an object of columns."""
    if not text.lstrip().startswith("["):
        yield from _rows_of_columns(json.loads(text)) if text else ()
        return
    decode, blank = json.JSONDecoder().raw_decode, re.compile(r"[\s,]*")
    at = text.index("[") + 1
    while not text.startswith("]", at := blank.match(text, at).end()):  # type: ignore[union-attr]  # matches always
        value, at = decode(text, at)
        yield value
    if text[at + 1 :].strip():
        raise json.JSONDecodeError("Extra data", text, at + 1)


def _are_columns(value: dict[str, Any]) -> bool:
    """Whether one line is an object of columns, as pandas writes it; lists of objects may be one row's chats."""
    columns = list(value.values())
    if all(isinstance(column, dict) for column in columns):
        return all(name.isdecimal() for column in columns for name in column)
    return all(isinstance(column, list) and not any(isinstance(one, dict) for one in column) for column in columns)


def _rows_of_columns(columns: Any) -> Iterator[Any]:
    if not isinstance(columns, dict):
        raise ValueError(f"it holds {repr(columns)[:60]}; a JSON file holds one object per line or a list of objects.")
    keyed = [column for column in columns.values() if isinstance(column, dict)]
    if not all(isinstance(column, list | dict) for column in columns.values()):
        yield columns
        return
    if any(column.keys() != keyed[0].keys() for column in keyed):
        raise ValueError(
            f"it holds columns whose rows have other names: {', '.join(columns)}. Each must have all rows."
        )
    values = [
        [column[name] for name in keyed[0]] if isinstance(column, dict) else column for column in columns.values()
    ]
    if not all(isinstance(column, list) and len(column) == len(values[0]) for column in values):
        yield columns
        return
    for row in zip(*values, strict=True):
        yield dict(zip(columns, row, strict=True))


def csv_rows(path: Path, separator: str) -> Iterator[dict[str, str | None]]:
    """Read a CSV file with a header; an empty cell is None.

    Args:
        path: The file.
        separator: What stands between two cells.

    Raises:
        ValueError: The header names a column twice, or a line has more cells than it.
    """
    csv.field_size_limit(2**31 - 1)
    with opened(path) as file:
        lines = csv.reader(file, delimiter=separator)
        names = [name or f"Unnamed: {i}" for i, name in enumerate(next(lines, []))]
        if len(set(names)) < len(names):
            raise ValueError(f"its header names a column twice: {', '.join(names)}.")
        for cells in lines:
            if len(cells) > len(names):
                raise ValueError(f"line {lines.line_num} has {len(cells)} cells and the header {len(names)}.")
            if cells:
                yield dict(zip(names, [cell or None for cell in cells], strict=False))
