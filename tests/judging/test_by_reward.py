"""A reward as the judge: the answer with the larger reward is the better one."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from local_servers import running
from tailgrad.judging import judge, match_answers

from .conftest import Configure, P, lines_of, quality_of


def quality(*, prompts: list[str], completions: list[str], **columns: Any) -> list[float | None]:
    """As good as it says; of a 3 nobody knows."""
    assert len(prompts) == len(completions) > 0
    assert not columns
    return [None if quality_of(text) == 3 else float(quality_of(text)) for text in completions]


def test_it_says_what_the_rewards_say(config: Configure, tables: Any) -> None:
    outcome = judge(config(reward_funcs=quality, deploy_n=4, draws=2), tables)
    pairs = [pair.answers for pair in match_answers(*tables, deploy_n=4, draws=2).pairs]
    scores = []
    for base, tea in pairs:
        gap = quality_of(tea) - quality_of(base)
        known = base == tea or 3 not in (quality_of(base), quality_of(tea))
        scores.append((0.5 + 0.5 * np.sign(gap)) if known else None)
    by_prompt = [[one for one in scores[2 * row : 2 * row + 2] if one is not None] for row in range(P)]
    expected = np.mean([np.mean(row) for row in by_prompt if row])
    assert outcome is not None
    assert outcome.measures["win_rate"].mean[0] == pytest.approx(expected)
    assert outcome.counts["unread"] == scores.count(None) > 0
    assert not {"split", "agreement", "first_minus_second"} & outcome.measures.keys(), "nothing stands first"
    parts = sum(outcome.measures[name].mean[0] for name in ("won", "tied", "lost"))
    assert parts == pytest.approx(1)
    assert "orders" not in Path("judged/judge.md").read_text()
    assert json.loads(Path("judged/judge.json").read_text())["orders"] == 1


def test_it_goes_on_where_it_stopped_and_another_reward_is_refused(config: Configure, tables: Any) -> None:
    Path("judging_rewards.py").write_text(
        "calls = []\n"
        "def length(prompts, completions):\n"
        "    calls.append(len(completions))\n"
        "    if len(calls) == 2:\n"
        "        raise KeyError('no')\n"
        "    return [len(text) for text in completions]\n"
        "def other(prompts, completions):\n    return [0.0] * len(completions)\n"
    )
    given = {"deploy_n": 1, "draws": 8}
    with pytest.raises(RuntimeError, match="KeyError"):
        judge(config(reward_funcs="judging_rewards.length", **given), tables)
    kept = len(lines_of(Path("judged/judgements.jsonl"))) - 1
    assert kept == 64
    outcome = judge(config(reward_funcs="judging_rewards.length", **given), tables)
    import judging_rewards

    calls = judging_rewards.calls
    assert outcome is not None
    assert sum(calls) - calls[1] == 2 * (outcome.counts["pairs"] - outcome.counts["alike"])
    with pytest.raises(ValueError, match="another reward"):
        judge(config(reward_funcs="judging_rewards.other", **given), tables)


def test_chats_are_passed_as_messages_and_a_url_may_be_the_reward(config: Configure, tables: Any) -> None:
    chats = tuple(
        run.replace(prompts=[json.dumps([{"role": "user", "content": text}]) for text in run.prompts]) for run in tables
    )
    with running(lambda _, body: (200, {"rewards": [len(one[0]["content"]) for one in body["completions"]]})) as server:
        outcome = judge(config(reward_funcs=server.url, deploy_n=8), chats)
    _, body = server.seen[0]
    assert body["prompts"][0][0]["role"] == "user"
    assert body["completions"][0][0]["role"] == "assistant"
    assert outcome is not None
    assert outcome.measures["longer_won"].mean[0] == 1


def test_what_a_reward_cannot_be_is_refused(config: Configure, tables: Any) -> None:
    with pytest.raises(ValueError, match="needs 'answer', which is no column"):
        judge(config(reward_funcs=lambda prompts, completions, answer: [0.0]), tables)
    nothing = tables[1].replace(rewards=np.full((P, 8), math.nan))
    with pytest.raises(ValueError, match="no prompt has an answer in both tables"):
        judge(config(reward_funcs=quality), (tables[0], nothing))


def test_a_dry_run_calls_no_reward(config: Configure, tables: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def never(**_: Any) -> list[float]:
        raise AssertionError

    unreachable = "http://localhost:9/score"
    assert judge(config(reward_funcs=(never, unreachable), dry_run=True, limit=2, deploy_n=8), tables) is None
    printed = capsys.readouterr().out
    pairs = [pair for pair in match_answers(*tables, limit=2).pairs if not pair.is_alike]
    assert all(text in printed for pair in pairs for text in (pair.prompt, *map(str, pair.answers)))
    assert f"{2 * len(pairs)} answers to score" in printed
    assert not Path("judged").exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "no judge given"),
        ({"base_url": "http://h", "judge_model": None}, "base_url without judge_model"),
        ({"judge_model": "m"}, "judge_model without base_url"),
        ({"base_url": "http://h", "reward_funcs": "a.b"}, "two judges given"),
        ({"reward_funcs": "a.b", "judge_prompt": "f"}, "judge_prompt with a reward"),
        ({"reward_funcs": "a.b", "reward_url": "http://h"}, "reward_url without"),
        (
            {"base_url": "http://h", "judge_model": "m", "reward_max_length": 9},
            "reward_max_length without a reward model",
        ),
        ({"base_url": "http://h", "tables": ("a",)}, "1 tables given"),
        ({"base_url": "http://h", "draws": 0}, "draws is 0"),
        ({"base_url": "http://h", "temperature": -1.0}, "temperature is -1.0"),
        ({"base_url": "http://h", "seed": -1}, "seed is -1"),
        ({"base_url": "http://h", "request_timeout": 0.0}, "request_timeout is 0.0"),
    ],
)
def test_options_that_do_not_go_together_are_refused(config: Configure, given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        config(**given)
