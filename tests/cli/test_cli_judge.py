"""`tailgrad judge` as it is typed, on tables that `tailgrad sample` wrote."""

import json
from pathlib import Path

import pytest

from local_servers import Answer, running
from tailgrad.cli.main import main
from tailgrad.rollouts import SampleConfig, sample
from tiny_policies import PROMPTS, save_policy, save_prompts, word_count


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    prompts = save_prompts(tmp_path / "prompts.jsonl", PROMPTS)
    for seed, name in enumerate(("base", "tea")):
        policy = save_policy(tmp_path / f"{name}-policy", seed=seed, pad_token="[PAD]")
        given = {"model_name_or_path": str(policy), "dataset_name": str(prompts), "reward_funcs": word_count}
        sample(SampleConfig(**given, out=f"{name}.parquet", n=6, max_completion_length=6, batch_size=60))
    return ["base.parquet", "tea.parquet"]


def prefers_the_second(_: str, body: dict) -> Answer:
    return 200, {"choices": [{"message": {"role": "assistant", "content": "B"}, "finish_reason": "stop"}]}


def test_it_prints_what_it_writes(
    tables: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILGRAD_EVENTS", "events.jsonl")
    with running(prefers_the_second) as server:
        words = ["judge", *tables, "--out", "out", "--base_url", server.url, "--judge_model", "m", "--deploy_n", "3"]
        assert main([*words, "--draws", "2", "--dry_run"]) == 0
        assert not server.seen
        assert not Path("out").exists()
        assert capsys.readouterr().out.count("--- prompt") > 2
        assert main([*words, "--draws", "2"]) == 0
        captured = capsys.readouterr()
        assert Path("out/judge.md").read_text() in captured.out
        assert f"{len(server.seen)} requests to {server.url} for m" in captured.err
        assert main([*words, "--draws", "3"]) == 2
        assert "take 9" in capsys.readouterr().err
        assert main([*words, "--draws", "1"]) == 2
        assert "another draws: 2 there, 1 now" in capsys.readouterr().err
    found = json.loads(Path("out/judge.json").read_text())
    assert (found["reference"], found["compared"], found["prompts"], found["draws"]) == ("base", "tea", 5, 2)
    assert found["measures"]["win_rate"]["mean"] == 0.5
    events = [json.loads(line) for line in Path("events.jsonl").read_text().splitlines()]
    assert events[-1] == {"kind": "progress", "done": len(server.seen), "total": len(server.seen)}


def test_a_table_of_ones_own_is_judged_by_a_reward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, texts in (("a", ["yes", "no"]), ("b", ["maybe", "nothing"])):
        rows = [{"task": f"t{i}", "points": i, "text": text} for i, text in enumerate(texts)]
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("letters_of_judge.py").write_text(
        "def letters(prompts, completions):\n    return [len(c) for c in completions]\n"
    )
    columns = ["--prompt_column", "task", "--reward_column", "points", "--response_column", "text"]
    words = ["judge", "a.jsonl", "b.jsonl", *columns, "--reward_funcs", "letters_of_judge.letters", "--out", "out"]
    assert main(words) == 0, capsys.readouterr().err
    assert json.loads(Path("out/judge.json").read_text())["measures"]["win_rate"]["mean"] == 1
