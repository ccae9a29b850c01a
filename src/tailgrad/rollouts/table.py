"""The rollout table as it is written: Parquet with one row per response, and its metadata."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tailgrad.files import expanded, replacing
from tailgrad.rollouts.layout import COLUMNS
from tailgrad.rollouts.parquet import ParquetColumns, arrow_schema, naming

METADATA_KEY = b"tailgrad"
ROLLOUT_TABLE = "rollout table"


def write_table(path: str | Path, columns: Mapping[str, Sequence[Any]], metadata: Mapping[str, Any]) -> None:
    """Write a rollout table; the file appears complete or not at all.

    Args:
        path: The Parquet file.
        columns: One value per response for each of `COLUMNS`; None is null, and so are `token_ids` and
            `selection_reward` where missing.
        metadata: Where the rollouts come from; JSON types only.
    """
    import pyarrow as pa

    schema = _schema(metadata)
    nothing = [None] * len(columns["prompt_id"])
    columns = {"token_ids": nothing, "selection_reward": nothing, **columns}
    _write(Path(path), schema, [pa.table({name: list(columns[name]) for name in COLUMNS}, schema=schema)])


def merge_tables(parts: Sequence[Path], path: Path, metadata: Mapping[str, Any]) -> None:
    """Write the rows of several tables into one, in the given order; it appears complete or not at all.

    Args:
        parts: Parquet files written by `write_table`.
        path: The Parquet file to write.
        metadata: Metadata of the merged table.

    Raises:
        ValueError: A part is damaged; the message names it.
    """
    schema = _schema(metadata)
    _write(path, schema, (_read_part(part).replace_schema_metadata(schema.metadata) for part in parts))


def _read_part(part: Path) -> Any:
    import pyarrow.parquet as pq

    with naming(f"{ROLLOUT_TABLE} {str(part)!r}"):
        return pq.read_table(part, page_checksum_verification=True)


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Return the metadata of a rollout table without reading its rows.

    Args:
        path: The Parquet file.

    Returns:
        The metadata, {} if the file carries none.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a Parquet file, or its metadata is damaged.
    """
    return metadata_of(open_table(path))


def open_table(path: str | Path) -> ParquetColumns:
    """Open a Parquet file of rollouts.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a Parquet file.
    """
    try:
        return ParquetColumns(expanded(path), ROLLOUT_TABLE)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error} `tailgrad sample` writes one.") from None


def metadata_of(columns: ParquetColumns) -> dict[str, Any]:
    """Give what a Parquet file says of where its rollouts come from, {} if it carries nothing.

    Args:
        columns: The file.

    Raises:
        ValueError: What it carries is damaged.
    """
    damaged = f"{columns.name}: the metadata under the key {METADATA_KEY.decode()!r} of its schema"
    try:
        metadata = json.loads(columns.metadata.get(METADATA_KEY, b"{}"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{damaged} is not JSON: {error}. Copy or make the table again.") from error
    if not isinstance(metadata, dict):
        raise ValueError(f"{damaged} is {str(metadata)[:40]!r}; it must be a JSON object. Make the table again.")
    for name in ("sampling", "reward_options", "dataset"):
        if not isinstance(metadata.get(name, {}), dict):
            raise ValueError(f"{damaged} has {str(metadata[name])[:40]!r} for {name}; it must be a JSON object.")
    return metadata


def _schema(metadata: Mapping[str, Any]) -> Any:
    return arrow_schema(COLUMNS, {METADATA_KEY: json.dumps(dict(metadata)).encode()})


def _write(path: Path, schema: Any, tables: Iterable[Any]) -> None:
    import pyarrow.parquet as pq

    with replacing(path) as unfinished, pq.ParquetWriter(unfinished, schema, write_page_checksum=True) as writer:
        for table in tables:
            writer.write_table(table)
