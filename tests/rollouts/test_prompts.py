import datetime
import gzip
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict, Features, Image, List, Value

from tailgrad.rollouts import data_sets
from tailgrad.rollouts.data_sets import content_sha256
from tailgrad.rollouts.prompts import load_prompts

CHAT = [{"role": "system", "content": "two"}, {"role": "user", "content": "one"}]
ROWS = [
    {"prompt": "one", "answer": "a"},
    {"prompt": "two", "answer": "b"},
    {"prompt": "three", "answer": "c"},
]


def write(folder: Path, kind: str) -> Path:
    """Write ROWS in one of the formats and return its path."""
    table = Dataset.from_list(ROWS)
    path = folder / f"data.{kind}"
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    if kind == "jsonl":
        path.write_text(lines)
    elif kind == "jsonl.gz":
        path.write_bytes(gzip.compress(lines.encode()))
    elif kind == "json":
        path.write_text(json.dumps(ROWS))
    elif kind == "parquet":
        table.to_parquet(str(path))
    elif kind == "csv":
        path.write_text("prompt,answer\n" + "".join(f"{row['prompt']},{row['answer']}\n" for row in ROWS))
    elif kind == "saved":
        table.save_to_disk(path)
    elif kind == "splits":
        DatasetDict({"train": table.select([0]), "test": table}).save_to_disk(path)
    return path


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "json", "parquet", "csv", "saved", "splits"])
def test_every_format_gives_the_same_prompts(tmp_path: Path, kind: str) -> None:
    prompts = load_prompts(str(write(tmp_path, kind)))
    assert prompts.rows[:] == {"prompt": ["one", "two", "three"], "answer": ["a", "b", "c"]}
    assert prompts.split == ("test" if kind == "splits" else None)
    assert prompts.sha256 == load_prompts(str(write(tmp_path, "jsonl"))).sha256


def test_a_folder_of_data_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "data").mkdir()
    for split in ("train", "test"):
        (tmp_path / "data" / f"{split}.jsonl").write_text(json.dumps({"prompt": split}) + "\n")
    assert list(load_prompts(str(tmp_path / "data")).prompts) == ["test"]
    assert list(load_prompts(str(tmp_path / "data"), split="train").prompts) == ["train"]


def test_the_hash_sees_prompts_and_columns(tmp_path: Path) -> None:
    hashes = {load_prompts(str(write(tmp_path, "jsonl"))).sha256}
    for name in ("prompt", "answer"):
        changed = [dict(row) for row in ROWS]
        changed[1][name] = "other"
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(changed))
        hashes.add(load_prompts(str(path)).sha256)
    assert len(hashes) == 3


def test_limit_and_prompt_column(tmp_path: Path) -> None:
    path = str(write(tmp_path, "jsonl"))
    assert list(load_prompts(path, limit=2).prompts) == ["one", "two"]
    assert list(load_prompts(path, limit=9).prompts) == ["one", "two", "three"]
    assert load_prompts(path, prompt_column="answer", limit=1).rows[:] == {"prompt": ["a"]}


def test_chats(tmp_path: Path) -> None:
    path = tmp_path / "chats.json"
    path.write_text(json.dumps([{"prompt": CHAT, "id": 7}]))
    assert load_prompts(str(path)).rows[:] == {"prompt": [CHAT], "id": [7]}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"question": "one", "answer": "a"}],
            r"no column 'prompt'; it has question, answer\. .*--prompt_column",
        ),
        ([{"prompt": "one"}, {"prompt": None}], r"the prompt in row 1 \(counted from 0\) is None \(NoneType\)"),
        ([{"prompt": 3}], r"the prompt in row 0 \(counted from 0\) is 3 \(int\)"),
        ([{"prompt": []}], r"the prompt in row 0 \(counted from 0\) is \[\] \(list\)"),
        ([{"prompt": ["one", "two"]}], r"the prompt in row 0 \(counted from 0\) is \['one', 'two'\]"),
        ([{"prompt": [{"from": "user", "value": "one"}]}], "a list of messages"),
        (
            [{"prompt": "one"}, {"prompt": CHAT}],
            r"row 1 \(counted from 0\) is a chat and row 0 is not; the prompts must",
        ),
        ([{"prompt": CHAT}, {"prompt": "one"}], r"row 1 \(counted from 0\) is a string and row 0 is not"),
        ([{"prompt": "one", "completions": "x"}], "has a column 'completions'"),
    ],
)
def test_rows_that_are_no_prompts(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps(rows))
    with pytest.raises(ValueError, match=message):
        load_prompts(str(path))


def test_an_empty_data_set(tmp_path: Path) -> None:
    Dataset.from_dict({"prompt": []}).save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match="saved' is empty: there are no prompts"):
        load_prompts(str(tmp_path / "saved"))
    DatasetDict({"test": Dataset.from_dict({"prompt": []})}).save_to_disk(tmp_path / "splits")
    with pytest.raises(ValueError, match="splits' is empty: there are no prompts"):
        load_prompts(str(tmp_path / "splits"))
    (tmp_path / "data.csv").write_text("prompt,answer\n")
    with pytest.raises(ValueError, match="is empty: there are no prompts"):
        load_prompts(str(tmp_path / "data.csv"))
    (tmp_path / "data.jsonl").touch()
    with pytest.raises(ValueError, match="is empty: the file has no bytes"):
        load_prompts(str(tmp_path / "data.jsonl"))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text('{"prompt": "one"\nnonsense')
    with pytest.raises(ValueError, match=r"data\.jsonl' could not be read: "):
        load_prompts(str(tmp_path / "data.jsonl"))
    Dataset.from_dict({"prompt": ["one"]}).save_to_disk(tmp_path / "saved")
    (tmp_path / "saved" / "state.json").write_text("{cut")
    with pytest.raises(ValueError, match=r"saved' could not be read: Expecting property name"):
        load_prompts(str(tmp_path / "saved"))
    (tmp_path / "data.txt").write_text("one\n")
    with pytest.raises(ValueError, match=r"allowed endings are \.jsonl, \.json, \.parquet, \.csv"):
        load_prompts(str(tmp_path / "data.txt"))


def test_a_missing_split_lists_the_others(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no split 'validation'; it has train, test\..*--dataset_split"):
        load_prompts(str(write(tmp_path, "splits")), split="validation")


@pytest.mark.parametrize("name", ["./none", "/no/where", "a/b/c", "none.jsonl", "folder/none.jsonl.gz"])
def test_a_path_that_does_not_exist(name: str) -> None:
    with pytest.raises(FileNotFoundError, match="there is no such file or folder"):
        load_prompts(name)


def test_a_name_that_the_hub_does_not_give() -> None:
    with pytest.raises(FileNotFoundError, match="is not a local file or folder and the hub did not give it"):
        load_prompts("no-such-owner/no-such-data")


def test_the_hash_is_that_of_the_json_of_prompts_and_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"prompt": [CHAT[i % 2]], "b": {"z": i, "a": None}, "a": [i / 3, 2.0], "json": {str(i): [i, "é"]}}
        for i in range(7)
    ]
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {name: [row[name] for row in rows] for name in ("b", "a", "json")}
    expected = hashlib.sha256(json.dumps([[row["prompt"] for row in rows], columns], sort_keys=True).encode())
    assert load_prompts(str(path)).sha256 == expected.hexdigest()
    monkeypatch.setattr(data_sets, "BATCH", 3)
    assert load_prompts(str(path)).sha256 == expected.hexdigest()
    plain = hashlib.sha256(json.dumps([["one", "two"], {"answer": ["a", "b"]}]).encode())
    assert load_prompts(str(write(tmp_path, "jsonl")), limit=2).sha256 == plain.hexdigest()


def test_the_hash_of_dates_and_bytes_is_that_of_their_text(tmp_path: Path) -> None:
    columns = {"prompt": ["one"], "day": [datetime.datetime(2024, 2, 29)], "raw": [b"\0"]}
    Dataset.from_dict(columns).to_parquet(str(tmp_path / "data.parquet"))
    expected = json.dumps([["one"], {"day": ["2024-02-29 00:00:00"], "raw": [r"b'\x00'"]}])
    assert load_prompts(str(tmp_path / "data.parquet")).sha256 == hashlib.sha256(expected.encode()).hexdigest()


def png(path: Path, colour: str) -> Path:
    from PIL import Image as Pictures

    Pictures.new("RGB", (2, 2), colour).save(path)
    return path


def test_pictures_are_hashed_by_their_bytes(tmp_path: Path) -> None:
    red, copy, blue = (png(tmp_path / f"{name}.png", name[:-1]) for name in ("red1", "red2", "blue1"))
    stored = {"bytes": red.read_bytes(), "path": "elsewhere.png"}
    hashes: dict[str, list[str]] = {}
    for name, picture in {
        "red": str(red),
        "copy": str(copy),
        "stored": stored,
        "blue": str(blue),
        "none": None,
    }.items():
        features = Features({"prompt": Value("string"), "pictures": List(Image()), "one": {"deep": Image()}})
        rows = {"prompt": ["one"], "pictures": [[picture, picture]], "one": [{"deep": picture}]}
        Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / name)
        Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / f"{name}.parquet"))
        saved = [load_prompts(str(tmp_path / name)), load_prompts(str(tmp_path / f"{name}.parquet"))]
        hashes[name] = [prompts.sha256 for prompts in saved]
    assert len({*hashes["red"], *hashes["copy"], *hashes["stored"]}) == 1
    assert len({*hashes["red"], *hashes["blue"], *hashes["none"]}) == 3


def test_a_hash_is_the_same_in_another_process(tmp_path: Path) -> None:
    features = Features({"prompt": Value("string"), "picture": Image()})
    rows = {"prompt": ["one"], "picture": [str(png(tmp_path / "red.png", "red"))]}
    Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "data.parquet"))
    path = str(tmp_path / "data.parquet")
    code = f"from tailgrad.rollouts.prompts import load_prompts; print(load_prompts({path!r}).sha256)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == load_prompts(path).sha256


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_a_saved_format_neither_hides_a_change_nor_reaches_the_rewards(tmp_path: Path, kind: str) -> None:
    """A long array would be hashed by its abbreviated text, which leaves its middle out."""
    hashes = {}
    for name, changed, form in (("plain", 0, None), ("same", 0, kind), ("other", 1, kind)):
        tests = [[i if i != 700 else i + changed for i in range(1500)] for _ in range(3)]
        rows = Dataset.from_dict({"prompt": ["one", "two", "three"], "tests": tests}).with_format(form)
        hashes[name, "given"] = content_sha256(rows)
        rows.save_to_disk(tmp_path / name)
        prompts = load_prompts(str(tmp_path / name))
        hashes[name] = prompts.sha256
        assert prompts.rows[[0]]["tests"] == tests[:1]
        assert isinstance(prompts.rows[0]["tests"], list)
    assert hashes["plain"] == hashes["same"] != hashes["other"]
    assert hashes["plain", "given"] == hashes["same", "given"] != hashes["other", "given"]


def test_a_configuration_of_what_has_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_text('{"prompt": "one"}\n')
    Dataset.from_dict({"prompt": ["one"]}).save_to_disk(tmp_path / "saved")
    for name in ("one.jsonl", "saved"):
        with pytest.raises(ValueError, match=r"dataset_config is 'main', and .* leave it out"):
            load_prompts(str(tmp_path / name), config="main")


def test_a_column_that_would_be_an_argument_of_trl_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_text('{"prompt": "one", "environments": "e"}\n')
    with pytest.raises(ValueError, match="environments"):
        load_prompts(str(tmp_path / "one.jsonl"))
