"""The results table of a grid: Parquet with one row per measurement, small enough to be committed."""

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
    "reward_sha256": "string",
    "train_sha256": "string",
    "machine": "string",
    "versions": "string",
    "finished_at": "string",
}
"""Columns and their types; `v_n` has per prompt a list with one value per budget, the measures one value per prompt."""
_ADDED = ("reward_sha256", "train_sha256")
"""Columns that tables of earlier versions lack; null there."""
Row = dict[str, Any]


def read_results(path: Path) -> list[Row]:
    """Rows of a results table; none where there is no file yet.

    Raises:
        ValueError: The file is not a results table, or is damaged; the message names it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        return []
    what = f"results {str(path)!r}"
    with naming(what):
        table = pq.read_table(path, page_checksum_verification=True)
        missing = [name for name in COLUMNS if name not in table.column_names]
        if needed := [name for name in missing if name not in _ADDED]:
            raise ValueError(f"{what} lacks the columns {', '.join(needed)}.")
        for name in missing:
            table = table.append_column(name, pa.nulls(len(table)))
        rows: list[Row] = table.select(list(COLUMNS)).cast(arrow_schema(COLUMNS)).to_pylist()
    return rows


def append_result(path: Path, row: Row) -> None:
    """Add a row to the table, unless one with its key is there.

    Other grids that write to the same table wait meanwhile. The file is replaced in one stroke, so that an interruption
    leaves it whole.

    Raises:
        ValueError: The table has rows that another reward of the same name has scored.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = arrow_schema(COLUMNS)
    with locked(path.with_name(f".{path.name}.lock"), f"the results table {str(path)!r}", wait=_WAIT):
        found = read_results(path)
        if any(other["key"] == row["key"] for other in found):
            return
        _check_reward(path, found, row)
        rows = [{name: one.get(name) for name in COLUMNS} for one in [*found, row]]
        table = pa.Table.from_pylist(rows, schema=schema)
        with replacing(path) as unfinished:
            pq.write_table(table, unfinished, compression="zstd", write_page_checksum=True)


def _check_reward(path: Path, found: list[Row], row: Row) -> None:
    """Refuse a row that another reward than that of the rows found has scored under the same name."""
    ours = row.get("reward_sha256")
    theirs = {other["reward_sha256"] for other in found if other["scored_by"] == row["scored_by"]} - {None, ours}
    if ours is not None and theirs:
        raise ValueError(
            f"results {str(path)!r} were made with another reward {row['scored_by']!r} of that name (sha256 "
            f"{min(theirs)[:12]} there, {ours[:12]} now). Give the new one another name, or start another table."
        )
