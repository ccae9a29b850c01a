"""The server, asked by the official client, sync and async."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
import torch

from best_of_n_servers import ASK, Scripted, length, number_of, serving
from local_servers import OpenAI, running
from tailgrad.serving import BestOfN, FixedBudget, prior_of, service
from tailgrad.serving.policy import Wish

CLIENT = {"api_key": "none", "max_retries": 0, "timeout": 20.0}


def numbered(_: Wish, count: int, first: int) -> list[str]:
    return [f"text  {number}\n" for number in range(first, first + count)]


def test_a_policy_here_answers_the_official_client(chat_policy: Path) -> None:
    options = {"model_name_or_path": str(chat_policy), "reward_funcs": length, "max_completion_length": 6}
    with serving(**options, n=8, served_model_name="tiny") as server:
        with openai.OpenAI(base_url=f"{server.url}/v1", **CLIENT) as client:
            assert [model.id for model in client.models.list()] == ["tiny"]
            more: dict[str, Any] = {"best_of_n": 12, "return_candidates": True}
            chat = client.chat.completions.create(model="tiny", messages=ASK, seed=1, extra_body=more)
            text = client.completions.create(model="tiny", prompt="one two", max_tokens=3)
        extras = chat.tailgrad
        assert (extras["best_of_n"], extras["asked"], extras["scored"]) == (12, 12, 12)
        best = max(extras["candidates"], key=lambda one: one["reward"])  # the first of equal ones
        assert (chat.choices[0].message.content, extras["reward"]) == (best["text"], best["reward"])
        assert chat.choices[0].finish_reason == best["finish_reason"]
        assert 12 <= chat.usage.completion_tokens <= 72
        assert chat.usage.total_tokens == chat.usage.prompt_tokens + chat.usage.completion_tokens
        assert text.tailgrad["asked"] == 8
        assert "candidates" not in text.tailgrad
        assert text.usage.completion_tokens <= 24


def test_usage_counts_all_samples() -> None:
    best_of_n = BestOfN(Scripted(numbered), number_of)
    with serving(best_of_n) as server, openai.OpenAI(base_url=f"{server.url}/v1", **CLIENT) as client:
        found = client.chat.completions.create(model="scripted", messages=ASK, extra_body={"best_of_n": 5})
        assert (found.usage.prompt_tokens, found.usage.completion_tokens, found.usage.total_tokens) == (2, 15, 17)


def test_a_policy_behind_a_server_answers_the_async_client() -> None:
    async def ask(url: str) -> list[Any]:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", **CLIENT) as client:
            asks = [
                client.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": f"question {i}"}], extra_body={"best_of_n": 4}
                )
                for i in range(12)
            ]
            return await asyncio.gather(*asks)

    with (
        running(OpenAI()) as backend,
        serving(model_name_or_path="m", base_url=backend.url, reward_funcs=number_of) as server,
    ):
        found = asyncio.run(ask(server.url))
        assert all(one.choices[0].message.content.endswith("3") for one in found)
        assert len({one.id for one in found}) == 12
        assert all(one.usage is None for one in found)  # the stub does not count the prompt's


@pytest.mark.parametrize("usage", [True, False])
def test_the_winner_is_streamed(usage: bool) -> None:
    best_of_n = BestOfN(Scripted(numbered), number_of)
    with serving(best_of_n) as server, openai.OpenAI(base_url=f"{server.url}/v1", **CLIENT) as client:
        more = {"stream_options": {"include_usage": True}} if usage else {}
        ask: dict[str, Any] = {"model": "scripted", "stream": True, "extra_body": {"best_of_n": 3}, **more}
        chunks = list(client.chat.completions.create(messages=ASK, **ask))
        texts = list(client.completions.create(prompt="one", **ask))
        pieces = [one.choices[0].delta.content for one in chunks if one.choices and one.choices[0].delta.content]
        assert "".join(pieces) == "text  2\n"
        assert len(pieces) > 1
        assert chunks[0].choices[0].delta.role == "assistant"
        ends = [one.choices[0].finish_reason for one in chunks if one.choices]
        assert ends[-1] == "stop"
        assert set(ends[:-1]) == {None}
        assert [one.tailgrad["reward"] for one in chunks if "tailgrad" in one.model_extra] == [2.0]
        assert [one.usage.completion_tokens for one in chunks if one.usage] == ([9] if usage else [])
        assert "".join(one.choices[0].text for one in texts if one.choices) == "text  2\n"


def test_messages_reach_the_policy_as_they_are() -> None:
    policy = Scripted(numbered)
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    chat = [{"role": "system", "content": "three"}, {"role": "user", "content": parts}]
    with serving(BestOfN(policy, number_of)) as server:
        ask = {"temperature": 0.5, "top_p": 0.9, "top_k": -1, "min_p": 0.1, "max_completion_tokens": 7, "seed": 4}
        body = {"model": "scripted", "messages": chat, "stop": "x", "n": 1, "tools": None, "user": "me", **ask}
        assert httpx2.post(f"{server.url}/v1/chat/completions", json=body).status_code == 200
    wish = policy.wishes[0][0]
    assert wish.prompt == [{"role": "system", "content": "three"}, {"role": "user", "content": "one two"}]
    assert wish.shaping == {"temperature": 0.5, "top_p": 0.9, "top_k": 0, "min_p": 0.1, "max_new_tokens": 7}
    assert (wish.seed, wish.stop) == (4, ("x",))


def test_reward_columns_reach_the_reward() -> None:
    def is_answer(*, completions: list[str], answer: list[str], **_: Any) -> list[float]:
        return [float(text.strip() == wanted) for text, wanted in zip(completions, answer, strict=True)]

    with serving(BestOfN(Scripted(numbered), is_answer)) as server:
        ask = {"model": "scripted", "prompt": "one", "reward_columns": {"answer": "text  2"}}
        assert httpx2.post(f"{server.url}/v1/completions", json=ask).json()["tailgrad"]["reward"] == 1.0
        told = httpx2.post(f"{server.url}/v1/completions", json={**ask, "reward_columns": {}})
        assert (told.status_code, told.json()["error"]["param"]) == (400, "reward_columns")


def test_a_price_chooses_the_rule_that_weighs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def rule(price: float, most: int, _: object) -> FixedBudget:
        asked.append((price, most))
        return FixedBudget(2)

    monkeypatch.setattr(service, "adaptive", rule)
    with serving(BestOfN(Scripted(numbered), number_of), max_price=0.5, n=9) as server:
        ask = {"model": "scripted", "prompt": "one"}
        for more in ({}, {"max_price": 0.25, "best_of_n": 7}):
            found = httpx2.post(f"{server.url}/v1/completions", json=ask | more).json()
            assert found["tailgrad"]["asked"] == 2
    assert asked == [(0.5, 9), (0.25, 7)]


def test_a_price_stops_early_and_a_table_of_other_prompts_is_its_prior(tmp_path: Path) -> None:
    drawn = np.random.default_rng(0).normal(size=(24, 16)).round(6)
    table = tmp_path / "others.jsonl"
    rows = [{"prompt": f"prompt {i}", "reward": reward} for i, row in enumerate(drawn.tolist()) for reward in row]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def texts(_: Wish, count: int, first: int) -> list[str]:
        return [f"{reward}" for reward in np.random.default_rng(1).normal(size=128)[first : first + count]]

    asked = {}
    with serving(BestOfN(Scripted(texts), number_of), prior_table=str(table)) as server:
        for price in (0.003, 0.03, 0.3):
            ask = {"model": "scripted", "prompt": "one", "best_of_n": 128, "max_price": price}
            asked[price] = httpx2.post(f"{server.url}/v1/completions", json=ask).json()["tailgrad"]["asked"]
    assert 128 >= asked[0.003] > asked[0.03] >= asked[0.3] == 8
    rule = service.adaptive(0.03, 128, prior_of(torch.tensor(drawn)))
    rewards = torch.tensor([float(text) for text in texts(Wish("one"), asked[0.03], 0)], dtype=torch.float64)
    assert rule.more(rewards) == 0 < rule.more(rewards[:0])


def test_health_models_and_metrics(capfd: pytest.CaptureFixture[str]) -> None:
    policy = Scripted(lambda _, count, first: [None, *numbered(_, count - 1, first)])
    with serving(BestOfN(policy, number_of)) as server:
        assert httpx2.get(f"{server.url}/health").json() == {"status": "ok"}
        ask = {"model": "scripted", "prompt": "the secret prompt", "best_of_n": 4}
        assert httpx2.post(f"{server.url}/v1/completions", json=ask).json()["tailgrad"]["failed"] == 1
        assert httpx2.post(f"{server.url}/v1/completions", json={**ask, "model": "other"}).status_code == 404
        lines = httpx2.get(f"{server.url}/metrics").text.splitlines()
    for line in (
        'tailgrad_requests_total{path="/v1/completions",status="200"} 1',
        'tailgrad_requests_total{path="/v1/completions",status="404"} 1',
        'tailgrad_samples_total{outcome="scored"} 3',
        'tailgrad_samples_total{outcome="failed"} 1',
        'tailgrad_tokens_total{kind="completion"} 9',
        "tailgrad_active_requests 0",
        'tailgrad_request_seconds_bucket{le="+Inf"} 2',
    ):
        assert line in lines
    log = capfd.readouterr().err
    assert "secret" not in log
    assert "text" not in log
    first, second = (json.loads(line) for line in log.splitlines())
    assert (first["status"], first["scored"], first["failed"], first["usage"]["completion_tokens"]) == (200, 3, 1, 9)
    assert (second["status"], second["error"]) == (404, "model_not_found")


@pytest.mark.parametrize("asked", [True, False])
def test_prompts_are_logged_only_when_asked_for(asked: bool, capfd: pytest.CaptureFixture[str]) -> None:
    """Nor is what a reward says of its failure, which quotes them here."""

    def reward(*, completions: list[Any], **_: Any) -> list[float]:
        if len(completions) < 8:  # not the first batch
            raise ValueError(f"cannot score {completions}")
        return number_of(completions=completions)

    body = {"model": "scripted", "prompt": "a\nsecret", "best_of_n": 16, "max_price": 1e-9}
    with serving(BestOfN(Scripted(numbered), reward), log_prompts=asked) as server:
        told = httpx2.post(f"{server.url}/v1/completions", json=body).json()["tailgrad"]
    assert (told["asked"], told["scored"]) == (12, 8)
    assert "cannot score ['text  8" in told["reasons"][0]
    (line,) = capfd.readouterr().err.splitlines()  # nobody writes a line of his own into it
    logged = json.loads(line)
    assert logged["unscored"] == 4
    if asked:
        assert (logged["prompt"], logged["winner"]) == ("a\nsecret", "text  7\n")
        assert logged["reasons"] == told["reasons"]
    else:
        assert "secret" not in line
        assert "text" not in line


def test_what_is_no_request_gets_an_error_of_openai(chat_policy: Path) -> None:
    with serving(BestOfN(Scripted(numbered), length)) as server:
        with openai.OpenAI(base_url=f"{server.url}/v1", **CLIENT) as client:
            with pytest.raises(openai.NotFoundError, match="is not served here"):
                client.completions.create(model="gpt", prompt="one")
            with pytest.raises(openai.BadRequestError, match="best_of_n") as told:
                client.completions.create(model="scripted", prompt="one", n=2)
            assert (told.value.param, told.value.code) == ("n", "unsupported_parameter")
        assert httpx2.get(f"{server.url}/v1/nothing").json()["error"]["type"] == "invalid_request_error"
        assert httpx2.get(f"{server.url}/v1/completions").status_code == 405
