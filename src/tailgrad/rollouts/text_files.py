"""JSON and CSV files as a memory-mapped data set whose values are those of the file: text stays text."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial, reduce
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

from tailgrad.rollouts.text_rows import csv_rows, json_rows

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
