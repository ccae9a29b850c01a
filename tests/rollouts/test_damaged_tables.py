"""Every file that is not a whole rollout table is an error that names it, and never another number."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tailgrad.curves import Rollouts
from tailgrad.grid.results import COLUMNS as RESULTS
from tailgrad.grid.results import append_result, read_results
from tailgrad.rollouts import read_metadata, read_rollouts, write_table
from tailgrad.rollouts.table import COLUMNS, merge_tables

METADATA = {"sampling": {"n": 2, "temperature": 1.0, "top_p": 1.0, "top_k": 0}, "selection_reward": "rm"}
READ = ("metadata", "prompts", "responses", "rewards", "num_tokens", "finished", "logprobs", "reference_logprobs")
READ_TOO = ("selection_rewards", "distinct", "prompt_ids")


def columns() -> dict[str, list[Any]]:
    rows = [(i, j) for i in range(3) for j in range(2)]
    values = np.random.default_rng(0).normal(size=(4, 6)).tolist()
    values[0][1] = None
    return {
        "prompt_id": [i for i, _ in rows],
        "prompt": [f"prompt {i} \N{BULLET}" for i, _ in rows],
        "response": [f"response {i} {j} \N{BULLET}" for i, j in rows],
        "response_index": [j for _, j in rows],
        "num_tokens": [3 + j for _, j in rows],
        "finished": [j > 0 for _, j in rows],
        "token_ids": [list(range(i, i + j + 1)) for i, j in rows],
        **dict(zip(("reward", "logprob", "reference_logprob", "selection_reward"), values, strict=True)),
    }


def everything(path: Path) -> str:
    """All that a table holds, as text."""
    table: Rollouts = read_rollouts(path)
    values = [getattr(table, name) for name in (*READ, *READ_TOO)]
    table.measures()
    tokens = None if table.token_ids is None else [ids.tolist() for ids in table.token_ids.ravel()]
    return repr([value.tolist() if isinstance(value, np.ndarray) else value for value in values] + [tokens])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_table(tmp_path / "a.parquet", columns(), METADATA)
    return tmp_path / "a.parquet"


def mutated(data: bytes, generator: random.Random) -> bytes:
    """A bit flipped, some bytes overwritten, the end missing, or a piece missing."""
    at, kind = generator.randrange(len(data)), generator.random()
    if kind < 0.7:
        return data[:at] + bytes([data[at] ^ 1 << generator.randrange(8)]) + data[at + 1 :]
    if kind < 0.8:
        return data[:at] + generator.randbytes(4) + data[at + 4 :]
    return data[:at] if kind < 0.9 else data[:at] + data[at + generator.randrange(1, 20) :]


def test_a_damaged_table_is_named_or_read_as_it_was(path: Path) -> None:
    data, whole, generator = path.read_bytes(), everything(path), random.Random(0)
    without_metadata = whole.replace(repr(METADATA), "{}", 1)  # which `curve` tells
    refused = 0
    for _ in range(300):
        path.write_bytes(mutated(data, generator))
        try:
            assert everything(path) in (whole, without_metadata)
        except (ValueError, OSError) as error:
            assert "a.parquet'" in str(error)  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
            refused += 1
    assert refused > 150


def test_damaged_results_of_a_grid_are_named_or_read_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "results.parquet"
    given = {"string": "text", "int64": 3, "float64": 0.5, "list<int64>": [1, 2], "list<float64>": [0.5, 1.5]}
    append_result(path, {name: given.get(kind, [[0.5], [1.5]]) for name, kind in RESULTS.items()})
    data, whole, generator = path.read_bytes(), read_results(path), random.Random(1)
    for _ in range(100):
        path.write_bytes(mutated(data, generator))
        try:
            assert read_results(path) == whole
        except (ValueError, OSError) as error:
            assert "results.parquet'" in str(error)  # noqa: PT017
    path.write_bytes(data)
    changed = pq.read_table(path).drop_columns("seed").append_column("seed", pa.array(["first"]))
    pq.write_table(changed, path)
    with pytest.raises(ValueError, match=r"results '.*results\.parquet'"):
        read_results(path)


@pytest.mark.parametrize("metadata", [b"", b"{", b"[1]", b"null", b'"text"', b"\xff\xfe", b"1" * 5000, b"[" * 10**5])
def test_metadata_that_are_not_a_json_object(path: Path, metadata: bytes) -> None:
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({b"tailgrad": metadata}), path)
    for read in (read_rollouts, read_metadata):
        with pytest.raises(ValueError, match=r"rollout table '.*a\.parquet': the metadata under the key 'tailgrad'"):
            read(path)


@pytest.mark.parametrize("field", ["sampling", "reward_options", "dataset"])
def test_metadata_of_which_a_field_is_not_an_object(path: Path, field: str) -> None:
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({b"tailgrad": json.dumps({field: "text"})}), path)
    with pytest.raises(ValueError, match=rf"a\.parquet': .* has 'text' for {field}; it must be a JSON object"):
        read_rollouts(path)


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("reward", pa.array(["1.5"] * 6), "has the type string; it must be float64"),
        ("reward", pa.array([1.0, float("inf"), None, 0.0, 0.0, 0.0]), "has an infinity"),
        ("selection_reward", pa.array([1.0, float("-inf"), None, 0.0, 0.0, 0.0]), "has an infinity"),
        ("finished", pa.array(["yes"] * 6), "has the type string; it must be bool"),
        ("num_tokens", pa.array([True] * 6), "has the type bool; it must be int32"),
        ("num_tokens", pa.array([1, 2, None, 4, 5, 6]), "has nulls"),
        ("num_tokens", pa.array([2**40] * 6), "1099511627776 not in range"),
        ("response", pa.array([1] * 6), "has the type int64; it must be string"),
        ("response", pa.array(["a", None] * 3), "has nulls"),
        ("prompt", pa.array([["a"]] * 6), "it must be string"),
        ("prompt_id", pa.array([0.0, 0.0, 1.0, 1.0, float("nan"), 2.0]), "nan was truncated"),
        ("prompt_id", pa.array([0.0, 0.0, 1.5, 1.5, 2.0, 2.0]), "1.500000 was truncated"),
        ("prompt_id", pa.array([0, 0, 1, 1, None, 2]), "has nulls"),
        ("prompt_id", pa.array(["a", "a", "b", "b", None, "c"]), "has nulls"),
        ("prompt_id", pa.array([-1, -1, 1, 1, 2, 2]), "has -1; it counts from 0"),
        ("response_index", pa.array([0, 1, 0, -1, 0, 1]), "has -1; it counts from 0"),
        ("response_index", pa.array(["0", "1"] * 3), "has the type string; it must be int32"),
        ("token_ids", pa.array(["1 2"] * 6), "has the type string; it must be list<int32>"),
        ("token_ids", pa.array([["a"]] * 6), "it must be list<int32>"),
        ("token_ids", pa.array([[1.5]] * 6), "it must be list<int32>"),
        ("token_ids", pa.array([[1], None, [1], [1], [1], [1]]), "is null in 1 of 6 rows"),
    ],
)
def test_columns_with_other_values(path: Path, column: str, values: pa.Array, said: str) -> None:
    table = pq.read_table(path)
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, column, values), path)
    with pytest.raises(ValueError, match=r"rollout table '.*a\.parquet': column '" + column + "'") as error:
        everything(path)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("column", "values", "attribute", "read"),
    [
        ("reward", pa.array([True, False] * 3), "rewards", [1.0, 0.0] * 3),
        ("reward", pa.array([None] * 6), "rewards", [np.nan] * 6),
        ("reward", pa.array([1, 0] * 3, "int8"), "rewards", [1.0, 0.0] * 3),
        ("num_tokens", pa.array([3.0] * 6), "num_tokens", [3] * 6),
        ("token_ids", pa.array([[1, 2]] * 6, pa.large_list(pa.int64())), "token_ids", [[1, 2]] * 6),
        ("token_ids", pa.array([[]] * 6), "token_ids", [[]] * 6),
        ("prompt", pa.array(["same"] * 6).dictionary_encode(), "prompts", ["same"] * 3),
    ],
)
def test_columns_with_other_types_of_the_same_values(
    path: Path, column: str, values: pa.Array, attribute: str, read: list[Any]
) -> None:
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.column_names.index(column), column, values), path)
    found = getattr(read_rollouts(path), attribute)
    if attribute == "token_ids":
        found = np.array([ids.tolist() for ids in found.ravel()])
    np.testing.assert_array_equal(np.ravel(found), np.ravel(read))


def test_one_prompt_id_with_two_prompts(path: Path) -> None:
    write_table(path, columns() | {"prompt": ["a", "a", "b", "c", "d", "d"]}, METADATA)
    with pytest.raises(ValueError, match=r"a\.parquet' has more than one prompt with prompt_id 1: 'b' and 'c'"):
        read_rollouts(path)


def test_a_column_that_is_there_twice(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.append_column("reward", table["reward"]), path)
    with pytest.raises(ValueError, match=r"a\.parquet' has more than one column 'reward'"):
        read_rollouts(path)


def test_a_selection_that_the_metadata_name_and_the_file_does_not_have(path: Path) -> None:
    pq.write_table(pq.read_table(path).drop_columns("selection_reward"), path)
    with pytest.raises(ValueError, match="lacks the columns selection_reward"):
        read_rollouts(path)


def test_a_text_that_is_not_utf8(path: Path) -> None:
    broken = pa.StringArray.from_buffers(6, pa.py_buffer(np.arange(7, dtype=np.int32)), pa.py_buffer(b"\xff" * 6))
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.column_names.index("response"), "response", broken), path)
    with pytest.raises(ValueError, match=r"a\.parquet': column 'response'"):
        everything(path)


def test_a_damaged_part_of_a_merge_is_named(path: Path, tmp_path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    (tmp_path / "part.parquet").write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"part\.parquet'"):
        merge_tables([path, tmp_path / "part.parquet"], tmp_path / "whole.parquet", METADATA)
    assert not (tmp_path / "whole.parquet").exists()


def test_all_columns_are_tried_here() -> None:
    assert set(columns()) == set(COLUMNS)
