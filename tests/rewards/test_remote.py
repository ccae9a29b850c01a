"""Rewards behind a server, against a real HTTP server in this process."""

import json
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from local_servers import Answer, hanging, in_turn, quick, running
from tailgrad.models.breaker import ServerDownError
from tailgrad.models.server import RefusedError
from tailgrad.rewards import HttpReward, RewardModel, ServedRewardModel, checked, load_reward
from tailgrad.rollouts import SampleConfig, ScoreConfig, read_rollouts, rescore, sample
from tailgrad.training.same_run import run_record
from tiny_policies import PROMPTS, dataset, options, policy

__all__ = ["dataset", "options", "policy", "quick"]

ARGS = SimpleNamespace(world_size=1, train_batch_size=1, gradient_accumulation_steps=1, estimator="tea", to_dict=dict)
RESPONSES = [" one", " two three </s>", " four five six seven one", " one", " six </s> </s>"]
CHATS = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
ANSWERS = [[{"role": "assistant", "content": response.strip()}] for response in RESPONSES]


def lengths(_: str, body: Any) -> Answer:
    """The lengths of the responses; none of an empty one."""
    return 200, {"rewards": [len(text) or None for text in body["completions"]]}


def test_a_function_behind_a_url_gets_the_arguments_of_a_reward() -> None:
    with running(lengths) as server:
        reward = checked(load_reward(f"{server.url}/score", batch_size=2))
        given: dict[str, Any] = {"completion_ids": [[1]] * 5, "trainer_state": object(), "log_extra": print}
        texts = ["a", "bb", "", "dddd", "eeeee"]
        found = reward(prompts=PROMPTS, completions=texts, answer=list("vwxyz"), **given)
    assert found == [1.0, 2.0, None, 4.0, 5.0]
    sent = sorted(server.seen, key=lambda seen: PROMPTS.index(seen[1]["prompts"][0]))
    assert sent[1] == ("/score", {"prompts": PROMPTS[2:4], "completions": texts[2:4], "answer": ["x", "y"]})
    assert [len(body["prompts"]) for _, body in sent] == [2, 2, 1]
    assert reward.__name__ == f"{server.url}/score"


@pytest.mark.parametrize(
    "answer",
    [(200, b"<html>"), (200, {"rewards": [1.0]}), (200, {"rewards": 1.0}), (200, [1, 2]), (500, b""), (0, b"")],
    ids=["no JSON", "too few", "no list", "no object", "500", "cut"],
)
def test_a_failure_that_passes_costs_nothing_and_one_that_stays_stops(answer: Answer, quick: list[str]) -> None:
    with running(in_turn([answer] * 2, lengths)) as server:
        assert HttpReward(server.url)(prompts=["p"] * 2, completions=["a", "bb"]) == [1, 2]
    quick.clear()
    with running(lambda *_: answer) as server:
        reward = checked(HttpReward(server.url))
        with pytest.raises(ServerDownError, match=r"failed 4 times in a row.*the same command goes on"):
            reward(prompts=["p"] * 2, completions=["a", "bb"])
        with pytest.raises(ServerDownError):
            reward(prompts=["p"] * 2, completions=["a", "bb"])
    assert len(server.seen) == 4, "the breaker is open: nothing more is sent"
    assert ["failure 4 of 4 in a row, no further try" in line for line in quick] == [False] * 3 + [True]


def test_a_request_that_hangs_is_tried_again_within_the_timeout(quick: list[str]) -> None:
    slow = [hanging(0.5)]
    with running(lambda *asked: (slow.pop() if slow else lengths)(*asked)) as server:
        reward = checked(load_reward(server.url, timeout=0.1), timeout=0.1)
        assert reward(prompts=["p"], completions=["abc"]) == [3.0]
    assert "no answer within 0.1 seconds" in quick[0]


def test_a_refusal_is_one_line() -> None:
    with running(lambda *_: (422, {"detail": "no answer column"})) as server:
        reward = checked(HttpReward(server.url))
        with pytest.raises(RefusedError, match="refuses with 422: no answer column"):
            reward(prompts=["p"], completions=["a"])


def test_a_wrong_value_is_that_of_any_reward() -> None:
    with running(lambda *_: (200, {"rewards": ["good"]})) as server:
        reward = checked(HttpReward(server.url))
        with pytest.raises(ValueError, match=r"returned 'good' \(str\) at position 0"):
            reward(prompts=["p"], completions=["a"])


@pytest.fixture
def rm(make_reward_model: Callable[..., Path]) -> Path:
    return make_reward_model(begin=True)


class Scorer:
    """vLLM or SGLang with a reward model: it scores the tokens that it is sent, in the words of its API."""

    def __init__(self, model: Path, kind: str) -> None:
        self.model, self.kind, self.lock = RewardModel(str(model)), kind, threading.Lock()

    def __call__(self, path: str, body: Any) -> Answer:
        if ("input_ids" in body) != (self.kind == "sglang"):
            return 422, {"detail": "a field is missing"}
        with self.lock:
            scores = self.model.scores(body["input_ids"] if self.kind == "sglang" else body["input"]).tolist()
        if self.kind == "sglang":
            return 200, [{"embedding": [score], "meta_info": {}} for score in scores]
        if path.endswith("/pooling"):
            assert (body["task"], body["use_activation"]) == ("classify", False)
            data = [{"index": i, "data": [score]} for i, score in enumerate(scores)]
        else:
            assert body["use_activation"] is False
            data = [{"index": i, "probs": [score], "label": "LABEL_0"} for i, score in enumerate(scores)]
        return 200, {"data": data[::-1]}


@pytest.mark.parametrize(
    ("kind", "path"), [("vllm", ""), ("vllm", "/pooling"), ("vllm", "/classify"), ("sglang", "/classify")]
)
def test_a_served_reward_model_gives_the_scores_of_the_local_one(rm: Path, kind: str, path: str) -> None:
    with running(Scorer(rm, kind)) as server:
        for options in ({}, {"max_length": 4}, {"input_format": "chat"}):
            local = RewardModel(str(rm), **options)
            served = ServedRewardModel(str(rm), url=server.url + path, batch_size=2, **options)
            for prompts, completions in ((PROMPTS, RESPONSES), (CHATS, ANSWERS)):
                with pytest.warns(UserWarning, match="are cut") if "max_length" in options else nullcontext():
                    expected = local(prompts=prompts, completions=completions)
                    found = served(prompts=prompts, completions=completions)
                    local._warned = served._warned = False
                assert found == pytest.approx(expected, rel=1e-5)


def test_a_multi_label_model_is_no_reward(rm: Path, quick: list[str]) -> None:
    answer = {"data": [{"index": 0, "data": [0.1, 0.9]}]}
    with running(lambda *_: (200, answer)) as server:
        reward = ServedRewardModel(str(rm), url=server.url)
        with pytest.raises(ServerDownError, match="2 scores of a rollout"):
            reward(prompts=["one"], completions=["two"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reward_url": "http://h/pooling", "reward_funcs": "a.b"}, "reward_url without reward_model_name_or_path"),
        ({"reward_url": "http://h/score", "reward_model_name_or_path": "RM"}, "must be that of a served reward model"),
        ({"reward_url": "h/pooling", "reward_model_name_or_path": "RM"}, "must be an address"),
        ({"reward_url": "http://h", "reward_model_name_or_path": "RM", "reward_dtype": "float16"}, "reward_dtype with"),
        ({"reward_url": "http://h", "reward_model_name_or_path": "RM", "reward_device": "cpu"}, "reward_device with"),
        ({"reward_funcs": "http://me:secret@h/score"}, "environment variable"),
    ],
)
def test_what_cannot_be_is_refused(
    dataset: Path, tmp_path: Path, rm: Path, options: dict[str, Any], words: str
) -> None:
    options = {name: str(rm) if value == "RM" else value for name, value in options.items()}
    with pytest.raises(ValueError, match=words):
        sample(SampleConfig(model_name_or_path="m", dataset_name=str(dataset), out=tmp_path / "t.parquet", **options))


def test_sample_and_score_with_both_and_a_server_that_moves(
    rm: Path, options: dict[str, Any], tmp_path: Path, quick: list[str]
) -> None:
    """A scorer dies in the middle; the run goes on with it at another address and gives the table of a local one."""
    scorer = Scorer(rm, "vllm")
    given = {**options, "reward_funcs": (), "reward_model_name_or_path": str(rm), "batch_size": 4}
    local = read_rollouts(sample(SampleConfig(**{**given, "out": tmp_path / "local.parquet"})))

    def dies(path: str, body: Any) -> Answer:
        if len(server.seen) == 3:
            server.die()
            return 0, b""
        return scorer(path, body)

    with running(dies) as server, pytest.raises(ServerDownError, match="the same command goes on"):
        sample(SampleConfig(**given, reward_url=server.url))
    assert len(list(Path(f"{given['out']}.parts").glob("part-*"))) == 2
    with running(scorer) as server:
        table = read_rollouts(sample(SampleConfig(**given, reward_url=server.url)))
    assert len(server.seen) == 3
    assert table.responses == local.responses
    assert table.rewards.ravel().tolist() == pytest.approx(local.rewards.ravel().tolist(), rel=1e-5)
    assert table.metadata["reward"] == local.metadata["reward"]
    assert table.metadata["reward_files"] == [None]
    with running(lengths) as server:
        out = tmp_path / "scored.parquet"
        scored = read_rollouts(rescore(ScoreConfig(table=given["out"], reward_funcs=f"{server.url}/score", out=out)))
        assert scored.metadata["reward"] == f"{server.url}/score"
    expected = [len(text) or None for group in table.responses for text in group]
    assert [None if one != one else one for one in scored.rewards.ravel()] == expected


def test_train_loads_them_too(rm: Path) -> None:
    from tailgrad.training.launch import load_rewards

    names = ("revision", "batch_size", "max_length", "dtype", "device", "input_format")
    config: Any = SimpleNamespace(trust_remote_code=False, reward_timeout=3.0)
    with running(Scorer(rm, "vllm")) as server:
        script: Any = SimpleNamespace(reward_model_name_or_path=str(rm), reward_url=server.url)
        for name in names:
            setattr(script, f"reward_{name}", None)
        served, function = load_rewards(script, [str(rm), server.url], config)
    assert isinstance(served, ServedRewardModel)
    assert isinstance(function, HttpReward)


def test_the_key_is_that_of_the_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-this")
    monkeypatch.setenv("REWARD_API_KEY", "sk-this")
    with running(lengths) as server:
        HttpReward(server.url)(prompts=["p"], completions=["a"])
    assert server.keys == {"Bearer sk-this"}


def test_what_is_sent_is_plain_json() -> None:
    with running(lengths) as server:
        HttpReward(server.url)(prompts=CHATS, completions=ANSWERS, answer=[1, None, 2.5, "x", {"a": [1]}])
    assert json.loads(json.dumps(server.seen[0][1]["answer"])) == [1, None, 2.5, "x", {"a": [1]}]


def test_a_served_reward_model_is_known_by_what_it_is_sent(policy: Path) -> None:
    """Not by the server, which may move."""
    known = {}
    with running(lengths) as server, running(lengths) as moved:
        for name, url, options in (
            ("first", server.url, {}),
            ("moved", moved.url, {"batch_size": 2}),
            ("shorter", server.url, {"max_length": 7}),
            ("other format", server.url, {"input_format": "text"}),
        ):
            reward = checked(ServedRewardModel(str(policy), url=url, **options))
            (known[name],) = run_record(ARGS, model="", rewards=[reward], dataset=None, adapter=None)["rewards"]
    assert known["first"] == known["moved"]
    assert len(set(known.values())) == 3
