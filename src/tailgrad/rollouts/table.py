"""The rollout table: Parquet with one row a response, and its metadata."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from tailgrad.files import replacing

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


@dataclass(frozen=True)
class RolloutTable:
    """A rollout table in memory, P prompts with n responses each.

    Attributes:
        metadata: Where the rollouts come from: model, revision, sampling, seed, reward, dataset, ...; {} if
            the file carries none.
        prompt_ids: Row of the data set of each prompt `[P]`, ascending.
        prompts: The prompts; the JSON of the messages where they are chats.
        responses: n responses a prompt.
        rewards: `[P, n]`, NaN where unscored.
        num_tokens: Response tokens without the end token `[P, n]`.
        finished: False where the response was cut off at max_new_tokens `[P, n]`.
        logprobs: Sum of log-probabilities (nats) of the response's tokens, end token included `[P, n]`.
        reference_logprobs: The same under the reference policy `[P, n]`, None if there was none.
        token_ids: The tokens of each response, end token included: an array of objects `[P, n]`, each an array
            of int32. The text does not give them back. None if they were not kept.
        selection_rewards: What the best response is picked by where that is not `rewards`, `[P, n]`, NaN where
            unscored. None if it is.
    """

    metadata: dict[str, Any]
    prompt_ids: Int[np.ndarray, " P"]
    prompts: list[str]
    responses: list[list[str]]
    rewards: Float[np.ndarray, "P n"]
    num_tokens: Int[np.ndarray, "P n"]
    finished: Bool[np.ndarray, "P n"]
    logprobs: Float[np.ndarray, "P n"]
    reference_logprobs: Float[np.ndarray, "P n"] | None
    token_ids: np.ndarray | None = None
    selection_rewards: Float[np.ndarray, "P n"] | None = None


def write_table(path: str | Path, columns: Mapping[str, Sequence[Any]], metadata: Mapping[str, Any]) -> None:
    """Write a rollout table; the file appears complete or not at all.

    Args:
        path: The Parquet file.
        columns: One value a response for each of `COLUMNS`; None is null, and so are `token_ids` and
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
    """
    import pyarrow.parquet as pq

    schema = _schema(metadata)
    _write(path, schema, (pq.read_table(part).replace_schema_metadata(schema.metadata) for part in parts))


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Return the metadata of a rollout table without reading its rows.

    Args:
        path: The Parquet file.

    Returns:
        The metadata, {} if the file carries none.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not Path(path).is_file():
        raise FileNotFoundError(f"rollout table {str(path)!r}: there is no such file. `tailgrad sample` writes one.")
    try:
        schema = pq.read_schema(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"rollout table {str(path)!r} is not a Parquet file: {error}") from error
    metadata: dict[str, Any] = json.loads((schema.metadata or {}).get(METADATA_KEY, b"{}"))
    return metadata


def read_table(path: str | Path) -> RolloutTable:
    """Read a rollout table.

    Args:
        path: A Parquet file with `COLUMNS`; `reference_logprob`, `token_ids` and `selection_reward` may be
            missing. Rows may be in any order.

    Returns:
        The table, prompts in the order of `prompt_id`, responses in the order of `response_index`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a Parquet file, has no rows, lacks columns, repeats a response, or its prompts
            have different numbers of responses.
    """
    import pyarrow.parquet as pq

    metadata = read_metadata(path)
    rows = pq.read_table(path)
    missing = [name for name in COLUMNS if name not in rows.column_names and name not in _OPTIONAL]
    if missing:
        raise ValueError(f"rollout table {str(path)!r} lacks the columns {', '.join(missing)}.")
    if rows.num_rows == 0:
        raise ValueError(f"rollout table {str(path)!r} is empty: it has no rows.")
    ids = rows["prompt_id"].to_numpy()
    order = np.lexsort((rows["response_index"].to_numpy(), ids))
    if (np.diff(order) != 1).any():
        rows = rows.take(order)
    prompt_ids, shape = _groups(rows["prompt_id"].to_numpy(), rows["response_index"].to_numpy(), path)
    return RolloutTable(
        metadata=metadata,
        prompt_ids=prompt_ids,
        prompts=rows["prompt"].to_pylist()[:: shape[1]],
        responses=[list(group) for group in _chunks(rows["response"].to_pylist(), shape[1])],
        rewards=_floats(rows, "reward").reshape(shape),
        num_tokens=rows["num_tokens"].to_numpy().reshape(shape),
        finished=np.array(rows["finished"].to_pylist(), dtype=bool).reshape(shape),
        logprobs=_floats(rows, "logprob").reshape(shape),
        reference_logprobs=_optional_floats(rows, "reference_logprob", shape),
        selection_rewards=_floats(rows, "selection_reward").reshape(shape)
        if "selection_reward" in metadata  # also where the reward that picks scored no response at all
        else _optional_floats(rows, "selection_reward", shape),
        token_ids=rows["token_ids"].to_numpy().reshape(shape) if _has(rows, "token_ids") else None,
    )


def _groups(ids: np.ndarray, indices: np.ndarray, path: str | Path) -> tuple[np.ndarray, tuple[int, int]]:
    """Return the prompt ids `[P]` and (P, n) of rows sorted by prompt id and response index."""
    repeated = (np.diff(ids) == 0) & (np.diff(indices) == 0)
    if repeated.any():
        at = int(np.flatnonzero(repeated)[0])
        raise ValueError(f"rollout table {str(path)!r} has response {indices[at]} of prompt {ids[at]} more than once.")
    prompt_ids, counts = np.unique(ids, return_counts=True)
    if counts.min() != counts.max():
        few, many = int(counts.argmin()), int(counts.argmax())
        raise ValueError(
            f"rollout table {str(path)!r} has different numbers of responses a prompt: {counts[few]} for "
            f"prompt {prompt_ids[few]}, {counts[many]} for prompt {prompt_ids[many]}. Sample all with one n."
        )
    return prompt_ids, (len(prompt_ids), int(counts[0]))


def _floats(rows: Any, name: str) -> np.ndarray:
    return np.asarray(rows[name].to_numpy(), dtype=np.float64)  # nulls become NaN


def _optional_floats(rows: Any, name: str, shape: tuple[int, int]) -> np.ndarray | None:
    return _floats(rows, name).reshape(shape) if _has(rows, name) else None


def _has(rows: Any, name: str) -> bool:
    return name in rows.column_names and bool(rows[name].null_count < rows.num_rows)


def _chunks(values: list[str], size: int) -> Iterable[list[str]]:
    return (values[start : start + size] for start in range(0, len(values), size))


def arrow_schema(columns: Mapping[str, str], metadata: Mapping[bytes, bytes] | None = None) -> Any:
    """Return the Arrow schema of columns given by the names of their types, such as "int64" or "list<float64>"."""
    import pyarrow as pa

    def arrow_type(kind: str) -> Any:
        if kind.startswith("list<"):
            return pa.list_(arrow_type(kind[5:-1]))
        return pa.type_for_alias(kind)

    return pa.schema([(name, arrow_type(kind)) for name, kind in columns.items()], metadata=metadata)


def _schema(metadata: Mapping[str, Any]) -> Any:
    return arrow_schema(COLUMNS, {METADATA_KEY: json.dumps(dict(metadata)).encode()})


def _write(path: Path, schema: Any, tables: Iterable[Any]) -> None:
    import pyarrow.parquet as pq

    with replacing(path) as unfinished, pq.ParquetWriter(unfinished, schema) as writer:
        for table in tables:
            writer.write_table(table)
