"""JSON and CSV files: every value is what the file says."""

import gzip
import json
import pickle
import random
from pathlib import Path
from typing import Any

import pytest

from tailgrad.rollouts import text_files
from tailgrad.rollouts.data_sets import load_rows
from tailgrad.rollouts.text_files import read_text_files

DATES = ["2024-02-29", "2024-02-29T10:00:00Z", "2024-02-29 10:00:00", "1999-12-31T23:59:59+02:00", "12:30:00"]
VALUES: list[Any] = [
    None,
    *DATES,
    "7",
    "null",
    "true",
    "1.0",
    "",
    7,
    -(2**63),
    2**53 + 1,
    0.25,
    1e300,
    True,
    [],
    [None, "2024-02-29"],
    [1, "1"],
    [[1], ["2024-02-29"]],
    {},
    {"day": "2024-02-29"},
    {"day": "2024-02-29", "n": 1},
    {"inner": {"days": ["2024-02-29"]}, "tags": [{"a": 1}, {"b": "1"}]},
]


def read_json(path: Path, rows: list[Any], text: str | None = None) -> list[Any]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) if text is None else text)
    return list(read_text_files([path], "json"))


@pytest.mark.parametrize("first", VALUES, ids=repr)
def test_a_value_comes_out_as_it_stands_in_the_file(first: Any, tmp_path: Path) -> None:
    for second in VALUES:
        if {type(first), type(second)} == {int, float}:  # a column of numbers is one of floats
            continue
        rows = [{"x": first}, {"x": second}, {"x": first}]
        assert repr(read_json(tmp_path / "rows.jsonl", rows)) == repr(rows)


def test_random_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the first rows say little of those that follow, over several batches."""
    monkeypatch.setattr(text_files, "BATCH", 3)
    draw = random.Random(0)
    for _ in range(50):
        values = draw.sample([value for value in VALUES if not isinstance(value, float)], 3)
        rows = [{"a": None, "b": draw.choice(values)} for _ in range(5)] + [{"a": draw.choice(values), "b": values[0]}]
        assert repr(read_json(tmp_path / "rows.jsonl", rows)) == repr(rows)


def test_numbers(tmp_path: Path) -> None:
    exact = [0.1234567890123456789, 1 / 3, 5e-324, -0.0]
    rows = [{"x": x, "y": [7, "7"]} for x in exact] + [{"x": 7, "y": None}]
    assert [row["x"] for row in read_json(tmp_path / "rows.jsonl", rows)] == [*exact, 7.0]
    rows = [{"x": {str(i): [x]}} for i, x in enumerate([*exact, 0.207, 0.575, "0.207"])]  # each with keys of its own
    assert repr(read_json(tmp_path / "rows.jsonl", rows)) == repr(rows)
    with pytest.raises(
        ValueError, match=r"row 1 \(counted from 0\), column 'x': 9223372036854775808 has more than 64 bits"
    ):
        read_json(tmp_path / "rows.jsonl", [{"x": 1}, {"x": 2**63}])


def test_every_layout_of_a_json_file(tmp_path: Path) -> None:
    rows = [{"prompt": "one", "day": "2024-02-29"}, {"prompt": "two", "day": "1999-12-31"}]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    by_index = {name: dict(enumerate(values)) for name, values in columns.items()}
    lines = "\n\n".join(map(json.dumps, rows))
    for text in (
        lines,
        "\ufeff" + lines,
        lines.replace("\n", "\r\n"),
        *(json.dumps(value, indent=indent) for value in (rows, columns, by_index) for indent in (2, 4)),
        json.dumps({"prompt": {"0": "one", "1": "two"}, "day": {"1": "1999-12-31", "0": "2024-02-29"}}),
        json.dumps(rows),
        f" \n {json.dumps(rows)} \n",
    ):
        assert read_json(tmp_path / "rows.json", [], text) == rows
    assert read_json(tmp_path / "rows.json", [], json.dumps(rows[0], indent=2)) == rows[:1]
    nested = {"prompt": "one", "day": {"a": 1}, "of": {"b": 2, "c": 3}}  # one row, and no columns
    assert read_json(tmp_path / "rows.json", [], json.dumps(nested, indent=2)) == [nested]
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(lines.encode()))
    assert list(read_text_files([path, path], "json")) == rows * 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}\n{"a": 2', "line 2, column 8 is not JSON"),
        ('{"a": 1}\n[1]\n', r"row 1 \(counted from 0\) is \[1\]; every row must be an object"),
        ('[{"a": 1}, 3]', r"row 1 \(counted from 0\) is 3; every row must be an object"),
        ('[{"a": 1}', "Expecting value"),
        ('[{"a": 1}] x', "Extra data"),
        ('{"a": 1', "Expecting ',' delimiter"),
        ("7", "it holds 7"),
        ('{"a": {"0": 1, "1": 2}, "b": {"0": 1, "2": 2}}', "columns whose rows have other names: a, b"),
    ],
)
def test_files_that_are_not_json_rows(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_json(tmp_path / "rows.json", [], text)


def read_csv(path: Path, text: str) -> list[Any]:
    path.write_text(text)
    return list(load_rows(str(path)))


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["007", "12"], ["007", "12"]),
        (["NA", "null", "nan", "None", "n/a", "inf"], ["NA", "null", "nan", "None", "n/a", "inf"]),
        (DATES, DATES),
        (["7", "-12", "0"], [7, -12, 0]),
        (["7", "", "12"], [7, None, 12]),
        (["7", "0.5", "1e3"], [7.0, 0.5, 1000.0]),
        (["+7", ".5", "1."], ["+7", ".5", "1."]),
        (["7", "x"], ["7", "x"]),
        (["9223372036854775808", "1"], ["9223372036854775808", "1"]),
        (["True", "False", "true"], [True, False, True]),
        (["True", "1"], ["True", "1"]),
        (['"a,""b""\nc"', "d"], ['a,"b"\nc', "d"]),
        (["", ""], [None, None]),
    ],
)
def test_cells_of_a_csv_file(cells: list[str], values: list[Any], tmp_path: Path) -> None:
    rows = read_csv(tmp_path / "rows.csv", "prompt,x\n" + "".join(f"one,{cell}\n" for cell in cells))
    assert repr([row["x"] for row in rows]) == repr(values)


def test_csv_files_of_other_shapes(tmp_path: Path) -> None:
    path, long = tmp_path / "rows.csv", "a" * 200_000
    assert read_csv(path, f"\ufeff,prompt\n0,{long}\n\n1\n") == [
        {"Unnamed: 0": 0, "prompt": long},
        {"Unnamed: 0": 1, "prompt": None},
    ]
    with pytest.raises(ValueError, match=r"rows\.csv' could not be read: line 3 has 3 cells and the header 2"):
        read_csv(path, "prompt,x\none,1\ntwo,2,3\n")
    with pytest.raises(ValueError, match="its header names a column twice: x, x"):
        read_csv(path, "x,x\none,1\n")


@pytest.mark.parametrize(("ending", "between"), [("jsonl", None), ("csv", ","), ("tsv", "\t")])
def test_a_folder_of_files(ending: str, between: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "data"
    folder.mkdir()
    for split in ("train-0", "train-1", "test"):
        row = {"prompt": split, "day": "2024-02-29", "code": "007"}
        lines = [between.join(row), between.join(row.values())] if between else [json.dumps(row)]
        (folder / f"{split}.{ending}").write_text("\n".join(lines) + "\n")
    splits = load_rows(str(folder))
    rest = {"day": "2024-02-29", "code": "007"}
    assert list(splits["train"]) == [{"prompt": "train-0", **rest}, {"prompt": "train-1", **rest}]
    assert list(splits["test"]) == [{"prompt": "test", **rest}]


def test_a_folder_whose_card_declares_types_is_read_with_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "test.jsonl").write_text('{"prompt": "one", "id": 7}\n')
    (folder / "README.md").write_text(
        "---\ndataset_info:\n  features:\n  - name: prompt\n    dtype: string\n  - name: id\n    dtype: string\n---\n"
    )
    assert list(load_rows(str(folder))["test"]) == [{"prompt": "one", "id": "7"}]


def test_dates_that_datasets_guessed_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As from the hub, whose data sets `datasets` reads: here a folder in its place."""
    import datasets

    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "test.jsonl").write_text('{"prompt": "one", "day": {"s": ["2024-02-29"]}}\n')
    load_dataset = datasets.load_dataset
    monkeypatch.setattr(datasets, "load_dataset", lambda name, *args, **options: load_dataset(str(tmp_path)))
    with pytest.raises(
        ValueError, match=r"^data set 'owner/name': the strings in column 'day' of its JSON files look like dates"
    ):
        load_rows("owner/name")


def test_no_file_is_left_and_the_rows_can_still_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f'{{"prompt": "{i}"}}\n' for i in range(10)))
    rows = load_rows(str(path))
    assert [file.name for file in tmp_path.iterdir()] == ["rows.jsonl"]
    parts = rows.train_test_split(test_size=3, seed=0)
    assert sorted([*parts["train"]["prompt"], *parts["test"]["prompt"]]) == [str(i) for i in range(10)]
    assert rows.select([7, 2])["prompt"][:] == ["7", "2"]


def test_values_of_several_types_stay_exact_in_what_training_makes_of_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    values = [{"a": 0.207}, {"b": 0.575}, "0.207", 0.1 + 0.2, None]
    path.write_text("".join(json.dumps({"question": "one", "x": value}) + "\n" for value in values))
    rows = load_rows(str(path)).select_columns(["question", "x"]).rename_column("question", "prompt")
    rows = pickle.loads(pickle.dumps(rows))
    shuffled = sorted((row["x"] for row in rows.shuffle(seed=0)), key=repr)
    streamed = sorted((row["x"] for row in rows.to_iterable_dataset().shuffle(seed=0)), key=repr)
    assert shuffled == streamed == sorted(values, key=repr)
    assert [rows[i]["x"] for i in range(5)] == rows[:]["x"] == values
