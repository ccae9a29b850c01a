"""Files that are no rollouts: what is wrong is said, with what to do."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tailgrad.rollouts import read_rollouts, write_table
from tailgrad.rollouts.layout import COLUMNS
from written_rollouts import rollouts_of


@pytest.mark.parametrize("column", ["prompt_column", "reward_column", "response_column"])
def test_a_column_is_refused_where_there_is_no_choice(column: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[1.0, 2.0]]))
    (tmp_path / "a.csv").write_text("0.5,2.5\n")
    write_table(tmp_path / "a.parquet", {name: [value] for name, value in our_row().items()}, {"reward": "length"})
    for ending in ("npy", "csv", "parquet"):
        read_rollouts(tmp_path / f"a.{ending}")
        with pytest.raises(ValueError, match=rf"a\.{ending}': {column}='quality' cannot be chosen, since it"):
            read_rollouts(tmp_path / f"a.{ending}", **{column: "quality"})


def test_a_damaged_column_is_an_error_and_not_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"prompt": ["a"] * 2000, "reward": [1.0] * 2000, "num_tokens": list(range(2000))})
    pq.write_table(table, path, compression="none", use_dictionary=False, write_page_checksum=True)
    data = path.read_bytes()
    at = data.index(np.arange(700, 800, dtype=np.int64).tobytes())
    path.write_bytes(data[:at] + b"\xff" + data[at + 1 :])
    rollouts = read_rollouts(path)
    with pytest.raises(ValueError, match=r"a\.parquet': column 'num_tokens' cannot be read"):
        _ = rollouts.num_tokens


def our_row() -> dict[str, Any]:
    return {name: {"string": "a", "bool": True}.get(kind, 1) for name, kind in COLUMNS.items()} | {"token_ids": [1]}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "", "is empty: it has no rows"),
        ("a.csv", "prompt,reward\n", "is empty: it has no rows"),
        ("a.jsonl", "\n\n", "is empty: it has no rows"),
        (
            "a.csv",
            "prompt,quality\na,1\n",
            "has no column 'reward' or 'score'; it has the columns prompt, quality. Say",
        ),
        ("a.csv", "prompt;reward\na;1\n", "it has the columns prompt;reward"),
        ("a.csv", "reward\n1\n", "has no column that says which prompt a row belongs to"),
        ("a.csv", "prompt,reward\na,1\na,good\n", r"row 1 (counted from 0) has 'good' as its 'reward'; it must"),
        ("a.csv", "prompt,reward\na,inf\n", "column 'reward' has an infinity"),
        ("a.csv", "prompt,reward\na,1,2\n", "line 2 has 3 cells and the header 2"),
        ("a.csv", "prompt,prompt,reward\na,b,1\n", "header names a column twice"),
        ("a.csv", "prompt,reward\n,1\n", r"row 0 (counted from 0) has no 'prompt'"),
        (
            "a.csv",
            "prompt_id,reward,response_index\n0,1,3.5\n",
            r"row 0 (counted from 0) has '3.5' as its 'response_index'; it must be a",
        ),
        ("a.csv", "prompt,reward\n\xe9,1\n".encode("latin-1"), "cannot be read: 'utf-8' codec"),
        ("a.csv", "0,1,2\n.5,.2,.1\n", "its first line is 0,1,2, which looks like a header: remove it"),
        ("a.csv", "1,2,3\n.5,.2,.1\n", "its first line is 1,2,3, which looks like a header: remove it"),
        ("a.csv", ",1,2,3\n1,.5,.2,.1\n", "its first line is ,1,2,3, a header above a column with the index"),
        ("a.csv", "1,.5,.2\n2,.1,.2\n3,.2,.7\n", "its first column is 1,2,3, ..., an index"),
        ("a.csv", "100,1,0\n101,1,1\n102,0,1\n", "its first column is 100,101,102, ..., an index"),
        ("a.csv", "3,.5,.2\n7,.1,.2\n8,.2,.7\n", "its first column is 3,7,8, ..., an index"),
        ("a.csv", "0.5,1\n1,x\n", r"row 1 (counted from 0) has 'x' as its 'reward'"),
        ("a.csv", "0.5,1\n1,inf\n", "has an infinity"),
        ("a.jsonl", '{"prompt": "a", "reward": "1"}\n', r"row 0 (counted from 0) has '1' as its 'reward'; it must"),
        ("a.jsonl", '{"prompt": "a", "reward": [1, 2]}\n', r"row 0 (counted from 0) has '[1, 2]' as its 'reward'"),
        ("a.jsonl", '{"prompt": "a", "reward": 1}\n{"reward": 1}\n', r"row 1 (counted from 0) has no 'prompt'"),
        ("a.jsonl", '{"prompt": "a", "reward": 1}\n7\n', r"row 1 (counted from 0) is 7; every row must be an object"),
        ("a.jsonl", '{"prompt": "a", "reward": 1}\n{"prompt"\n', "line 2, column 1 is not JSON"),
        ("a.xlsx", b"PK", "ends in '.xlsx'; what can be read ends in .parquet, .csv"),
        ("a.parquet", b"PK", "is not a Parquet file"),
        ("a.npy", b"PK", "is not an array of numpy's format"),
        ("a.csv.gz", b"PK", "cannot be read"),
    ],
)
def test_says_what_is_wrong(name: str, text: str | bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^rollout table '.*" + name) as error:
        _ = rollouts_of(tmp_path / name, text).rewards
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_places_where_there_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"mine\.csv': there is no such file"):
        read_rollouts(tmp_path / "mine.csv")
    with pytest.raises(ValueError, match="is a folder; give one file of rollouts"):
        read_rollouts(tmp_path)


@pytest.mark.parametrize(("ids", "said"), [(["a", None], "has nulls"), ([0.5, 1.0], "was truncated")])
def test_parquet_of_which_the_prompts_are_not_known(ids: list[Any], said: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"prompt_id": ids, "reward": [1.0, 2.0]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=rf"a\.parquet': column 'prompt_id'.*{said}"):
        read_rollouts(tmp_path / "a.parquet")
