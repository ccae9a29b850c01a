"""Best of N as a call, of a policy or a reward behind a server."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from best_of_n_servers import ASK, Make, Scripted, length, number_of, numbered
from local_servers import Answer, OpenAI, running
from tailgrad.models.server import RefusedError
from tailgrad.serving import NoWinnerError


def test_a_policy_behind_a_server(make: Make) -> None:
    with running(OpenAI()) as server:
        best_of_n = make("m", number_of, base_url=server.url, temperature=0.7)
        found = best_of_n(ASK, 40, seed=5)
        assert found.text.endswith("39")
        assert sorted(int(one.text.split()[-1]) for one in found.candidates) == list(range(40))
        asked = sorted((path, body["n"], body["seed"], body["temperature"]) for path, body in server.seen)
        assert asked == [("/v1/chat/completions", 8, 37, 0.7), ("/v1/chat/completions", 32, 5, 0.7)]
        assert best_of_n("one", 3, max_new_tokens=7, stop=("x",)).asked == 3
        path, body = server.seen[-1]
        assert (path, body["prompt"], body["max_tokens"], body["stop"]) == ("/v1/completions", "one", 7, ["x"])


@pytest.mark.parametrize("n", ["one", "refused"])
def test_a_server_that_gives_one_response_at_a_time(make: Make, n: str) -> None:
    with running(OpenAI(n=n, unknown=("top_k", "min_p"))) as server:
        best_of_n = make("m", number_of, base_url=server.url)
        assert best_of_n("one", 12).text.endswith("11")
        before = len(server.seen)
        assert best_of_n("two", 12).text.endswith("11")
        assert len(server.seen) - before == 12  # it is known by then


def test_a_request_that_fails_loses_no_more_than_its_own_samples(make: Make) -> None:
    stub, failing = OpenAI(), threading.Lock()

    def answer(path: str, body: Any) -> Answer:
        return (503, {"error": "busy"}) if body.get("n") == 8 and failing else stub(path, body)

    with running(answer) as server:
        found = make("m", number_of, base_url=server.url)("one", 72)
    assert (found.asked, found.scored, found.failed) == (72, 64, 8)
    assert found.text.endswith("63")
    assert "503" in found.reasons[0]


def test_a_failure_that_passes_costs_nothing(make: Make) -> None:
    stub, left = OpenAI(), [503, 0]

    def answer(path: str, body: Any) -> Answer:
        return (left.pop(), {}) if left else stub(path, body)

    with running(answer) as server:
        assert make("m", number_of, base_url=server.url)("one", 4).scored == 4


def test_a_server_that_refuses_or_is_gone_is_told_apart(make: Make) -> None:
    answers = [(400, {"error": {"message": "the prompt is too long"}})]
    with running(lambda *_: answers[-1]) as server:
        best_of_n = make("m", number_of, base_url=server.url)
        with pytest.raises(RefusedError, match="too long"):
            best_of_n("one", 4)
        answers.append((0, {}))
        with pytest.raises(NoWinnerError, match="connection failed"):
            best_of_n("one", 4)


def test_the_key_is_sent_and_told_to_nobody(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "the-secret-key")
    with running(lambda *_: (401, {"error": "wrong key the-secret-key"})) as server:
        with pytest.raises(NoWinnerError) as told:
            make("m", number_of, base_url=server.url)("one", 2)
        assert server.keys == {"Bearer the-secret-key"}
    assert "the-secret-key" not in str(told.value)


def test_a_reward_whose_server_was_down_is_asked_again(make: Make, quick: list[str]) -> None:
    left = [500] * 8

    def answer(_: str, body: Any) -> Answer:
        return (left.pop(), {}) if left else (200, {"rewards": [float(len(text)) for text in body["completions"]]})

    with running(answer) as server:
        best_of_n = make(Scripted(numbered), server.url)
        with pytest.raises(NoWinnerError, match="500"):
            best_of_n("one", 2)
        left.clear()
        assert best_of_n("one", 11).text == "text 10"


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("n", "most"), [("many", 32), ("refused", 70), ("one", 70)])
def test_a_prompt_that_is_refused_costs_few_requests(make: Make, known: bool, n: str, most: int) -> None:
    """Of 128 samples; one by one as many as are sent at once."""
    stub = OpenAI() if n == "many" else OpenAI(n=n)

    def answer(path: str, body: Any) -> Answer:
        too_long = body["prompt"].startswith("long")
        return (400, {"error": {"message": "maximum context length is 10 tokens"}}) if too_long else stub(path, body)

    with running(answer) as server:
        best_of_n = make("m", number_of, base_url=server.url)
        if known:
            best_of_n("one", 128)
        before = len(server.seen)
        with pytest.raises(RefusedError, match="context length"):
            best_of_n("long", 128)
        assert len(server.seen) - before <= most
        assert best_of_n("one", 128).scored == 128


def limited(most: Callable[[str, Any], int]) -> Callable[[str, Any], Answer]:
    """A server that refuses more than so many at once, in words that name no field."""
    stub = OpenAI()
    return lambda path, body: (422, {"error": "too many"}) if body.get("n", 1) > most(path, body) else stub(path, body)


def test_a_server_that_gives_so_many_at_once_is_asked_for_so_many(make: Make) -> None:
    with running(limited(lambda *_: 8)) as server:
        best_of_n = make("m", number_of, base_url=server.url)
        assert best_of_n("one", 16).scored == 16
        assert [body["n"] for _, body in server.seen] == [16, 8, 8]
        assert best_of_n("one", 32).scored == 32
        assert [body["n"] for _, body in server.seen[3:]] == [8, 8, 8, 8]


@pytest.mark.parametrize("first", ["more tokens", "less tokens"])
def test_a_limit_of_samples_times_tokens_is_that_of_a_request(make: Make, first: str) -> None:
    with running(limited(lambda _, body: 1600 // body["max_tokens"])) as server:
        best_of_n = make("m", number_of, base_url=server.url)
        sizes = (1000, 100) if first == "more tokens" else (100, 1000)
        for size in (*sizes, *sizes):
            assert best_of_n("one", 16, max_new_tokens=size).scored == 16


def test_what_chats_take_prompts_may_not(make: Make) -> None:
    with running(limited(lambda path, _: 32 if "chat" in path else 1)) as server:
        best_of_n = make("m", number_of, base_url=server.url)
        for prompt in (ASK, "one", ASK, "one"):
            assert best_of_n(prompt, 16).scored == 16


def test_what_a_request_with_top_k_takes_one_without_may_not(make: Make) -> None:
    stub = OpenAI()

    def answer(path: str, body: Any) -> Answer:
        return (422, {"error": "a value is out of range"}) if body.get("top_k", 1) < 0 else stub(path, body)

    with running(answer) as server:
        best_of_n = make("m", number_of, base_url=server.url)
        assert best_of_n("one", 2, top_k=5).scored == 2
        assert best_of_n("one", 2).scored == 2


def test_half_a_pair_of_surrogates_in_an_error_costs_no_samples(make: Make) -> None:
    stub = OpenAI()

    def answer(path: str, body: Any) -> Answer:
        return (500, {"error": "half \ud800"}) if body["n"] == 8 else stub(path, body)

    with running(answer) as server:
        found = make("m", number_of, base_url=server.url)("one", 40)
    assert (found.scored, found.failed) == (32, 8)
    assert "half \ufffd" in found.reasons[0]


def test_what_one_request_did_without_another_that_asks_for_it_is_refused(make: Make) -> None:
    with running(OpenAI(unknown=("top_k",))) as server:
        best_of_n = make("m", number_of, base_url=server.url)
        assert best_of_n("one", 4).scored == 4  # top_k is off, and left out
        with pytest.raises(RefusedError, match="top_k"):
            best_of_n("one", 4, top_k=5)
        assert best_of_n("one", 4).scored == 4


def test_what_a_server_keeps_apart_is_said_and_half_a_pair_of_surrogates_is_a_text(make: Make) -> None:
    message = {"role": "assistant", "content": "a \ud800 b", "reasoning_content": "long thoughts"}
    choice = {"message": message, "finish_reason": "stop"}
    with running(lambda _, body: (200, {"choices": [choice] * body["n"]})) as server:
        found = make("m", length, base_url=server.url)(ASK, 2)
    assert found.text == "a \ufffd b"
    assert "keeps reasoning_content apart" in found.notes[0]
    assert (found.reasons, found.scored) == ((), 2)
