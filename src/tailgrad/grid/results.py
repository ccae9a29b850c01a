"""The results table of a grid: Parquet with one row a measurement, small enough to be committed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tailgrad.files import locked, replacing
from tailgrad.rollouts.parquet import arrow_schema, naming

_WAIT = 60.0
"""Most seconds to wait for another grid that writes a row."""

_NUMBERS = "list<float64>"
COLUMNS = {
    "key": "string",
    "policy": "string",
    "reward": "string",
    "prompts": "string",
    "estimator": "string",
    "m": "int64",
    "deploy_n": "int64",
    "kl_weight": "float64",
    "learning_rate": "float64",
    "seed": "int64",
    "split": "string",
    "step": "int64",
    "n": "int64",
    "scored_by": "string",
    "limit": "int64",
    "prompt_ids": "list<int64>",
    "budgets": "list<int64>",
    "v_n": "list<list<float64>>",
    "kl": _NUMBERS,
    "response_length": _NUMBERS,
    "distinct": _NUMBERS,
    "cut_off": _NUMBERS,
    "unscored": _NUMBERS,
    "train_seconds": "float64",
    "sample_seconds": "float64",
    "policy_sha256": "string",
    "prompts_sha256": "string",
    "machine": "string",
    "versions": "string",
    "finished_at": "string",
}
"""Columns and their types; `v_n` has one list a prompt with one value a budget, the measures one value a prompt."""
Row = dict[str, Any]


def read_results(path: Path) -> list[Row]:
    """Rows of a results table; none where there is no file yet.

    Raises:
        ValueError: The file is not a results table, or is damaged; the message names it.
    """
    import pyarrow.parquet as pq

    if not path.is_file():
        return []
    what = f"results {str(path)!r}"
    with naming(what):
        table = pq.read_table(path, page_checksum_verification=True)
        if missing := [name for name in COLUMNS if name not in table.column_names]:
            raise ValueError(f"{what} lacks the columns {', '.join(missing)}.")
        rows: list[Row] = table.select(list(COLUMNS)).cast(arrow_schema(COLUMNS)).to_pylist()
    return rows


def append_result(path: Path, row: Row) -> None:
    """Add a row to the table, unless one with its key is there.

    Other grids that write to the same table wait meanwhile. The file is replaced in one stroke, so that an interruption
    leaves it whole.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = arrow_schema(COLUMNS)
    with locked(path.with_name(f".{path.name}.lock"), f"the results table {str(path)!r}", wait=_WAIT):
        found = read_results(path)
        if any(other["key"] == row["key"] for other in found):
            return
        rows = [{name: one[name] for name in COLUMNS} for one in [*found, row]]
        table = pa.Table.from_pylist(rows, schema=schema)
        with replacing(path) as unfinished:
            pq.write_table(table, unfinished, compression="zstd", write_page_checksum=True)
