from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tailgrad.rollouts import read_metadata, read_rollouts, write_table
from tailgrad.rollouts.table import COLUMNS, merge_tables

METADATA = {"model": "m", "sampling": {"n": 2, "temperature": 0.7}, "training_temperature": None}


def columns(prompt_ids: tuple[int, ...] = (0, 3), n: int = 2) -> dict[str, list[Any]]:
    rows = [(i, j) for i in prompt_ids for j in range(n)]
    return {
        "prompt_id": [i for i, _ in rows],
        "prompt": [f"prompt {i}" for i, _ in rows],
        "response": [f"response {i} {j}" for i, j in rows],
        "response_index": [j for _, j in rows],
        "reward": [None if (i, j) == (3, 0) else i + 0.1 * j for i, j in rows],
        "num_tokens": [10 * i + j for i, j in rows],
        "finished": [j == 0 for _, j in rows],
        "logprob": [-1.5 * i - j for i, j in rows],
        "reference_logprob": [-2.5 * i - j for i, j in rows],
        "token_ids": [list(range(i, i + j + 1)) for i, j in rows],
    }


def shuffled(values: dict[str, list[Any]]) -> dict[str, list[Any]]:
    order = np.random.default_rng(0).permutation(len(values["prompt_id"]))
    return {name: [column[i] for i in order] for name, column in values.items()}


def test_what_is_written_is_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rollouts.parquet"
    write_table(path, shuffled(columns()), METADATA)
    table = read_rollouts(path)
    assert table.metadata == read_metadata(path) == METADATA
    assert table.prompt_ids.tolist() == [0, 3]
    assert table.prompts == ["prompt 0", "prompt 3"]
    assert table.responses == [["response 0 0", "response 0 1"], ["response 3 0", "response 3 1"]]
    np.testing.assert_array_equal(table.rewards, [[0.0, 0.1], [np.nan, 3.1]])
    np.testing.assert_array_equal(table.num_tokens, [[0, 1], [30, 31]])
    np.testing.assert_array_equal(table.finished, [[True, False], [True, False]])
    np.testing.assert_array_equal(table.logprobs, [[0.0, -1.0], [-4.5, -5.5]])
    np.testing.assert_array_equal(table.reference_logprobs, [[0.0, -1.0], [-7.5, -8.5]])
    assert [[ids.tolist() for ids in group] for group in table.token_ids] == [[[0], [0, 1]], [[3], [3, 4]]]
    assert table.distinct.tolist() == [2, 2]


def test_the_columns_have_the_documented_types_and_others_can_read_them(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", columns(), METADATA)
    schema = pq.read_schema(tmp_path / "a.parquet")
    names = {"double": "float64", "list<element: int32>": "list<int32>"}
    assert {field.name: names.get(str(field.type), str(field.type)) for field in schema} == COLUMNS
    frame = pd.read_parquet(tmp_path / "a.parquet")
    assert frame.shape == (4, len(COLUMNS))
    assert frame["reward"].isna().tolist() == [False, False, True, False]


def test_rows_in_any_order_are_read_as_those_in_order(tmp_path: Path) -> None:
    values = columns(tuple(range(40)), n=5)
    values["response"] = [f"response {j % (1 + i % 5)}" for i in range(40) for j in range(5)]
    values["selection_reward"] = [-float(i) for i in range(200)]
    write_table(tmp_path / "a.parquet", values, METADATA)
    write_table(tmp_path / "b.parquet", shuffled(values), METADATA)
    first, second = read_rollouts(tmp_path / "a.parquet"), read_rollouts(tmp_path / "b.parquet")
    for name in ("rewards", "num_tokens", "finished", "logprobs", "reference_logprobs", "selection_rewards"):
        np.testing.assert_array_equal(getattr(second, name), getattr(first, name))
    assert second.selection_rewards.tolist() == (-np.arange(200.0).reshape(40, 5)).tolist()
    assert second.prompts == first.prompts == [f"prompt {i}" for i in range(40)]
    assert second.responses == first.responses
    assert first.distinct.tolist() == second.distinct.tolist() == [1, 2, 3, 4, 5] * 8
    assert all((a == b).all() for a, b in zip(first.token_ids.ravel(), second.token_ids.ravel(), strict=True))


def test_prompts_in_order_whose_responses_are_not(tmp_path: Path) -> None:
    values = {name: column[1::-1] + column[2:] for name, column in columns().items()}
    write_table(tmp_path / "a.parquet", values, METADATA)
    table = read_rollouts(tmp_path / "a.parquet")
    assert table.responses == [["response 0 0", "response 0 1"], ["response 3 0", "response 3 1"]]
    np.testing.assert_array_equal(table.rewards, [[0.0, 0.1], [np.nan, 3.1]])


def test_a_table_is_what_it_was_when_it_was_opened(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", columns(), METADATA)
    table = read_rollouts(tmp_path / "a.parquet")
    write_table(tmp_path / "a.parquet", columns() | {"reward": [7.0] * 4, "response": ["other"] * 4}, METADATA)
    assert table.responses[0] == ["response 0 0", "response 0 1"]
    np.testing.assert_array_equal(table.rewards, [[0.0, 0.1], [np.nan, 3.1]])


def test_through_pandas_the_columns_come_back_and_the_metadata_do_not(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", columns(), METADATA)
    frame = pd.read_parquet(tmp_path / "a.parquet")
    wider = frame.astype({"response_index": "int64", "num_tokens": "float64", "prompt": "category"})
    for number, changed in enumerate((frame, frame[::-1], wider)):
        changed.to_parquet(tmp_path / f"{number}.parquet")
        table, before = read_rollouts(tmp_path / f"{number}.parquet"), read_rollouts(tmp_path / "a.parquet")
        assert table.metadata == {}
        assert (table.prompts, table.responses) == (before.prompts, before.responses)
        assert table.num_tokens.dtype == np.int32
        for name in ("rewards", "num_tokens", "finished", "logprobs"):
            np.testing.assert_array_equal(getattr(table, name), getattr(before, name))
        assert table.token_ids[1, 1].tolist() == [3, 4]
        assert table.selection_rewards is None


def test_prompt_ids_may_be_texts(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", columns((0, 1, 2)), METADATA)
    frame = pd.read_parquet(tmp_path / "a.parquet")
    frame["prompt_id"] = frame["prompt_id"].map({0: "q-2", 1: "q-0", 2: "q-10"})
    frame.to_parquet(tmp_path / "b.parquet")
    table = read_rollouts(tmp_path / "b.parquet")
    assert table.prompt_ids.tolist() == ["q-0", "q-10", "q-2"]
    assert table.prompts == ["prompt 1", "prompt 2", "prompt 0"]
    np.testing.assert_array_equal(table.num_tokens, [[10, 11], [20, 21], [0, 1]])


def test_no_reference_policy(tmp_path: Path) -> None:
    values = columns()
    values["reference_logprob"] = [None] * 4
    write_table(tmp_path / "a.parquet", values, {})
    assert read_rollouts(tmp_path / "a.parquet").reference_logprobs is None
    table = pq.read_table(tmp_path / "a.parquet").drop_columns("reference_logprob").replace_schema_metadata(None)
    pq.write_table(table, tmp_path / "b.parquet")
    assert read_rollouts(tmp_path / "b.parquet").reference_logprobs is None
    assert read_rollouts(tmp_path / "b.parquet").metadata == {}


def test_tables_without_token_ids(tmp_path: Path) -> None:
    values = columns()
    del values["token_ids"]
    write_table(tmp_path / "a.parquet", values, {})
    assert read_rollouts(tmp_path / "a.parquet").token_ids is None
    pq.write_table(pq.read_table(tmp_path / "a.parquet").drop_columns("token_ids"), tmp_path / "b.parquet")
    assert read_rollouts(tmp_path / "b.parquet").token_ids is None


def test_nothing_scored(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", columns() | {"reward": [None] * 4}, {})
    assert np.isnan(read_rollouts(tmp_path / "a.parquet").rewards).all()


def test_merging_keeps_every_row(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", columns((0, 1)), {"part": 0})
    write_table(tmp_path / "b.parquet", columns((2, 3)), {"part": 1})
    merge_tables([tmp_path / "a.parquet", tmp_path / "b.parquet"], tmp_path / "c.parquet", METADATA)
    write_table(tmp_path / "d.parquet", columns((0, 1, 2, 3)), METADATA)
    assert pq.read_table(tmp_path / "c.parquet").equals(pq.read_table(tmp_path / "d.parquet"), check_metadata=True)


def test_a_file_appears_complete_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError)):
        write_table(tmp_path / "a.parquet", columns() | {"num_tokens": ["many"] * 4}, {})
    assert list(tmp_path.iterdir()) == []
    write_table(tmp_path / "a.parquet", columns(), {})
    (tmp_path / "b.parquet").write_bytes(b"PAR1 half a file")
    before = (tmp_path / "a.parquet").read_bytes()
    with pytest.raises(ValueError, match=r"b\.parquet'"):  # the second part, after the first was written
        merge_tables([tmp_path / "a.parquet", tmp_path / "b.parquet"], tmp_path / "a.parquet", {"new": True})
    assert (tmp_path / "a.parquet").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "b.parquet"]


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"rollout table '.*none\.parquet': there is no such file"):
        read_rollouts(tmp_path / "none.parquet")


def test_a_file_that_is_not_parquet(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("prompt,reward\n")
    with pytest.raises(ValueError, match=r"a\.parquet' is not a Parquet file"):
        read_rollouts(tmp_path / "a.parquet")


def test_an_empty_table(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", {name: [] for name in COLUMNS}, METADATA)
    with pytest.raises(ValueError, match="is empty: it has no rows"):
        read_rollouts(tmp_path / "a.parquet")


def test_missing_columns(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", columns(), {})
    table = pq.read_table(tmp_path / "a.parquet").drop_columns(["reward", "finished"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="lacks the columns reward, finished"):
        read_rollouts(tmp_path / "a.parquet")


def test_prompts_with_different_numbers_of_responses(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", {name: column[:-1] for name, column in columns().items()}, {})
    with pytest.raises(ValueError, match=r"responses per prompt: 1 for prompt 3, 2 for prompt 0"):
        read_rollouts(tmp_path / "a.parquet")


def test_a_response_that_is_there_twice(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", {name: column + column[-1:] for name, column in columns().items()}, {})
    with pytest.raises(ValueError, match="has response 1 of prompt 3 more than once"):
        read_rollouts(tmp_path / "a.parquet")
