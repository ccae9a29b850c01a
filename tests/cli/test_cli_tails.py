import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tailgrad.cli import tails
from tailgrad.cli.main import main
from tailgrad.tails import diagnose_tails


def tailgrad_tails(*arguments: object) -> None:
    tails.run([*map(str, arguments)])


@pytest.fixture
def arrays(tmp_path: Path) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    made = {"normal": rng.normal(size=(24, 64)), "uniform": rng.uniform(size=(24, 64))}
    for name, rewards in made.items():
        np.save(tmp_path / f"{name}.npy", rewards)
    return made


def test_prints_what_it_writes_one_row_per_table(
    arrays: dict[str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = [tmp_path / f"{name}.npy" for name in arrays]
    tailgrad_tails(*tables, "--out", tmp_path / "report", "--tail_fraction", 0.5, "--seed", 3)
    printed = capsys.readouterr().out
    assert (tmp_path / "report" / "tails.md").read_text() in printed
    assert str(tmp_path / "report" / "tails.{png,svg,md,json}") in printed
    document = json.loads((tmp_path / "report" / "tails.json").read_text())
    for (name, rewards), table in zip(arrays.items(), document["tables"], strict=True):
        expected = diagnose_tails(rewards, tail_fraction=0.5, seed=3)
        assert (table["name"], table["verdict"]["sentence"]) == (name, expected.verdict.sentence)


def test_a_table_whose_best_another_reward_picks_is_refused(tmp_path: Path) -> None:
    rewards = np.random.default_rng(0).normal(size=160)
    rows = {"prompt": np.repeat([f"q{i}" for i in range(4)], 40), "reward": rewards, "selection_reward": -rewards}
    pd.DataFrame(rows).to_parquet(tmp_path / "picked.parquet")
    with pytest.raises(ValueError, match="`tailgrad tails` takes one reward"):
        tailgrad_tails(tmp_path / "picked.parquet", "--out", tmp_path)


def test_tables_of_ones_own_with_names_and_columns(tmp_path: Path) -> None:
    """Different numbers of responses, and one without a reward."""
    rng = np.random.default_rng(1)
    rows = [(f"question {prompt}", value) for prompt in range(6) for value in rng.normal(size=40 + prompt)]
    rows[3] = (rows[3][0], None)
    pd.DataFrame(rows, columns=["asked", "points"]).to_csv(tmp_path / "mine.csv", index=False)
    columns = ("--prompt_column", "asked", "--reward_column", "points")
    tailgrad_tails(tmp_path / "mine.csv", "--out", tmp_path, "--names", "mine here", *columns)
    (table,) = json.loads((tmp_path / "tails.json").read_text())["tables"]
    assert table["name"] == "mine here"
    assert table["by_prompt"]["prompt"] == [f"question {prompt}" for prompt in range(6)]
    assert table["by_prompt"]["scored"] == [39, 41, 42, 43, 44, 45]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("normal.npy", "--tail_fraction", "0"), ("normal", "tail_fraction = 0.0")),
        (("normal.npy", "uniform.npy", "--names", "a", "a"), ("one name twice",)),
        (("normal.npy", "--names", "a", "b"), ("2 names for 1 tables",)),
        (("normal.npy", "normal.npy"), ("given twice",)),
        (("nothing.npy",), ("nothing.npy",)),
        (("short.npy",), ("short", "two scored")),
        (("lacks.csv",), ("lacks.csv", "reward")),
        (("empty.csv",), ("empty.csv",)),
    ],
)
def test_bad_input_is_refused_in_a_line(
    arguments: tuple[str, ...],
    words: tuple[str, ...],
    arrays: dict[str, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("short.npy", np.zeros((3, 1)))
    Path("lacks.csv").write_text("prompt,points\na,1\n")
    Path("empty.csv").write_text("prompt,reward\n")
    assert main(["tails", *arguments, "--out", "report"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("tailgrad tails: error: ")
    assert printed.err.count("\n") == 1
    assert all(word in printed.err for word in words)
    assert not Path("report").exists()


@pytest.mark.parametrize("rewards", [np.ones((5, 32)), np.arange(64.0)[None], np.array([[0.0, 1.0], [1.0, 1.0]])])
def test_what_tells_little_is_answered_all_the_same(rewards: np.ndarray, tmp_path: Path) -> None:
    """Constant rewards, one prompt, two responses."""
    np.save(tmp_path / "odd.npy", rewards)
    tailgrad_tails(tmp_path / "odd.npy", "--out", tmp_path / "report")
    (table,) = json.loads((tmp_path / "report" / "tails.json").read_text())["tables"]
    assert table["verdict"]["tail"] in ("none", "unknown")
