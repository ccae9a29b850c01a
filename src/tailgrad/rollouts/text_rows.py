"""The rows of JSON and CSV files, one after the other, as they are written."""

from __future__ import annotations

import csv
import json
import lzma
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, TextIO


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
    while not text.startswith("]", at := next(blank.finditer(text, at)).end()):
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
    if not all(isinstance(column, list | dict) for column in columns.values()):
        yield columns
        return
    keyed = [column for column in columns.values() if isinstance(column, dict)]
    if any(column.keys() != keyed[0].keys() for column in keyed):
        raise ValueError(
            f"it holds columns whose rows have other names: {', '.join(columns)}. Each must have all rows."
        )
    values = [
        [column[name] for name in keyed[0]] if isinstance(column, dict) else column for column in columns.values()
    ]
    if len({*map(len, values)}) > 1:
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
