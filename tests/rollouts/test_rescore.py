"""The responses of a table scored anew: nothing but the rewards and what picks the best changes."""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tailgrad.cli.main import main
from tailgrad.curves import Rollouts, compare
from tailgrad.curves.settings import COMPARED, NOT_COMPARED
from tailgrad.curves.tables import markdown_text
from tailgrad.function_identity import function_sha256
from tailgrad.rollouts import SampleConfig, ScoreConfig, read_rollouts, rescore, sample, write_table
from tailgrad.rollouts.table import COLUMNS


def fewest_tokens(*, prompts: list[str], completion_ids: list[list[int]], answer: list[str], **_: Any) -> list[float]:
    """Ten for each letter of the data set's column, less one per token."""
    assert len(prompts) == len(completion_ids)
    return [10.0 * "abcde".index(a) - len(ids) for a, ids in zip(answer, completion_ids, strict=True)]


@pytest.fixture
def scored(options: dict[str, Any]) -> dict[str, Any]:
    """Options that score a sampled table with its numbers of tokens."""
    table = sample(SampleConfig(**options))
    return {"table": table, "reward_funcs": fewest_tokens, "out": table.with_name("judged.parquet")}


def tokens_of(table: Rollouts) -> np.ndarray:
    assert table.token_ids is not None
    return np.vectorize(len, otypes=[float])(table.token_ids)


def test_the_new_reward_stands_beside_the_old_one(scored: dict[str, Any]) -> None:
    before, after = read_rollouts(scored["table"]), read_rollouts(rescore(ScoreConfig(**scored, batch_size=7)))
    np.testing.assert_array_equal(after.rewards, 10.0 * np.arange(5)[:, None] - tokens_of(before))
    np.testing.assert_array_equal(after.selection_rewards, before.rewards)
    for name in ("prompt_ids", "prompts", "responses", "num_tokens", "finished", "logprobs"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    picked_by = {"selection_reward": "word_count", "selection_reward_files": before.metadata["reward_files"]}
    changed = {"reward": "fewest_tokens"} | picked_by
    ours = {name: value for name, value in after.metadata.items() if name != "rescored"}
    files = {"reward_files": [function_sha256(fewest_tokens)]}
    assert ours == before.metadata | changed | files
    assert files["reward_files"] != before.metadata["reward_files"]
    assert before.selection_rewards is None
    thought_of = COMPARED.keys() | NOT_COMPARED.keys()
    assert set(after.metadata) <= thought_of, "say in curves/settings.py whether tables that differ in it compare"
    assert not Path(f"{scored['out']}.parts").exists()


def test_the_best_is_the_one_that_the_old_reward_picks(scored: dict[str, Any]) -> None:
    run = read_rollouts(rescore(ScoreConfig(**scored)), name="judged")
    before = read_rollouts(scored["table"])
    expected = np.zeros((5, 2))
    for prompt, (old, new) in enumerate(zip(before.rewards, run.rewards, strict=True)):
        for column, size in enumerate((2, 4)):
            subsets = [list(subset) for subset in combinations(range(4), size)]
            picked = [[new[i] for i in subset if old[i] == old[subset].max()] for subset in subsets]
            expected[prompt, column] = np.mean([np.mean(values) for values in picked])
    np.testing.assert_allclose(run.best_of_n([2, 4]), expected)
    assert not run.measures()["unscored"].any()
    assert all(name in compare([run]).title for name in ("fewest_tokens", "word_count"))
    other = scored | {"out": scored["out"].with_name("own.parquet")}
    own = read_rollouts(rescore(ScoreConfig(**other, selection="reward")), name="own")
    np.testing.assert_array_equal(own.best_of_n([4])[:, 0], run.rewards.max(axis=1))


def test_scoring_twice_keeps_what_picks_the_best(scored: dict[str, Any], tmp_path: Path) -> None:
    once = rescore(ScoreConfig(**scored))
    again = read_rollouts(rescore(ScoreConfig(once, tmp_path / "again.parquet", reward_funcs=scored["reward_funcs"])))
    np.testing.assert_array_equal(again.selection_rewards, read_rollouts(scored["table"]).rewards)
    assert again.metadata["selection_reward"] == "word_count"
    assert again.metadata["selection_reward_files"] == read_rollouts(scored["table"]).metadata["reward_files"]


def test_what_no_reward_could_score_is_not_picked_by_the_new_one(options: dict[str, Any]) -> None:
    table = sample(SampleConfig(**options | {"reward_funcs": lambda completions, **_: [None] * len(completions)}))
    config = ScoreConfig(table, table.with_name("judged.parquet"), reward_funcs=fewest_tokens)
    run = read_rollouts(rescore(config), name="judged")
    assert not np.isnan(run.rewards).any()
    assert np.isnan(run.best_of_n([1, 4])).all()
    assert (run.measures()["unscored"] == 1).all()


def test_where_the_new_reward_leaves_the_picked_response_unscored_its_worth_is_unknown(scored: dict[str, Any]) -> None:
    def fails_on_the_best(completions: list[str], **_: Any) -> list[float | None]:
        lengths = [len(text.split()) for text in completions]
        return [None if length == max(lengths) else float(length) for length in lengths]

    config = ScoreConfig(**scored | {"reward_funcs": fails_on_the_best}, batch_size=4)
    run = read_rollouts(rescore(config), name="judged")
    before = read_rollouts(scored["table"]).rewards
    assert np.isnan(run.best_of_n([4])).all()
    smallest = np.sort(before, axis=1)[:, 0]
    assert (smallest < before.max(axis=1)).any()
    assert np.isnan(run.best_of_n([1])).all()
    text = markdown_text(compare([run]))
    assert "unknown" in text
    assert "fails_on_the_best" in text


def test_an_interrupted_scoring_goes_on(scored: dict[str, Any]) -> None:
    calls = []

    def failing(completions: list[str], **_: Any) -> list[float]:
        calls.append(len(completions))
        if len(calls) == 3:
            raise OSError("gone")
        return [1.0] * len(completions)

    config = ScoreConfig(**scored | {"reward_funcs": failing}, batch_size=4)
    with pytest.raises(RuntimeError, match="gone"):
        rescore(config)
    assert (read_rollouts(rescore(config)).rewards == 1.0).all()
    assert calls == [4] * 6  # five prompts, one of them twice
    with pytest.raises(ValueError, match="exists already"):
        rescore(config)


@pytest.mark.parametrize("batch_size", [4, 12, 100])
def test_another_batch_size_goes_on_and_scores_each_response_once(scored: dict[str, Any], batch_size: int) -> None:
    calls = []

    def failing(completion_ids: list[list[int]], **_: Any) -> list[float]:
        calls.append(len(completion_ids))
        if len(calls) == 2:
            raise OSError("gone")
        return [float(len(ids)) for ids in completion_ids]

    changed = scored | {"reward_funcs": failing}
    with pytest.raises(RuntimeError, match="gone"):
        rescore(ScoreConfig(**changed, batch_size=8))
    after = read_rollouts(rescore(ScoreConfig(**changed, batch_size=batch_size)))
    np.testing.assert_array_equal(after.rewards, tokens_of(read_rollouts(scored["table"])))
    assert sum(calls[2:]) == 12  # of 20, and 8 were scored before


def test_another_reward_of_the_same_name_is_not_mixed_in(scored: dict[str, Any]) -> None:
    class Judge:
        def __init__(self, factor: float, broken: bool) -> None:
            self.factor, self.broken = factor, [broken]

        def __call__(self, completions: list[str], answer: list[str], **_: Any) -> list[float]:
            if self.broken[0] and "c" in answer:
                raise OSError("gone")
            return [self.factor] * len(completions)

    def config(factor: float, broken: bool) -> ScoreConfig:
        reward = Judge(factor, broken)
        reward.content_sha256 = str(factor)  # type: ignore[attr-defined]
        return ScoreConfig(**scored | {"reward_funcs": reward}, batch_size=8)

    with pytest.raises(RuntimeError, match="gone"):
        rescore(config(1.0, broken=True))
    with pytest.raises(ValueError, match="another reward_files"):
        rescore(config(2.0, broken=False))
    assert (read_rollouts(rescore(config(1.0, broken=False))).rewards == 1.0).all()


def test_another_data_set_is_refused(scored: dict[str, Any], tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text('{"prompt": "one"}\n' * 5)
    with pytest.raises(ValueError, match="was sampled on"):
        rescore(ScoreConfig(**scored, dataset_name=str(other)))


def test_a_table_without_tokens_is_refused(scored: dict[str, Any], tmp_path: Path) -> None:
    table = read_rollouts(scored["table"])
    columns = {name: [0] * 2 for name in COLUMNS} | {
        "response_index": [0, 1],
        "prompt": ["a"] * 2,
        "response": ["b"] * 2,
    }
    write_table(tmp_path / "old.parquet", columns | {"token_ids": [None] * 2, "finished": [True] * 2}, table.metadata)
    with pytest.raises(ValueError, match="sample it again"):
        rescore(ScoreConfig(**scored | {"table": tmp_path / "old.parquet"}))
    for ids, said in ((pa.array(["a"] * 20), "prompt_id a"), (pa.array([6] * 20), "prompt_id 6; .* below 5")):
        whole = pq.read_table(scored["table"])
        whole = whole.set_column(0, "prompt_id", ids).set_column(1, "prompt", pa.array(["one"] * 20))
        pq.write_table(whole.set_column(3, "response_index", pa.array(range(20))), tmp_path / "ids.parquet")
        with pytest.raises(ValueError, match=said):
            rescore(ScoreConfig(**scored | {"table": tmp_path / "ids.parquet"}))
    with pytest.raises(ValueError, match="selection is 'best'"):
        ScoreConfig(**scored, selection="best")


def test_the_command(
    scored: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_judge.py").write_text(
        "def length(completions, **_):\n    return [len(text) for text in completions]\n"
    )
    monkeypatch.chdir(tmp_path)
    argv = ["score", str(scored["table"]), "--reward_funcs", "my_judge.length", "--out", "judged.parquet"]
    assert main(argv) == 0
    assert capsys.readouterr().out == "judged.parquet\n"
    table = read_rollouts("judged.parquet")
    np.testing.assert_array_equal(table.rewards, np.vectorize(len)(np.array(table.responses)))
    assert table.metadata["reward"] == "my_judge.length"
    assert main([*argv, "--selection", "reward", "--out", "own.parquet"]) == 0
    assert read_rollouts("own.parquet").selection_rewards is None
