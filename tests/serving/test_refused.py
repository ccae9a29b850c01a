"""What is refused, in one line of OpenAI's format: malformed, huge, unsupported requests, wrong keys, other hosts."""

import asyncio
import json
import random
import socket
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from best_of_n_servers import ASK, Running, Scripted, length, serving
from tailgrad.serving import BestOfN, ServeConfig
from tailgrad.serving.errors import ApiError
from tailgrad.serving.keys import KEYS, Keys
from tailgrad.serving.limits import Gate
from tailgrad.serving.requests import ChatRequest, TextRequest, read_request

CONFIG = ServeConfig(model_name_or_path="m", reward_funcs=length, max_n=32, max_tokens=100)
CHAT: dict[str, Any] = {"model": "m", "messages": ASK}


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    best_of_n = BestOfN(Scripted(lambda _, count, __: ["a"] * count), length)
    with serving(best_of_n, model_name_or_path="m", max_body_bytes=2000) as running:
        yield running


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"n": True}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"unheard_of": 1}, "unheard_of"),
        ({"temperature": 0}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"max_tokens": 101}, "max_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
        ({"best_of_n": 33}, "best_of_n"),
        ({"best_of_n": 0}, "best_of_n"),
        ({"best_of_n": 2.5}, "best_of_n"),
        ({"max_price": -1}, "max_price"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": "x", "name": "y"}]}, "messages.0.name"),
        ({"model": "other"}, "model"),
        ({"seed": -1}, "seed"),
        ({"stop": ["a"] * 5}, "stop"),
    ],
)
def test_what_is_not_served_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as told:
        read_request(json.dumps(CHAT | fields).encode(), ChatRequest, CONFIG)
    assert told.value.param.startswith(param)
    assert told.value.status in (400, 404)
    assert "\n" not in told.value.message


def test_what_asks_for_nothing_is_no_harm() -> None:
    neutral = {"n": 1, "logprobs": False, "tools": [], "frequency_penalty": 0, "presence_penalty": 0.0, "stop": None}
    neutral |= {"response_format": {"type": "text"}, "logit_bias": {}, "store": False, "user": "me"}
    assert read_request(json.dumps(CHAT | neutral).encode(), ChatRequest, CONFIG).shaping == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
FIELDS = st.sampled_from([*TextRequest.model_fields, "n", "tools", "echo", "other"])


@settings(deadline=None)
@given(body=st.binary(max_size=60) | st.dictionaries(FIELDS, JSON, max_size=6).map(json.dumps).map(str.encode))
def test_any_bytes_are_a_request_or_one_line(body: bytes) -> None:
    for kind in (ChatRequest, TextRequest):
        told = ApiError(400, "nothing")
        try:
            assert read_request(body, kind, CONFIG).model == "m"
        except ApiError as error:
            told = error
        assert told.status in (400, 404)
        assert "\n" not in told.message
        assert len(told.message) < 500


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b"[" * 1000, b'{"a":' * 300, b'{"model": NaN}', b"1" * 1000],
)
def test_what_is_malformed_gets_400_and_the_server_goes_on(server: Running, body: bytes) -> None:
    answer = httpx2.post(
        f"{server.url}/v1/chat/completions", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert httpx2.post(f"{server.url}/v1/chat/completions", json=CHAT).status_code == 200


def test_what_is_too_large_is_not_read(server: Running) -> None:
    path = f"{server.url}/v1/chat/completions"
    assert httpx2.post(path, json=CHAT | {"user": "x" * 3000}).status_code == 413

    def endless() -> Iterator[bytes]:
        for _ in range(100_000):
            yield b"x" * 1000

    try:
        status = httpx2.post(path, content=endless(), headers={"Content-Type": "application/json"}).status_code
    except httpx2.HTTPError:
        status = 413  # it hung up before we were done
    assert status == 413
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        lines = ["POST /v1/completions HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
        connection.sendall("\r\n".join([*lines, "Content-Length: 99999999999", "", ""]).encode())
        assert b" 413 " in connection.recv(1000)


def test_random_bytes_do_not_end_the_server(server: Running) -> None:
    draw = random.Random(0)
    for _ in range(30):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.sendall(draw.randbytes(draw.randrange(1, 200)) + b"\r\n\r\n")
    assert httpx2.get(f"{server.url}/health").status_code == 200


def test_a_web_page_of_another_site_cannot_ask(server: Running) -> None:
    path = f"{server.url}/v1/chat/completions"
    as_form = httpx2.post(path, content=json.dumps(CHAT), headers={"Content-Type": "text/plain"})
    assert as_form.status_code == 415
    rebound = httpx2.post(path, json=CHAT, headers={"Host": "evil.example"})
    assert rebound.status_code == 421
    for host in ("127.0.0.1", "127.0.0.2:80", "LOCALHOST:80", "[::1]:80"):
        assert httpx2.post(path, json=CHAT | {"best_of_n": 1}, headers={"Host": host}).status_code == 200
    for host in ("128.0.0.1", "localhost.evil.example", "[::2]:80", "evil.example:127.0.0.1", "", "127.0.0.1.evil"):
        assert httpx2.post(path, json=CHAT | {"best_of_n": 1}, headers={"Host": host}).status_code == 421, host
    asked_first = httpx2.request("OPTIONS", path, headers={"Origin": "http://evil.example"})
    assert "access-control-allow-origin" not in asked_first.headers


def test_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEYS, "first-key-of-them, second-key-of-them")
    with serving(BestOfN(Scripted(lambda *_: ["a"]), length), model_name_or_path="m", n=1) as server:
        for path in ("/v1/chat/completions", "/v1/completions", "/v1/models", "/metrics"):
            method = "POST" if "completions" in path else "GET"
            for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "first-key-of-them"}):
                answer = httpx2.request(method, server.url + path, headers=header)
                assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        header = {"Authorization": "Bearer second-key-of-them"}
        assert httpx2.post(f"{server.url}/v1/chat/completions", json=CHAT, headers=header).status_code == 200
        assert httpx2.get(f"{server.url}/health").status_code == 200


def test_beyond_this_machine_a_key_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEYS, raising=False)
    wide = {"model_name_or_path": "m", "reward_funcs": length, "host": "0.0.0.0"}
    with pytest.raises(ValueError, match=KEYS):
        Keys(ServeConfig(**wide))
    Keys(ServeConfig(**wide, allow_no_key=True))
    monkeypatch.setenv(KEYS, "short")
    with pytest.raises(ValueError, match="characters"):
        Keys(ServeConfig(**wide))
    monkeypatch.setenv(KEYS, "one-that-is-long-enough")
    Keys(ServeConfig(**wide))


@pytest.mark.parametrize(
    "fields",
    [{"n": 0}, {"n": 200}, {"max_waiting": -1}, {"port": 70000}, {"max_seconds": 0}, {"temperature": 0}, {"max_n": 0}],
)
def test_options_out_of_range(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="|".join(fields)):
        ServeConfig(model_name_or_path="m", reward_funcs=length, **fields)


def test_lines_of_clients_take_turns() -> None:
    order: list[str] = []

    async def ask(gate: Gate, client: str) -> None:
        async with gate.turn(client):
            order.append(client)
            await asyncio.sleep(0.001)

    async def all_of_them() -> None:
        gate = Gate(1, 20)
        await asyncio.gather(*[ask(gate, client) for client in "aaaaaabbc"])
        assert (gate.active, gate.waiting) == (0, 0)

    asyncio.run(all_of_them())
    assert "".join(order) == "aabcabaaa"


def test_a_full_line_gives_way_to_a_shorter_one() -> None:
    told: list[tuple[str, int]] = []
    waits: list[int] = []

    async def ask(gate: Gate, client: str) -> None:
        try:
            async with gate.turn(client):
                await asyncio.sleep(0.01)
                told.append((client, 200))
        except ApiError as error:
            waits.append(int(error.headers["Retry-After"]))
            told.append((client, error.status))

    async def all_of_them() -> None:
        gate = Gate(1, 4)
        await asyncio.gather(*[ask(gate, client) for client in "aaaaaaabbb"])

    asyncio.run(all_of_them())
    assert told.count(("a", 503)) == 2  # five of a are let in or wait, which is all there is room for
    assert told.count(("a", 429)) == 2  # of whose four that wait two give way to b's first two
    assert told.count(("b", 503)) == 1  # and then both lines are two long
    assert (told.count(("a", 200)), told.count(("b", 200))) == (3, 2)
    assert min(waits) >= 1


def test_who_leaves_the_line_takes_no_turn() -> None:
    async def scene() -> None:
        gate = Gate(1, 10)

        async def ask(seconds: float) -> None:
            async with gate.turn("a"):
                await asyncio.sleep(seconds)

        works = [asyncio.ensure_future(ask(0.01)) for _ in range(5)]
        await asyncio.sleep(0)
        works[2].cancel()
        works[0].cancel()
        await asyncio.gather(*works, return_exceptions=True)
        assert [work.cancelled() for work in works] == [True, False, True, False, False]
        assert (gate.active, gate.waiting) == (0, 0)

    asyncio.run(scene())
