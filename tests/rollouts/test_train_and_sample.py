"""Training and sampling of one data set: the same tokens, the same values for the reward, the same refusals."""

import datetime
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, Image, Value
from transformers import AutoTokenizer

from seen_by_rewards import TEMPLATE, called, sample_arguments, train_arguments, user
from tailgrad.cli.main import main

# TRL itself asks transformers for options by their old names.
pytestmark = pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing.*` is deprecated:FutureWarning")


ROW_0, ROW_1 = "row 0 (counted from 0)", "row 1 (counted from 0)"

SHAPES: dict[str, list[dict[str, Any]]] = {
    "plain": [{"prompt": "one two", "answer": "three"}, {"prompt": " ".join(["one"] * 60), "answer": "five"}],
    "arguments with other keys": [
        {"prompt": [user("one"), called(city="three"), user("two")]},
        {"prompt": [user("one"), called(zip=7), user("two")]},
        {"prompt": [user("one"), called(share=0.207), user("two")]},
    ],
    "messages with other keys": [
        {"prompt": [user("one")]},
        {"prompt": [user("one"), called(a=1) | {"content": None}, {"role": "tool", "name": "f", "content": "two"}]},
    ],
    "columns of objects": [
        {"prompt": [user("one")], "reward_model": {"ground_truth": "4"}, "extra_info": {"index": 0, "split": "x"}},
        {"prompt": [user("two")], "reward_model": {"ground_truth": "5"}, "extra_info": {"index": 1, "hint": "x"}},
    ],
    "dates": [
        {"prompt": [user("2024-02-29")], "day": "2024-02-29", "at": {"time": ["1999-12-31T10:00:00Z"]}},
        {"prompt": [user("1999-12-31")], "day": "1999-12-31", "at": {"time": ["1999-12-31 10:00"]}},
    ],
    "columns that not every row has": [{"prompt": "one", "answer": "7"}, {"prompt": "two", "other": 1.5}],
    "values of several types": [{"prompt": "one", "answer": "7"}, {"prompt": "two", "answer": [7, "x"]}],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_tokens_and_values(shape: str, seen: Any, make_policy: Any, tmp_path: Path) -> None:
    policy = make_policy(chat_template=TEMPLATE, pad_token="[PAD]")
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in SHAPES[shape]))
    everything = ("--per_device_train_batch_size", str(2 * len(SHAPES[shape])))
    assert main(train_arguments(policy, data, tmp_path, *everything)) == 0
    trained = seen()
    assert main(sample_arguments(policy, data, tmp_path)) == 0
    sampled = seen()
    assert trained == sampled
    names = list(dict.fromkeys(name for row in SHAPES[shape] for name in row))
    rows = [{name: row.get(name) for name in names} for row in SHAPES[shape]]
    assert sampled[0] == {repr(sorted(row.items())) for row in rows}
    tokenizer = AutoTokenizer.from_pretrained(policy)
    if isinstance(rows[0]["prompt"], list):
        ids = [
            tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True)["input_ids"]
            for row in SHAPES[shape]
        ]
    else:
        ids = tokenizer([row["prompt"] for row in rows])["input_ids"]
    assert sampled[1] == {repr(row) for row in ids}


def test_a_stream_of_a_local_file_with_another_prompt_column(seen: Any, make_policy: Any, tmp_path: Path) -> None:
    policy = make_policy(pad_token="[PAD]")
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps({"question": text, "day": "2024-02-29"}) + "\n" for text in ("one", "two")))
    streamed = ("--dataset_streaming", "--prompt_column", "question")
    assert main(train_arguments(policy, data, tmp_path, *streamed)) == 0
    assert seen()[0] == {f"[('day', '2024-02-29'), ('prompt', '{text}')]" for text in ("one", "two")}
    data.write_text('{"question": "one"}\n{"question": ""}\n')
    assert main(train_arguments(policy, data, tmp_path, *streamed)) == 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"question": [user("one")]}, {"question": [user("two")]}], None),
        (
            [{"question": [user("one")]}, {"question": [user(None)]}],
            f"the prompt in {ROW_1}: message 0 has no 'content'",
        ),
        ([{"question": "one"}, {"question": ""}], "has no tokens"),
        ([{"question": "one", "images": "x"}], "has a column 'images'"),
        ([{"question": "one", "day": "2024-02-29"}], "the strings in column 'day' of its JSON files look like dates"),
    ],
)
def test_a_stream_as_from_the_hub(
    rows: list[Any], message: str | None, seen: Any, make_policy: Any, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    """Here from a folder, which is not looked for on the disk."""
    monkeypatch.setattr("tailgrad.training.prompts.local_path", lambda name: None)
    policy = make_policy(chat_template=TEMPLATE, pad_token="[PAD]")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    streamed = ("--dataset_streaming", "--prompt_column", "question")
    assert main(train_arguments(policy, tmp_path / "data", tmp_path, *streamed)) == (0 if message is None else 2)
    assert (message or "") in capsys.readouterr().err
    if message is None:
        assert seen()[0] == {repr([("prompt", row["question"])]) for row in rows}


def test_a_mixture_is_checked_too(seen: Any, make_policy: Any, tmp_path: Path, capsys: Any) -> None:
    policy = make_policy(chat_template=TEMPLATE, pad_token="[PAD]")
    data, config = tmp_path / "data.jsonl", tmp_path / "mixture.yaml"
    config.write_text(json.dumps({"datasets": [{"path": "json", "data_files": str(data), "split": "train"}]}))
    for row, message in (
        ({"prompt": ""}, f"the mixture of data sets: the prompt in {ROW_0} has no tokens"),
        ({"prompt": [{"role": "user", "value": "one"}]}, f"the mixture of data sets: the prompt in {ROW_0}: message 0"),
        ({"prompt": "one", "day": "2024-02-29"}, "the mixture of data sets: the strings in column 'day'"),
    ):
        data.write_text(json.dumps(row) + "\n")
        arguments = train_arguments(policy, data, tmp_path, "--config", str(config))
        at = arguments.index("--dataset_name")
        assert main(arguments[:at] + arguments[at + 2 :]) == 2
        assert message in capsys.readouterr().err


def pictures(path: Path, name: str) -> Path:
    from PIL import Image as Pictures

    file = io.BytesIO()
    Pictures.new("RGB", (2, 2), "red").save(file, "png")
    stored = {"bytes": file.getvalue(), "path": None}
    features = Features({"prompt": Value("string"), name: Image()})
    Dataset.from_dict({"prompt": ["one", "two"], name: [stored, stored]}, features=features).to_parquet(str(path))
    return path


LONG = " ".join(["one"] * 61)  # one more than fits with 4 new tokens into 64 positions
REFUSED: dict[str, tuple[list[dict[str, Any]], str]] = {
    "no tokens": ([{"prompt": "one"}, {"prompt": ""}], f"the prompt in {ROW_1} has no tokens"),
    "white space alone": ([{"prompt": "one"}, {"prompt": " \n "}], rf"the prompt in {ROW_1} has no tokens (' \n ')"),
    "too long": ([{"prompt": "one"}, {"prompt": LONG}], f"the prompt in {ROW_1} has 61 tokens; with max_"),
    "no embedding": ([{"prompt": "one"}, {"prompt": "one extra"}], f"{ROW_1} has the token 'extra' with id 12"),
    "a template that refuses": (
        [{"prompt": [user("one")]}, {"prompt": [{"role": "system", "content": "one"}, user("two")]}],
        f"the model's chat template refuses the prompt in {ROW_1}: no system messages here",
    ),
    "value for content": ([{"prompt": [{"role": "user", "value": "one"}]}], f"{ROW_0}: message 0 has no 'content'"),
    "no content": ([{"prompt": [user("one")]}, {"prompt": [user(None)]}], f"{ROW_1}: message 0 has no 'content'"),
    "no role": ([{"prompt": [user("one"), {"content": "two"}]}], f"{ROW_0}: message 1 has no 'role'"),
    "parts": ([{"prompt": [user([{"type": "text", "text": "one"}])]}], "as its 'content'"),
    "no messages": ([{"prompt": [user("one")]}, {"prompt": []}], f"{ROW_1} is [] (list)"),
    "a column of pictures": ([{"prompt": "one", "images": "x"}], "has a column 'images'"),
    "a name of TRL's": ([{"prompt": "one", "trainer_state": 1}], "has a column 'trainer_state'"),
}


@pytest.mark.parametrize("command", ["train", "stream", "sample"])
@pytest.mark.parametrize("case", REFUSED)
def test_the_same_refusals(
    case: str, command: str, seen: Any, make_policy: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, message = REFUSED[case]
    policy = make_policy(chat_template=TEMPLATE, pad_token="[PAD]")
    if case == "no embedding":
        tokenizer = AutoTokenizer.from_pretrained(policy)
        tokenizer.add_tokens(["extra"])
        tokenizer.save_pretrained(policy)
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if command == "sample":
        arguments = sample_arguments(policy, data, tmp_path)
    else:
        more = ("--dataset_streaming",) if command == "stream" else ()
        arguments = train_arguments(policy, data, tmp_path, *more)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert str(data) in error
    assert not list(tmp_path.glob("trained/*.safetensors"))


@pytest.mark.parametrize("case", ["value for content", "a column of pictures", "a template that refuses"])
def test_the_same_refusals_of_score(
    case: str, seen: Any, make_policy: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy, data = make_policy(chat_template=TEMPLATE, pad_token="[PAD]"), tmp_path / "data.jsonl"
    data.write_text(json.dumps({"prompt": [user("one")]}) + "\n")
    assert main(sample_arguments(policy, data, tmp_path)) == 0
    rows, message = REFUSED[case]
    if case == "a template that refuses":
        message = f"refuses the prompt in {ROW_0}: no user messages here"
        make_policy(chat_template="{{ raise_exception('no user messages here') }}", pad_token="[PAD]")
    else:
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    table, scored = tmp_path / "table.parquet", tmp_path / "scored.parquet"
    assert main(["score", str(table), "--reward_funcs", "kept.reward", "--out", str(scored)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert str(data) in error


@pytest.mark.parametrize("case", ["no embedding", "a template that refuses"])
def test_the_same_refusals_of_fidelity(
    case: str, seen: Any, make_policy: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, table = tmp_path / "data.jsonl", tmp_path / "table.parquet"
    data.write_text(json.dumps({"prompt": [user("one extra")]}) + "\n")
    policy = make_policy(chat_template=TEMPLATE, pad_token="[PAD]", vocab_size=13)
    tokenizer = AutoTokenizer.from_pretrained(policy)
    tokenizer.add_tokens(["extra"])
    tokenizer.save_pretrained(policy)
    assert main(sample_arguments(policy, data, tmp_path, "--n", "8")) == 0
    message = f"the prompt in {ROW_0} has the token 'extra' with id 12"
    other = make_policy("other", chat_template=TEMPLATE, pad_token="[PAD]")
    if case == "a template that refuses":
        message = f"refuses the prompt in {ROW_0}: no user messages here"
        tokenizer.chat_template = "{{ raise_exception('no user messages here') }}"
    tokenizer.save_pretrained(other)
    gradients = [str(table), "--model_name_or_path", str(other), "--out", str(tmp_path / "fidelity")]
    asked = ["--num_generations", "2", "--deploy_n", "2", "--estimators", "grpo"]
    assert main(["fidelity", *gradients, *asked]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert str(table) in error


def test_pictures_for_the_reward_alone(seen: Any, make_policy: Any, tmp_path: Path) -> None:
    policy, data = make_policy(pad_token="[PAD]"), pictures(tmp_path / "data.parquet", "picture")
    assert main(train_arguments(policy, data, tmp_path)) == 0
    assert main(sample_arguments(policy, data, tmp_path)) == 0
    pictures(data, "image")
    assert main(train_arguments(policy, data, tmp_path)) == 2


def test_real_dates_of_parquet_stay_dates(seen: Any, make_policy: Any, tmp_path: Path) -> None:
    policy, data = make_policy(pad_token="[PAD]"), tmp_path / "data.parquet"
    days = [datetime.datetime(2024, 2, 29), datetime.datetime(1999, 12, 31)]
    pq.write_table(pa.table({"prompt": ["one", "two"], "day": days}), data)
    assert main(train_arguments(policy, data, tmp_path)) == 0
    trained = seen()
    assert main(sample_arguments(policy, data, tmp_path)) == 0
    assert trained == seen()
    assert trained[0] == {
        f"[('day', {day!r}), ('prompt', '{text}')]" for day, text in zip(days, ("one", "two"), strict=True)
    }
