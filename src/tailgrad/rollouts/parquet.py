"""Columns of a Parquet file, read when they are asked for, in pieces; every error names the file."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

_NUMBERS_AT_ONCE, _TEXTS_AT_ONCE = 2**18, 2**10  # rows
_BUFFER = 2**20  # bytes

_CONVERTED = {
    "int32": ("int", "float"),
    "int64": ("int", "float"),
    "float64": ("float", "int", "bool", "null"),
    "bool": ("bool",),
    "string": ("string",),
    "list<int32>": ("list<int>", "list<null>", "null"),
}
"""For each type that is asked for the kinds of values that may stand for it, such as whole numbers held as floats."""


def arrow_schema(columns: Mapping[str, str], metadata: Mapping[bytes, bytes] | None = None) -> Any:
    """Return the Arrow schema of columns given by the names of their types, such as "int64" or "list<float64>"."""
    import pyarrow as pa

    return pa.schema([(name, _arrow_type(kind)) for name, kind in columns.items()], metadata=metadata)


@contextmanager
def naming(
    what: str, fault: str = "is not a Parquet file or is damaged", remedy: str = "Copy or make it again."
) -> Iterator[None]:
    """Let the error of a file that cannot be read begin with `what`, such as "rollout table 'a.parquet'".

    Raises:
        ValueError: The file is damaged, or not what it was taken for.
    """
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError, binascii.Error, MemoryError, OverflowError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise ValueError(f"{what} {fault}: {reason}. {remedy}") from error


def json_text(value: Any) -> str:
    """Return a text as it is, and all else, such as a chat, as JSON with sorted keys: equal ones are equal."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


class ParquetColumns:
    """The columns of a Parquet file; what is read later is what was there when it was opened.

    Args:
        path: The file.
        what: What it is, the first words of an error.

    Attributes:
        name: The first words of an error with the file's name.
        names: The columns.
        rows: Number of rows.
        metadata: What the schema carries, by key.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a Parquet file.
    """

    def __init__(self, path: str | Path, what: str) -> None:
        import pyarrow.parquet as pq

        self.name = f"{what} {str(path)!r}"
        if not Path(path).is_file():
            raise FileNotFoundError(f"{self.name}: there is no such file.")
        with naming(self.name):
            options: dict[str, Any] = {"buffer_size": _BUFFER, "pre_buffer": False}  # else all of a column is held
            self._file = pq.ParquetFile(path, page_checksum_verification=True, **options)
            self._schema = self._file.schema_arrow
            agrees = _is_as_written(self._schema, self._file.metadata.metadata or {})
        self.names: list[str] = list(self._schema.names)
        self.rows = int(self._file.metadata.num_rows)
        self.metadata: dict[bytes, bytes] = dict(self._schema.metadata or {})
        if self.rows < 0 or not agrees:
            raise ValueError(f"{self.name} is damaged: its footer contradicts itself. Copy or make it again.")

    def check(self, columns: Mapping[str, str]) -> None:
        """Refuse a file that has a column twice or with other values than asked for.

        Args:
            columns: The types asked for, "any" for what is read as text whatever it is; columns that are not in the
                file are passed over.

        Raises:
            ValueError: As said; the message names file and column.
        """
        for name, kind in columns.items():
            if self.names.count(name) > 1:
                raise ValueError(f"{self.name} has more than one column {name!r}.")
            if kind != "any" and name in self.names and self.kind_of(name) not in _CONVERTED[kind]:
                raise ValueError(
                    f"{self.name}: column {name!r} has the type {self._schema.field(name).type}; it must be {kind}."
                )

    def kind_of(self, name: str) -> str:
        """What a column holds: "int", "float", "bool", "string", "list<int>", ..."""
        return _kind(self._schema.field(name).type)

    def numbers(self, name: str, kind: str) -> Shaped[np.ndarray, " rows"]:
        """Read a column of numbers or truth values; nulls become NaN where `kind` is "float64", else are errors.

        Raises:
            ValueError: The file is damaged, or a value is not one of `kind`; the message names file and column.
        """
        with self._naming(name):
            values = np.empty(self.rows, dtype=kind)
            row = 0
            for array in self._arrays(name, _NUMBERS_AT_ONCE, nulls=kind == "float64"):
                values[row : row + len(array)] = array.cast(_arrow_type(kind)).to_numpy(zero_copy_only=False)
                row += len(array)
        return values

    def texts(self, name: str) -> list[str]:
        """Read a column of texts; what is none, such as a chat, is given as JSON.

        Raises:
            ValueError: The file is damaged, or a text is null; the message names file and column.
        """
        with self._naming(name):
            return [text for array in self._text_arrays(name) for text in array.to_pylist()]

    def encoded(self, name: str) -> tuple[Int[np.ndarray, " rows"], list[str]]:
        """Read a column of few different texts as the number of each row's text, and the texts.

        Raises:
            ValueError: As `texts`.
        """
        numbers: dict[str, int] = {}
        values = np.empty(self.rows, dtype=np.int32)
        row = 0
        with self._naming(name):
            for array in self._text_arrays(name):
                few = array.dictionary_encode()
                known = [numbers.setdefault(text, len(numbers)) for text in few.dictionary.to_pylist()]
                values[row : row + len(array)] = np.array(known, dtype=np.int32)[few.indices.to_numpy()]
                row += len(array)
        return values, list(numbers)

    def hashes(self, name: str) -> Int[np.ndarray, " rows"]:
        """Read a column of texts as one hash of 64 bits each, equal for equal texts within this process.

        Raises:
            ValueError: As `texts`.
        """
        with self._naming(name):
            parts = (map(hash, array.to_pylist()) for array in self._text_arrays(name))
            return np.fromiter((value for part in parts for value in part), np.int64, self.rows)

    def lists(self, name: str) -> list[np.ndarray | None]:
        """Read a column of lists of int32, one array per row; None where null.

        Raises:
            ValueError: As `numbers`.
        """
        with self._naming(name):
            arrays = (array.cast(_arrow_type("list<int32>")) for array in self._arrays(name, nulls=True))
            return [row for array in arrays for row in array.to_numpy(zero_copy_only=False)]

    def _naming(self, column: str) -> Any:
        return naming(
            f"{self.name}: column {column!r}", "cannot be read", "Correct the column, or make the table again."
        )

    def _text_arrays(self, name: str) -> Iterator[Any]:
        import pyarrow as pa

        is_text = self.kind_of(name) == "string"
        for array in self._arrays(name):
            yield array if is_text else pa.array([json_text(value) for value in array.to_pylist()], pa.string())

    def _arrays(self, name: str, at_once: int = _TEXTS_AT_ONCE, *, nulls: bool = False) -> Iterator[Any]:
        """Give a column as Arrow arrays of at most `at_once` rows, together as many as the file has."""
        import pyarrow as pa

        left = self.rows
        for batch in self._file.iter_batches(at_once, columns=[name], use_threads=False):
            array = batch.column(0)
            if pa.types.is_dictionary(array.type):
                array = array.dictionary_decode()
            if array.null_count and not nulls:
                raise ValueError(f"{self.name}: column {name!r} has nulls; it must have a value in every row.")
            left -= len(array)
            if left < 0:
                break
            yield array
        if left != 0:
            raise ValueError(f"{self.name} is damaged: column {name!r} does not have {self.rows} rows.")


def _is_as_written(schema: Any, footer: Mapping[bytes, bytes]) -> bool:
    """Whether names and metadata are those of the schema that Arrow keeps in the footer beside Parquet's own."""
    import pyarrow as pa

    if b"ARROW:schema" not in footer:
        return True
    kept = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(footer[b"ARROW:schema"])))
    metadata = dict(kept.metadata or {})
    return bool(kept.names == schema.names) and metadata == {name: footer.get(name) for name in metadata}


def _arrow_type(kind: str) -> Any:
    import pyarrow as pa

    return pa.list_(_arrow_type(kind[5:-1])) if kind.startswith("list<") else pa.type_for_alias(kind)


def _kind(arrow_type: Any) -> str:
    from pyarrow import types

    if types.is_dictionary(arrow_type):
        return _kind(arrow_type.value_type)
    if types.is_list(arrow_type) or types.is_large_list(arrow_type) or types.is_fixed_size_list(arrow_type):
        return f"list<{_kind(arrow_type.value_type)}>"
    tests = {
        "string": types.is_string(arrow_type) or types.is_large_string(arrow_type) or types.is_string_view(arrow_type),
        "bool": types.is_boolean(arrow_type),
        "int": types.is_integer(arrow_type),
        "float": types.is_floating(arrow_type) or types.is_decimal(arrow_type),
    }
    return next((kind for kind, holds in tests.items() if holds), str(arrow_type))
