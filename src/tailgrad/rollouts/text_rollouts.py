"""Rollouts in CSV and JSON files: brought into a Parquet file, which is then read like any other."""

from __future__ import annotations

import csv
import math
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Int

from tailgrad.rollouts.layout import COLUMNS, OPTIONAL, leave_out, roles_of, step_column
from tailgrad.rollouts.parquet import ParquetColumns, arrow_schema, json_text, naming
from tailgrad.rollouts.text_files import EVERY_ROW
from tailgrad.rollouts.text_rows import csv_rows, json_rows, opened

SEPARATORS: Final = {".csv": ",", ".tsv": "\t"}
JSON_ENDINGS: Final = (".jsonl", ".json", ".ndjson")

_NUMBER: Final = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf|infinity)", re.ASCII)
"""A number, in small letters."""
_LOOK, _AT_ONCE = 1000, 2**14  # rows
_MUST: Final = {
    "float64": "it must be a number, true or false, or empty where it is not known",
    "int32": "it must be a whole number",
    "bool": "it must be true or false",
}


class _OtherValueError(ValueError):
    """A value is not of its column's type."""

    def __init__(self, role: str, said: str) -> None:
        super().__init__(said)
        self.role = role


def text_columns(path: Path, ending: str, source: str, asked: Mapping[str, str | None]) -> ParquetColumns:
    """Read a CSV or JSON file of rollouts; of the columns those that have a role, under their names in a rollout table.

    Args:
        path: The file.
        ending: Which of `SEPARATORS` or `JSON_ENDINGS` it is.
        source: Names the file, the first words of errors.
        asked: See `roles_of`.

    Returns:
        The columns; ids are texts. No more than a part of them is held in memory. One of `OPTIONAL` that has a value
        of another type is left out with a warning.

    Raises:
        ValueError: The file is not written in its format, has no rows, lacks a column, or a value has another type.
    """
    read = partial(csv_rows, path, SEPARATORS[ending]) if ending in SEPARATORS else partial(json_rows, path)
    with _reading(source):
        first = list(islice(read(), _LOOK))
    if not first:
        raise ValueError(f"{source} is empty: it has no rows.")
    names = list(dict.fromkeys(name for row in first if isinstance(row, dict) for name in row))
    roles = roles_of(names, asked, source)
    roles.pop("token_ids", None)
    if (step := step_column(names)) is not None:
        roles["step"] = step
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, _reading(source):
        _write_fitting(Path(folder) / "rollouts.parquet", read, roles, source, cells=ending in SEPARATORS)
        columns = ParquetColumns(Path(folder) / "rollouts.parquet", source)
    columns.name = source
    return columns


def is_wide(path: Path, ending: str, source: str) -> bool:
    """Return whether a CSV file has no header: its first line is numbers, the rewards of the first prompt."""
    with _reading(source), opened(path) as file:
        cells = next(csv.reader(file, delimiter=SEPARATORS[ending]), [])
    return any(cells) and all(_is_number(cell) for cell in cells)


def wide_rewards(path: Path, ending: str, source: str) -> tuple[Float[np.ndarray, "P n"], Int[np.ndarray, " P"]]:
    """Read a CSV file with one line per prompt and one cell per reward.

    Args:
        path: The file.
        ending: Which of `SEPARATORS` it is.
        source: Names the file, the first words of errors.

    Returns:
        The rewards, NaN where a cell is empty, and the number of cells of each prompt.

    Raises:
        ValueError: A cell is no number, or there is a header, an index, or a column of prompts (see `_not_rewards`).
    """
    with _reading(source), opened(path) as file:
        lines = [[cell.strip() for cell in cells] for cells in csv.reader(file, delimiter=SEPARATORS[ending]) if cells]
    if found := _not_rewards(lines):
        raise ValueError(
            f"{source}: {found}. If it holds rewards alone, one line per prompt, give an array (.npy), or write them "
            "with a point (0.0)."
        )
    counts = np.array([len(cells) for cells in lines])
    rewards = np.full((len(lines), counts.max()), np.nan)
    with _reading(source):
        for row, cells in enumerate(lines):
            rewards[row, : len(cells)] = [_number(cell or None, "reward", row, "reward", cells=True) for cell in cells]
    return rewards, counts


def _not_rewards(lines: list[list[str]]) -> str | None:
    """Say what else than rewards a file of numbers seems to hold: whole numbers that count columns, lines, prompts."""
    header, widest = lines[0], max(map(len, lines))
    column, others = [cells[0] for cells in lines], [cell for cells in lines for cell in cells[1:] if cell]
    of_pandas = "write it with `to_csv(..., index=False, header=False)`"
    if len(header) > 1 and not header[0] and _counts(header[1:]):
        return f"its first line is {','.join(header[:4])}, a header above a column with the index: {of_pandas}"
    if _counts(header) and len(header) == widest and (len(lines) > 1 or header[0] == "0"):
        start = ",".join(header[:4])
        return f"its first line is {start}, which looks like a header: remove it if it is one, or {of_pandas}"
    rises = _rises(column) and not all(cell.lstrip("-").isdecimal() for cell in others)
    if len(column) > 2 and widest > 1 and (_counts(column) or rises):
        return f"its first column is {','.join(column[:3])}, ..., an index: {of_pandas}"
    whole = all(map(str.isdecimal, column)) and len(set(column)) < len(column)
    two = {len(cells) for cells in lines} == {2}
    if whole and (two or not all(cells[-1].isdecimal() for cells in lines if cells[-1])):
        return "its first column looks like prompt_id: give it a header, such as the line prompt_id,reward"
    return None


def _counts(cells: list[str]) -> bool:
    """Whether whole numbers go up by one: from 0, or from any other number on if there are three or more."""
    if cells == [str(place) for place in range(len(cells))]:
        return True
    return len(cells) > 2 and _rises(cells) and int(cells[-1]) - int(cells[0]) == len(cells) - 1


def _rises(cells: list[str]) -> bool:
    """Whether these are whole numbers, each larger than the one before."""
    return all(map(str.isdecimal, cells)) and all(int(left) < int(right) for left, right in pairwise(cells))


@contextmanager
def _reading(source: str) -> Iterator[None]:
    """Let every error of a file begin with its name."""
    import pyarrow as pa

    try:
        with naming(source, "cannot be read", "Correct the file."):
            yield
    except (csv.Error, ValueError) as error:
        if str(error).startswith(source) or isinstance(error, pa.ArrowException):
            raise
        raise ValueError(f"{source}: {error}") from error


def _write_fitting(
    path: Path, read: Callable[[], Iterator[Any]], roles: Mapping[str, str], source: str, *, cells: bool
) -> None:
    """Write the rows; without an optional column that has a value of another type."""
    try:
        _write(path, read(), roles, cells=cells)
    except _OtherValueError as error:
        if error.role not in OPTIONAL:
            raise
        leave_out(ValueError(f"{source}: {error}"))
        _write_fitting(path, read, {k: v for k, v in roles.items() if k != error.role}, source, cells=cells)


def _write(path: Path, rows: Iterable[Any], roles: Mapping[str, str], *, cells: bool) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {name: "string" if name in ("prompt_id", "step") else COLUMNS[name] for name in roles}
    schema, row = arrow_schema(kinds), 0
    left = iter(rows)
    with pq.ParquetWriter(path, schema) as writer:
        while batch := list(islice(left, _AT_ONCE)):
            columns = {
                name: [_value(one, row + i, roles[name], name, kind, cells=cells) for i, one in enumerate(batch)]
                for name, kind in kinds.items()
            }
            writer.write_table(pa.table(columns, schema=schema))
            row += len(batch)


def _value(values: Any, row: int, column: str, role: str, kind: str, *, cells: bool) -> Any:
    """One value as its column's type."""
    if not isinstance(values, dict):
        raise ValueError(f"row {row} (counted from 0) is {repr(values)[:60]}; {EVERY_ROW}.")
    value = values.get(column)
    if kind == "string":
        if value is None and role != "response":
            raise ValueError(f"row {row} (counted from 0) has no {column!r}; every row must say its prompt.")
        return "" if value is None else json_text(value)
    if kind == "float64":
        return _number(value, column, row, role, cells=cells)
    found = _from_cell(value) if cells and value is not None else value
    whole = isinstance(found, float) and found.is_integer()
    if not isinstance(found, bool if kind == "bool" else int) and not (kind != "bool" and whole):
        raise _OtherValueError(role, f"row {row} (counted from 0) has {value!r} as its {column!r}; {_MUST[kind]}.")
    return found


def _number(value: Any, column: str, row: int, role: str, *, cells: bool) -> float | None:
    found = _from_cell(value) if cells and value is not None else value
    if found is None or isinstance(found, bool | int | float):
        return math.nan if found is None else float(found)
    given = f"row {row} (counted from 0) has {str(value)[:40]!r} as its {column!r}"
    raise _OtherValueError(role, f"{given}; {_MUST['float64']}.")


def _from_cell(cell: str) -> Any:
    """The number or truth value that a cell of a CSV file holds, else its text; 1_000 and digits of others are text."""
    word = cell.strip().lower()
    if word in ("true", "false"):
        return word == "true"
    if not _NUMBER.fullmatch(word):
        return cell
    try:
        return int(word) if word.lstrip("-").isdigit() else float(word)
    except ValueError:  # more digits than Python reads
        return cell


def _is_number(cell: str) -> bool:
    return cell == "" or isinstance(_from_cell(cell), int | float)
