"""Anybody's rewards: only a prompt and a reward are needed, in Parquet, CSV or JSON, or an array."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tailgrad.curves import Rollouts, compare
from tailgrad.rollouts import read_rollouts
from tailgrad.rollouts.layout import COLUMNS, roles_of
from written_rollouts import lines, rollouts_of

ROWS = [("a", 0.5), ("b", 1.0), ("a", None), ("b", 0.25), ("a", -2.0)]
REWARDS = [[0.5, np.nan, -2.0], [1.0, 0.25, np.nan]]


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".tsv", ".jsonl", ".json", ".csv.gz", ".jsonl.gz"])
def test_a_prompt_and_a_reward_are_enough_in_every_format(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"llama-3.1-8b{ending}"
    frame = pd.DataFrame(ROWS, columns=["prompt", "reward"])
    if ending == ".parquet":
        frame.to_parquet(path)
    elif ".json" in ending:
        rows = [dict(zip(frame.columns, row, strict=True)) for row in ROWS]
        text = json.dumps(rows) if ending == ".json" else lines(*rows)
        path.write_bytes(gzip.compress(text.encode()) if ending.endswith(".gz") else text.encode())
    else:
        frame.to_csv(path, index=False, sep="\t" if ending == ".tsv" else ",")
    rollouts = read_rollouts(path)
    assert (rollouts.name, rollouts.prompts, rollouts.prompt_ids.tolist()) == (str(path), ["a", "b"], ["a", "b"])
    np.testing.assert_array_equal(rollouts.rewards, REWARDS)
    assert (rollouts.counts.tolist(), rollouts.metadata) == ([3, 2], {})
    assert set(rollouts.columns) == {"rewards", "prompt_ids", "prompts", "counts"}
    np.testing.assert_allclose(rollouts.measures()["unscored"], [1 / 3, 0])
    np.testing.assert_array_equal(rollouts.best_of_n([2]), [[0.5], [1.0]])


@pytest.mark.parametrize(
    ("cells", "rewards"),
    [
        (["1", "0"], [1, 0]),
        (["true", "False"], [1, 0]),
        (["1e-3", "-2.5E+2"], [1e-3, -250]),
        (["", "nan"], [np.nan, np.nan]),
        (["NaN", "1"], [np.nan, 1]),
    ],
)
def test_rewards_as_people_write_them(cells: list[str], rewards: list[float], tmp_path: Path) -> None:
    text = "prompt_id,reward\n" + "".join(f"0,{cell}\n" for cell in cells)
    np.testing.assert_array_equal(rollouts_of(tmp_path / "a.csv", text).rewards, [rewards])


def test_rewards_of_json(tmp_path: Path) -> None:
    text = '{"prompt_id": 0, "reward": true}\n{"prompt_id": 0, "reward": 7}\n{"prompt_id": 0, "reward": NaN}\n'
    text += '{"prompt_id": 0}\n{"prompt_id": 0, "reward": null}\n'
    np.testing.assert_array_equal(rollouts_of(tmp_path / "a.jsonl", text).rewards, [[1, 7, np.nan, np.nan, np.nan]])


def test_ids_are_numbers_where_all_are_and_else_texts_as_written(tmp_path: Path) -> None:
    numbers = rollouts_of(tmp_path / "a.csv", "prompt_id,reward\n10,1\n9,2\n")
    assert (numbers.prompt_ids.tolist(), numbers.rewards.tolist()) == ([9, 10], [[2.0], [1.0]])
    texts = rollouts_of(tmp_path / "b.csv", "prompt_id,reward\n007,1\n7,2\n")
    assert (texts.prompt_ids.tolist(), texts.rewards.tolist()) == (["007", "7"], [[1.0], [2.0]])
    mixed = rollouts_of(tmp_path / "c.jsonl", lines({"prompt_id": 7, "reward": 1}, {"prompt_id": "q", "reward": 2}))
    assert mixed.prompt_ids.tolist() == ["7", "q"]


def test_chats_are_prompts_as_a_rollout_table_holds_them(tmp_path: Path) -> None:
    chats = [[{"role": "user", "content": text}] for text in ("hi", "ho", "hi")]
    rows = [{"prompt": chat, "reward": i, "completion": chats[0]} for i, chat in enumerate(chats)]
    pd.DataFrame(rows).to_parquet(tmp_path / "a.parquet")
    for rollouts in (rollouts_of(tmp_path / "a.jsonl", lines(*rows)), read_rollouts(tmp_path / "a.parquet")):
        assert [sorted(json.loads(text)[0].items()) for text in rollouts.prompts] == [
            [("content", "hi"), ("role", "user")],
            [("content", "ho"), ("role", "user")],
        ]
        np.testing.assert_array_equal(rollouts.rewards, [[0, 2], [1, np.nan]])
        assert rollouts.distinct.tolist() == [1, 1]
        assert [len(of_prompt) for of_prompt in rollouts.responses] == [2, 1]


def test_every_row_is_a_response_unless_an_index_says_otherwise(tmp_path: Path) -> None:
    twice = "0,same,1\n0,same,1\n0,other,0\n"
    rollouts = rollouts_of(tmp_path / "a.csv", f"prompt_id,response,reward\n{twice}")
    assert (rollouts.rewards.tolist(), rollouts.distinct.tolist()) == ([[1, 1, 0]], [2])
    placed = rollouts_of(tmp_path / "b.csv", "prompt_id,response_index,reward\n0,1,0.5\n0,0,0.25\n")
    assert placed.rewards.tolist() == [[0.25, 0.5]]
    with pytest.raises(ValueError, match=r"c\.csv' has response 1 of prompt q more than once"):
        rollouts_of(tmp_path / "c.csv", "prompt_id,response_index,reward\nq,1,0.5\nq,1,0.25\n")


def test_other_columns_of_a_rollout_table_are_known_where_they_are_there(tmp_path: Path) -> None:
    header = "prompt_id,prompt,response,reward,num_tokens,finished,logprob,reference_logprob,selection_reward\n"
    rows = "0,a,x,1,3,true,-1.5,-2,5\n0,a,,0,4,False,-2,-2.5,6\n1,b,y,1,2,true,-1,-1,7\n"
    rollouts = rollouts_of(tmp_path / "a.csv", header + rows)
    assert rollouts.responses == [["x", ""], ["y"]]
    assert rollouts.selection_rewards[0].tolist() == [5, 6]
    np.testing.assert_array_equal(rollouts.logprobs[0], [-1.5, -2])
    measures = {name: values.tolist() for name, values in rollouts.measures().items()}
    assert measures == {"response_length": [3.5, 2], "distinct": [1, 1], "cut_off": [0.5, 0], "unscored": [0, 0]}


def test_columns_can_be_named(tmp_path: Path) -> None:
    text = "prompt_id,question,quality,reward,answer\n0,x,1,0,yes\n0,y,2,0,no\n"
    columns = {"prompt_column": "question", "reward_column": "quality", "response_column": "answer"}
    rollouts = rollouts_of(tmp_path / "a.csv", text, **columns)
    assert (rollouts.prompts, rollouts.rewards.tolist()) == (["x", "y"], [[1], [2]])
    assert rollouts.responses == [["yes"], ["no"]]


def verl(step: int, i: int, **more: Any) -> dict[str, Any]:
    return {"input": f"user\n{i // 2}", "output": f"o{i}", "gts": None, "score": float(i), "step": step, **more}


def trl(steps: list[int], **rewards: list[float | None]) -> pd.DataFrame:
    rows = len(steps)
    texts = {"prompt": ["a", "a", "b", "b"][:rows], "completion": list("wxyz")[:rows]}
    return pd.DataFrame({"step": steps, **texts, **rewards, "advantage": [0.0] * rows})


def test_what_verl_logs(tmp_path: Path) -> None:
    rollouts = rollouts_of(tmp_path / "5.jsonl", lines(*(verl(5, i, acc=True) for i in range(4))))
    assert (rollouts.prompts, rollouts.rewards.tolist()) == (["user\n0", "user\n1"], [[0, 1], [2, 3]])
    assert rollouts.responses == [["o0", "o1"], ["o2", "o3"]]
    with pytest.raises(ValueError, match=r"6\.jsonl' has the rollouts of 2 steps of a training \(5 to 6\)"):
        rollouts_of(tmp_path / "6.jsonl", lines(verl(5, 0), verl(6, 1)))


def test_what_trl_logs(tmp_path: Path) -> None:
    trl([3] * 4, accuracy=[1.0, None, 0.0, 0.5]).to_parquet(tmp_path / "one.parquet")
    rollouts = read_rollouts(tmp_path / "one.parquet")
    np.testing.assert_array_equal(rollouts.rewards, [[1, np.nan], [0, 0.5]])
    assert rollouts.responses == [["w", "x"], ["y", "z"]]
    trl([3] * 4, accuracy=[1.0] * 4, style=[2.0] * 4).to_parquet(tmp_path / "two.parquet")
    with pytest.raises(ValueError, match=r"completion, accuracy, style, advantage. Say which .* --reward_column"):
        read_rollouts(tmp_path / "two.parquet")
    assert read_rollouts(tmp_path / "two.parquet", reward_column="style").rewards.tolist() == [[2, 2], [2, 2]]
    trl([3, 3, 4], accuracy=[1.0] * 3).to_parquet(tmp_path / "steps.parquet")
    with pytest.raises(ValueError, match=r"steps\.parquet' has the rollouts of 2 steps of a training \(3 to 4\)"):
        read_rollouts(tmp_path / "steps.parquet")


def test_files_of_one_name_in_two_folders_are_two_methods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("base", "tea"):
        Path(folder).mkdir()
        Path(folder, "t.csv").write_text("prompt,reward\na,1\nb,2\n")
    comparison = compare([read_rollouts("base/t.csv"), read_rollouts("tea/t.csv")])
    assert [(curve.name, curve.seeds) for curve in comparison.curves] == [("base/t.csv", 1), ("tea/t.csv", 1)]


def known_of(rollouts: Rollouts) -> set[str]:
    """What is known of the responses, read."""
    names = ("rewards", "num_tokens", "finished", "logprobs", "selection_rewards")
    return {name for name in names if getattr(rollouts, name) is not None}


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("finished", ["stop", "length", "stop"]),
        ("num_tokens", [3, None, 4]),
        ("num_tokens", [3.5, 1.0, 2.0]),
        ("num_tokens", ["3", "many", "1"]),
        ("logprob", ["a", "b", "c"]),
        ("selection_reward", ["good", "bad", "good"]),
    ],
)
@pytest.mark.parametrize("ending", [".parquet", ".csv", ".jsonl"])
def test_columns_that_hold_something_else_than_ours_are_left_out(
    ending: str, column: str, values: list[Any], tmp_path: Path
) -> None:
    frame = pd.DataFrame(
        {"prompt": ["a", "a", "b"], "reward": [1.0, 0.0, 2.0], column: values, "finished_too": [1, 2, 3]}
    )
    if ending == ".parquet":
        frame.to_parquet(tmp_path / "a.parquet")
    elif ending == ".csv":
        frame.to_csv(tmp_path / "a.csv", index=False)
    else:
        frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    with pytest.warns(UserWarning, match=rf"^rollout table '.*a\{ending}':.*'{column}'.* It is left out\.$"):
        known = known_of(rollouts := read_rollouts(tmp_path / f"a{ending}"))
    assert known == {"rewards"}
    np.testing.assert_array_equal(rollouts.rewards, [[1, 0], [2, np.nan]])


def test_a_json_file_of_columns_on_one_line_or_more(tmp_path: Path) -> None:
    frame = pd.DataFrame(ROWS, columns=["prompt", "reward"])
    lists = {name: [row[place] for row in ROWS] for place, name in enumerate(frame.columns)}
    for text in (frame.to_json(), frame.to_json(indent=1), json.dumps(lists), json.dumps(lists, indent=1)):
        np.testing.assert_array_equal(rollouts_of(tmp_path / "a.json", text).rewards, REWARDS)
    one = {"prompt": [{"role": "user", "content": "hi"}], "reward": 1.5}
    assert rollouts_of(tmp_path / "a.json", json.dumps(one)).rewards.tolist() == [[1.5]]


@pytest.mark.parametrize("ending", [".parquet", ".csv"])
def test_an_index_that_pandas_wrote_is_no_reward(ending: str, tmp_path: Path) -> None:
    frame = trl([3] * 4, accuracy=[1.0, 0.5, 0.0, 0.5])[[True, True, False, True]]
    frame.to_csv(tmp_path / "a.csv") if ending == ".csv" else frame.to_parquet(tmp_path / "a.parquet")
    np.testing.assert_array_equal(read_rollouts(tmp_path / f"a{ending}").rewards, [[1, 0.5], [0.5, np.nan]])
    frame.reset_index(names="Unnamed: 0").to_parquet(tmp_path / "again.parquet")
    np.testing.assert_array_equal(read_rollouts(tmp_path / "again.parquet").rewards, [[1, 0.5], [0.5, np.nan]])


def test_a_chat_is_the_same_in_whatever_order_its_keys_come(tmp_path: Path) -> None:
    one, other = {"role": "user", "content": "hi"}, {"content": "hi", "role": "user"}
    text = lines({"prompt": [one], "reward": 1}, {"prompt": [other], "reward": 2})
    assert rollouts_of(tmp_path / "a.jsonl", text).rewards.tolist() == [[1, 2]]
    first, second = (
        Rollouts(np.ones((1, 1)), name=name, prompts=[json.dumps([message])])
        for name, message in (("base", one), ("tea", other))
    )
    assert compare([first, second]).prompts == 1


def test_no_more_of_a_text_file_is_held_than_a_part(tmp_path: Path) -> None:
    """More rows than are looked at and written at once, prompts in turn; what is said of a row late in the file."""
    rows = [(f"prompt {i % 7}", f"response {i % 3}", i) for i in range(40_000)]
    pd.DataFrame(rows, columns=["prompt", "response", "reward"]).to_csv(tmp_path / "a.csv", index=False)
    rollouts = read_rollouts(tmp_path / "a.csv")
    for prompt in range(7):
        np.testing.assert_array_equal(rollouts.rewards[prompt, : rollouts.counts[prompt]], np.arange(prompt, 40_000, 7))
    assert rollouts.distinct.tolist() == [3] * 7
    assert rollouts.responses[6][-1] == f"response {39_997 % 3}"
    with (tmp_path / "a.csv").open("a") as file:
        file.write("prompt 0,response,late\n")
    with pytest.raises(ValueError, match=r"row 40000 \(counted from 0\) has 'late' as its 'reward'"):
        read_rollouts(tmp_path / "a.csv")


def test_a_table_of_ours_is_its_own_layout() -> None:
    assert roles_of(list(COLUMNS), {}, "table") == {name: name for name in COLUMNS}
