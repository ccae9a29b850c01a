"""The rollout table: Parquet with one row per response, and its metadata."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from tailgrad.files import replacing
from tailgrad.rollouts.groups import groups_of
from tailgrad.rollouts.parquet import ParquetColumns, arrow_schema, naming

METADATA_KEY = b"tailgrad"

COLUMNS = {
    "prompt_id": "int64",
    "prompt": "string",
    "response": "string",
    "response_index": "int32",
    "reward": "float64",
    "num_tokens": "int32",
    "finished": "bool",
    "logprob": "float64",
    "reference_logprob": "float64",
    "token_ids": "list<int32>",
    "selection_reward": "float64",
}
"""Columns of a rollout table and their Arrow types; `reward` and those after `logprob` may be null."""

_OPTIONAL = ("reference_logprob", "token_ids", "selection_reward")
_WHAT = "rollout table"


@dataclass(frozen=True, eq=False)
class RolloutTable:
    """A rollout table, P prompts with n responses each. A column is read from the file when it is first asked for.

    Attributes:
        metadata: Where the rollouts come from: model, revision, sampling, seed, reward, dataset, ...; {} if
            the file carries none.
        prompt_ids: Row of the data set of each prompt `[P]`, ascending; texts where the file has texts.
        prompts: The prompts; the JSON of the messages where they are chats.
        n: Responses per prompt.
    """

    metadata: dict[str, Any]
    prompt_ids: Shaped[np.ndarray, " P"]
    prompts: list[str]
    n: int
    _columns: ParquetColumns
    _order: Int[np.ndarray, " rows"] | None
    """The rows in order; None where they are."""

    @cached_property
    def responses(self) -> list[list[str]]:
        """The n responses to each prompt."""
        texts = self._columns.texts("response")
        if self._order is not None:
            texts = [texts[row] for row in self._order]
        return [texts[start : start + self.n] for start in range(0, len(texts), self.n)]

    @cached_property
    def distinct(self) -> Int[np.ndarray, " P"]:
        """Number of different responses to each prompt.

        They are told apart by a hash of 64 bits: among 4096 responses two are taken for one with probability 5e-13.
        """
        hashes = np.sort(self._in_order(self._columns.hashes("response")), axis=1)
        return 1 + (hashes[:, 1:] != hashes[:, :-1]).sum(axis=1)

    @cached_property
    def rewards(self) -> Float[np.ndarray, "P n"]:
        """NaN where unscored."""
        return self._finite(self._numbers("reward"), "reward")

    @cached_property
    def num_tokens(self) -> Int[np.ndarray, "P n"]:
        """Response tokens without the end token."""
        return self._numbers("num_tokens")

    @cached_property
    def finished(self) -> Bool[np.ndarray, "P n"]:
        """False where the response was cut off at max_new_tokens."""
        return self._numbers("finished")

    @cached_property
    def logprobs(self) -> Float[np.ndarray, "P n"]:
        """Sum of log-probabilities (nats) of the response's tokens, end token included."""
        return self._numbers("logprob")

    @cached_property
    def reference_logprobs(self) -> Float[np.ndarray, "P n"] | None:
        """The same under the reference policy; None if there was none."""
        return self._known_numbers("reference_logprob")

    @cached_property
    def selection_rewards(self) -> Float[np.ndarray, "P n"] | None:
        """What the best response is picked by where that is not `rewards`, NaN where unscored; None if it is."""
        if "selection_reward" in self.metadata:
            picks: np.ndarray | None = self._numbers("selection_reward")  # also where none has one
        else:
            picks = self._known_numbers("selection_reward")
        return None if picks is None else self._finite(picks, "selection_reward")

    @cached_property
    def token_ids(self) -> Shaped[np.ndarray, "P n"] | None:
        """The tokens of each response, end token included: an array of objects `[P, n]`, each an array of int32.

        The text does not give them back. None if they were not kept.

        Raises:
            ValueError: They were kept for a part of the responses.
        """
        if "token_ids" not in self._columns.names:
            return None
        tokens = np.empty(self._columns.rows, dtype=object)
        tokens[:] = self._columns.lists("token_ids")
        missing = sum(ids is None for ids in tokens)
        if missing == len(tokens):
            return None
        if missing:
            raise ValueError(f"{self._columns.name}: column 'token_ids' is null in {missing} of {len(tokens)} rows.")
        return self._in_order(tokens)

    def _numbers(self, name: str) -> np.ndarray:
        return self._in_order(self._columns.numbers(name, COLUMNS[name]))

    def _known_numbers(self, name: str) -> np.ndarray | None:
        """A column of numbers; None where it is not in the file or holds none."""
        values = self._numbers(name) if name in self._columns.names else np.full(1, np.nan)
        return None if np.isnan(values).all() else values

    def _finite(self, values: np.ndarray, name: str) -> np.ndarray:
        if np.isinf(values).any():
            raise ValueError(
                f"{self._columns.name}: column {name!r} has an infinity; it must hold numbers, null where unscored."
            )
        return values

    def _in_order(self, values: np.ndarray) -> np.ndarray:
        ordered = values if self._order is None else values[self._order]
        return ordered.reshape(-1, self.n)


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

    with naming(f"{_WHAT} {str(part)!r}"):
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
    return _metadata(_open(path))


def _open(path: str | Path) -> ParquetColumns:
    try:
        return ParquetColumns(Path(path).expanduser(), _WHAT)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error} `tailgrad sample` writes one.") from None


def _metadata(columns: ParquetColumns) -> dict[str, Any]:
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


def read_table(path: str | Path) -> RolloutTable:
    """Open a rollout table: its prompts are read and checked, other columns are read when they are first asked for.

    Args:
        path: A Parquet file with `COLUMNS`; `reference_logprob`, `token_ids` and `selection_reward` may be
            missing. Rows may be in any order, numbers of other widths, and prompt ids texts.

    Returns:
        The table, prompts in the order of `prompt_id`, responses in the order of `response_index`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a Parquet file, has no rows, lacks columns or has them with other types, repeats a
            response, has two prompts with one id, or its prompts have different numbers of responses.
    """
    columns = _open(path)
    metadata = _metadata(columns)
    needed = [name for name in COLUMNS if name not in _OPTIONAL or name in metadata]
    if missing := [name for name in needed if name not in columns.names]:
        raise ValueError(f"{columns.name} lacks the columns {', '.join(missing)}.")
    columns.check(COLUMNS | ({"prompt_id": "string"} if columns.kind_of("prompt_id") == "string" else {}))
    if columns.rows == 0:
        raise ValueError(f"{columns.name} is empty: it has no rows.")
    groups = groups_of(columns)
    return RolloutTable(metadata, groups.prompt_ids, groups.prompts, groups.n, columns, groups.order)


def _schema(metadata: Mapping[str, Any]) -> Any:
    return arrow_schema(COLUMNS, {METADATA_KEY: json.dumps(dict(metadata)).encode()})


def _write(path: Path, schema: Any, tables: Iterable[Any]) -> None:
    import pyarrow.parquet as pq

    with replacing(path) as unfinished, pq.ParquetWriter(unfinished, schema, write_page_checksum=True) as writer:
        for table in tables:
            writer.write_table(table)
