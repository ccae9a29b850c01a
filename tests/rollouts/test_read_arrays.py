"""Arrays of rewards, one row per prompt, and what tells one from a table with a header."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tailgrad.curves import best_of_n
from tailgrad.rollouts import read_rollouts
from written_rollouts import rollouts_of


@pytest.mark.parametrize("source", ["npy", "csv"])
def test_an_array_of_one_row_per_prompt(source: str, tmp_path: Path) -> None:
    rewards = np.random.default_rng(0).normal(size=(4, 3))
    rewards[1, 2] = np.nan
    path = tmp_path / f"wide.{source}"
    if source == "npy":
        np.save(path, rewards)
    else:
        np.savetxt(path, rewards, delimiter=",", fmt="%.18e")
    rollouts = read_rollouts(path)
    np.testing.assert_array_equal(rollouts.rewards, rewards)
    assert (rollouts.prompts, rollouts.prompt_ids.tolist()) == (None, [0, 1, 2, 3])
    np.testing.assert_array_equal(rollouts.best_of_n([1, 2]), best_of_n(rewards, [1, 2]))


def test_an_array_with_shorter_lines_and_empty_cells(tmp_path: Path) -> None:
    rollouts = rollouts_of(tmp_path / "wide.csv", "1,0,1e-3\n0.5,,\n2\n")
    np.testing.assert_array_equal(rollouts.rewards, [[1, 0, 1e-3], [0.5, np.nan, np.nan], [2, np.nan, np.nan]])
    assert rollouts.counts.tolist() == [3, 3, 1]


@pytest.mark.parametrize("rewards", [np.array([[True, False]]), np.array([[1, 0]], "int8"), np.array([[1, 0]], "f4")])
def test_arrays_of_any_numbers(rewards: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", rewards)
    assert read_rollouts(tmp_path / "a.npy").rewards.tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize(("index", "header"), [(True, True), (False, True), (True, False)])
@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("whole", [False, True])
def test_an_array_that_pandas_wrote_with_its_header_or_index_is_refused(
    index: bool, header: bool, n: int, whole: bool, tmp_path: Path
) -> None:
    rewards = np.random.default_rng(0).integers(0, 2, size=(5, n))
    frame = pd.DataFrame(rewards if whole else rewards + 0.25)
    frame.to_csv(tmp_path / "a.csv", index=index, header=header)
    with pytest.raises(ValueError, match=r"a\.csv': its first .* `to_csv\(.*index=False, header=False\)`.*\.npy"):
        read_rollouts(tmp_path / "a.csv")
    pd.DataFrame(rewards + 0.25).to_csv(tmp_path / "a.csv", index=False, header=False)
    np.testing.assert_array_equal(read_rollouts(tmp_path / "a.csv").rewards, rewards + 0.25)


@pytest.mark.parametrize(
    "text", ["0,0.5\n0,0.25\n1,0.75\n", "7,1\n7,0\n", "3,\n1,0.5\n3,0.25\n", "5,0,0.5\n5,1,0.25\n"]
)
def test_prompts_and_rewards_without_a_header_are_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.csv': its first column looks like prompt_id: give it a header"):
        rollouts_of(tmp_path / "a.csv", text)
    header = "prompt_id,response_index,reward" if text.startswith("5") else "prompt_id,reward"
    assert rollouts_of(tmp_path / "a.csv", f"{header}\n{text}").n == 2


@pytest.mark.parametrize(
    "text", ["0.0,1.0\n1.0,1.0\n1.0,0.0\n", "1,0\n0,1\n", ".5,1\n.5,2\n", "1,0,1\n1,1,1\n", "1\n1\n"]
)
def test_rewards_that_look_like_neither_are_read(text: str, tmp_path: Path) -> None:
    expected = [[float(cell) for cell in line.split(",")] for line in text.split()]
    assert rollouts_of(tmp_path / "a.csv", text).rewards.tolist() == expected


@pytest.mark.parametrize("n", [3, 4, 8])
def test_rewards_of_zero_and_one_are_read_where_they_are_no_count(n: int, tmp_path: Path) -> None:
    for seed in range(20):
        rewards = np.random.default_rng(seed).integers(0, 2, size=(4, n)).tolist()
        text = "".join(",".join(map(str, line)) + "\n" for line in rewards)
        assert rollouts_of(tmp_path / "a.csv", text).rewards.tolist() == rewards


def test_whole_rewards_that_rise_by_chance_are_read(tmp_path: Path) -> None:
    for text, rewards in (
        ("1,2\n4,3\n", [[1, 2], [4, 3]]),
        ("2,5,7\n7,1,3\n", [[2, 5, 7], [7, 1, 3]]),
        ("3,1\n5,2\n9,0\n", [[3, 1], [5, 2], [9, 0]]),
        (",0.5\n0.25,1\n", [[np.nan, 0.5], [0.25, 1]]),
        ("1,2,3,4\n", [[1, 2, 3, 4]]),
        ("0,-1\n1,2\n5,3\n", [[0, -1], [1, 2], [5, 3]]),
    ):
        np.testing.assert_array_equal(rollouts_of(tmp_path / "a.csv", text).rewards, rewards)


def test_a_first_line_that_is_shorter_than_another_is_no_header(tmp_path: Path) -> None:
    rollouts = rollouts_of(tmp_path / "a.csv", "0,1\n1,0,1\n0\n")
    np.testing.assert_array_equal(rollouts.rewards, [[0, 1, np.nan], [1, 0, 1], [0, np.nan, np.nan]])
    with pytest.raises(ValueError, match=r"its first line is 0,1, which looks like a header: .* with a point"):
        rollouts_of(tmp_path / "a.csv", "0,1\n1,0\n0\n")


@pytest.mark.parametrize("array", [np.zeros(3), np.zeros((0, 2)), np.array([["a"]]), np.array([[np.inf]])])
def test_arrays_that_are_no_rewards(array: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(
        ValueError, match=r"a\.npy'(: column 'reward' has an infinity| holds .* rewards must be numbers)"
    ):
        read_rollouts(tmp_path / "a.npy")
