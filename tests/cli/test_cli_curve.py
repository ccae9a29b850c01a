import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reports import tables_of
from tailgrad.cli import curve
from tailgrad.cli.main import main
from tailgrad.curves import best_of_n
from tailgrad.rollouts.table import write_table

PROMPTS, N = 6, 4


def write_rollouts(path, shift, *, temperature=1.0, prompt="prompt"):
    rng = np.random.default_rng(0)
    rewards = shift + rng.normal(size=(PROMPTS, N))
    rows = [(number, index) for number in range(PROMPTS) for index in range(N)]
    columns = {
        "prompt_id": [number for number, _ in rows],
        "prompt": [f"{prompt} {number}" for number, _ in rows],
        "response": [f"response {index // 2}" for _, index in rows],
        "response_index": [index for _, index in rows],
        "reward": rewards.ravel().tolist(),
        "num_tokens": [5 + index for _, index in rows],
        "finished": [index > 0 for _, index in rows],
        "logprob": [-4.0] * len(rows),
        "reference_logprob": [-4.25] * len(rows),
    }
    sampling = {"n": N, "temperature": temperature, "top_p": 1.0, "top_k": 0, "max_new_tokens": 8}
    write_table(path, columns, {"sampling": sampling, "reward": "length", "dataset": {"name": "sums"}, "seed": 0})
    return rewards


def tailgrad_curve(*arguments):
    curve.run([*map(str, arguments)])


@pytest.fixture
def tables(tmp_path):
    paths = [tmp_path / name for name in ("base.parquet", "tea.parquet", "tea2.parquet")]
    return paths, [write_rollouts(path, shift) for path, shift in zip(paths, (0.0, 0.5, 0.7), strict=True)]


def test_compares_tables_and_prints_what_it_writes(tables, tmp_path, capsys):
    paths, rewards = tables
    tailgrad_curve(*paths[:2], "--out", tmp_path / "report")
    printed = capsys.readouterr().out
    assert (tmp_path / "report" / "curve.md").read_text() in printed
    assert str(tmp_path / "report" / "curve.{png,svg,md,json}") in printed
    base, tea = json.loads((tmp_path / "report" / "curve.json").read_text())["runs"]
    assert (base["name"], tea["name"]) == ("base", "tea")
    expected = best_of_n(rewards[1], [1, 2, 4]).mean(axis=0)
    np.testing.assert_allclose([point["mean"] for point in tea["v_n"]], expected, rtol=1e-12)
    np.testing.assert_allclose([point["mean"] for point in tea["difference"]], 0.5, rtol=1e-12)
    measures = {key: value["mean"] for key, value in tea["measures"].items()}
    assert measures == {"kl": 0.25, "response_length": 6.5, "distinct": 0.5, "cut_off": 0.25, "unscored": 0.0}


def test_home_folders_are_found(tables, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    tailgrad_curve("~/base.parquet", "--out", "~/report")
    assert (tmp_path / "report" / "curve.json").is_file()


def test_tables_that_share_a_name_are_seeds(tables, tmp_path):
    paths, _ = tables
    options = ("--budgets", 1, 3, "--reference", "ours", "--num_generations", 2, "--deploy_n", 4, "--seed", 5)
    tailgrad_curve(*paths, "--out", tmp_path / "report", "--names", "base", "ours", "ours", *options)
    document = json.loads((tmp_path / "report" / "curve.json").read_text())
    assert [(run["name"], run["seeds"]) for run in document["runs"]] == [("base", 1), ("ours", 2)]
    assert (document["budgets"], document["reference"]) == ([1, 3], "ours")
    difference = [point["mean"] for point in document["runs"][0]["difference"]]
    np.testing.assert_allclose(difference, -0.6, rtol=1e-12)


def test_files_of_one_name_in_different_folders_stay_apart(tmp_path):
    for folder in ("a", "b"):
        write_rollouts(tmp_path / folder / "rollouts.parquet", 0.0)
    paths = [tmp_path / folder / "rollouts.parquet" for folder in ("a", "b")]
    tailgrad_curve(*paths, "--out", tmp_path / "report")
    document = json.loads((tmp_path / "report" / "curve.json").read_text())
    assert [run["name"] for run in document["runs"]] == ["a/rollouts", "b/rollouts"]


def test_a_table_that_lost_its_metadata_is_read_and_said_loudly(tables, tmp_path, capsys):
    paths, rewards = tables
    pd.read_parquet(paths[0]).to_parquet(tmp_path / "pandas.parquet")
    tailgrad_curve(tmp_path / "pandas.parquet", paths[1], "--out", tmp_path / "report")
    printed = capsys.readouterr()
    assert printed.err.count("carries no metadata") == 1
    assert f"warning: rollout table '{tmp_path / 'pandas.parquet'}' carries no metadata" in printed.err
    document = json.loads((tmp_path / "report" / "curve.json").read_text())
    (unchecked,) = (note for note in document["notes"] if "top_p" in note)
    assert unchecked in printed.out
    assert all(word in unchecked for word in ("pandas", "temperature", "top_p", "top_k", "max_new_tokens", "reward"))
    pandas, _ = document["runs"]
    np.testing.assert_allclose([p["mean"] for p in pandas["v_n"]], best_of_n(rewards[0], [1, 2, 4]).mean(axis=0))
    assert "kl" not in pandas["measures"]
    tailgrad_curve(paths[1], "--out", tmp_path / "report")
    assert capsys.readouterr().err == ""


def test_a_curve_of_which_the_end_is_unknown_is_drawn_and_said(tmp_path, capsys):
    rewards = write_rollouts(tmp_path / "judged.parquet", 0.0)
    table = pq.read_table(tmp_path / "judged.parquet")
    unscored = pa.array(
        np.where(rewards == rewards.max(axis=1, keepdims=True), np.nan, rewards).ravel(), from_pandas=True
    )
    table = table.set_column(4, "reward", unscored).set_column(10, "selection_reward", pa.array(rewards.ravel()))
    pq.write_table(table, tmp_path / "judged.parquet")
    tailgrad_curve(tmp_path / "judged.parquet", "--out", tmp_path / "report", "--num_generations", 2, "--deploy_n", 4)
    printed = capsys.readouterr().out
    assert "selection_reward" in printed
    assert all(f"{budget} (0)" in printed for budget in (1, 2, 4))
    assert {row[0]: row[1] for row in tables_of(printed)[0][1:]} == {"1": "unknown", "2": "unknown", "4": "unknown"}
    assert "25.0%" in printed  # unscored


def test_says_what_is_wrong(tables, tmp_path):
    paths, _ = tables
    with pytest.raises(ValueError, match="--names has 1 names for 2 tables"):
        tailgrad_curve(*paths[:2], "--out", tmp_path / "report", "--names", "base")
    with pytest.raises(ValueError, match="a table is given twice"):
        tailgrad_curve(paths[0], paths[0], "--out", tmp_path / "report")
    with pytest.raises(FileNotFoundError, match=r"missing\.parquet"):
        tailgrad_curve(tmp_path / "missing.parquet", "--out", tmp_path / "report")
    write_rollouts(tmp_path / "cold.parquet", 0.0, temperature=0.5)
    with pytest.raises(ValueError, match=r"'base' and 'cold' were sampled differently: temperature is 1\.0 and 0\.5"):
        tailgrad_curve(paths[0], tmp_path / "cold.parquet", "--out", tmp_path / "report")
    write_rollouts(tmp_path / "other.parquet", 0.0, prompt="other")
    with pytest.raises(ValueError, match="prompt_id 0 is 'prompt 0' and 'other 0'"):
        tailgrad_curve(paths[0], tmp_path / "other.parquet", "--out", tmp_path / "report")
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    ("command", "option", "value", "least"),
    [
        ("curve", "deploy_n", -5, 1),
        ("curve", "num_generations", 0, 1),
        *((command, "seed", -1, 0) for command in ("curve", "tails", "plan", "fidelity")),
    ],
)
def test_a_number_that_is_too_small_is_refused_by_its_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, option: str, value: int, least: int
) -> None:
    np.save(tmp_path / "mine.npy", np.random.default_rng(0).normal(size=(4, 64)))
    given = [command, str(tmp_path / "mine.npy"), "--out", str(tmp_path / "out"), f"--{option}", str(value)]
    given += [] if command in ("curve", "tails") else ["--deploy_n", "16"]
    given += ["--model_name_or_path", "none"] if command == "fidelity" else []
    assert main(given) == 2
    assert f"--{option} is {value}; it must be {least} or more." in capsys.readouterr().err
