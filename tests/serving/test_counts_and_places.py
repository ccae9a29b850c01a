"""What is counted whatever comes of a request, and what becomes of requests and connections beyond the limits."""

import json
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from best_of_n_servers import ASK, Running, Scripted, length, number_of, numbered, serving
from tailgrad.serving import BestOfN, connections, run
from tailgrad.serving.metrics import Metrics

CHAT: dict[str, Any] = {"model": "scripted", "messages": ASK}


def ask(server: Running, **fields: Any) -> httpx2.Response:
    return httpx2.post(f"{server.url}/v1/chat/completions", json=CHAT | fields, timeout=20)


def counted(server: Running) -> dict[str, int]:
    """Samples by outcome, and tokens by kind."""
    text = server.service.metrics.text()
    return {kind: int(n) for kind, n in re.findall(r'(?:samples|tokens)_total{\w+="(\w+)"} (\d+)', text)}


def until(true: Any, seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_samples_of_a_request_without_an_answer_are_counted_and_the_log_can_say_why(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def broken(*, completions: list[Any], **_: Any) -> list[float]:
        raise RuntimeError("the disk is gone")

    for prompts in (True, False):
        with serving(BestOfN(Scripted(numbered), broken), n=16, log_prompts=prompts) as server:
            assert ask(server).status_code == 502
            assert counted(server) == {"scored": 0, "unscored": 16, "failed": 0, "prompt": 2, "completion": 48}
        line = json.loads(capfd.readouterr().err.splitlines()[-1])
        assert ("the disk is gone" in line.get("message", "")) == prompts
        assert line["error"] == "no_winner"
    with serving(BestOfN(Scripted(lambda _, count, __: [None] * count), length), n=16) as server:
        assert ask(server).status_code == 502
        assert counted(server)["failed"] == 16


def test_batches_before_a_failure_are_counted_once() -> None:
    calls: list[int] = []

    def second(*, completions: list[Any], **_: Any) -> list[float]:
        calls.append(len(completions))
        if len(calls) > 1:
            raise RuntimeError
        return [float(i % 5) + i / 100 for i in range(len(completions))]

    with serving(BestOfN(Scripted(numbered), second)) as server:
        extras = ask(server, best_of_n=64, max_price=1e-6).json()["tailgrad"]
        assert calls == [8, 4]
        found = counted(server)
        assert (found["scored"], found["unscored"], found["failed"]) == (8, 4, 0)
        assert (extras["scored"], extras["unscored"], extras["asked"]) == (8, 4, 12)


@pytest.mark.parametrize("leaves", [True, False])
def test_what_was_sampled_for_who_left_or_ran_out_of_time_is_counted(leaves: bool) -> None:
    goes_on = threading.Event()

    def slow(*, completions: list[Any], **_: Any) -> list[float]:
        goes_on.wait(10)
        return [1.0] * len(completions)

    body = json.dumps(CHAT | {"best_of_n": 16}).encode()
    with serving(BestOfN(Scripted(numbered), slow), max_seconds=20.0 if leaves else 0.2) as server:
        if leaves:
            connection = open_connection(server, body, len(body))
            time.sleep(0.1)
            connection.close()
        else:
            assert ask(server, best_of_n=16).status_code == 504
        until(lambda: counted(server).get("unscored") == 16)
        assert counted(server)["completion"] == 48
        goes_on.set()


def test_a_counter_is_exact_however_large() -> None:
    metrics = Metrics({})
    metrics.count("tailgrad_tokens_total", 123_456_789_012, kind="completion")
    metrics.count("tailgrad_tokens_total", 1, kind="completion")
    assert 'tailgrad_tokens_total{kind="completion"} 123456789013\n' in metrics.text()
    for _ in range(3):
        metrics.took(1234567.875)
    assert "tailgrad_request_seconds_sum 3703703.625\n" in metrics.text()


@pytest.mark.parametrize("stream", [False, True])
def test_a_price_beyond_all_measure_is_an_answer(stream: bool) -> None:
    with serving(BestOfN(Scripted(numbered), number_of)) as server:
        answer = ask(server, best_of_n=64, max_price=1e308, return_candidates=True, stream=stream)
        assert answer.status_code == 200
        last = answer.text.split("data: ")[-2] if stream else answer.text
        extras = json.loads(last)["tailgrad"]
    assert (extras["asked"], extras["next_batch"]) == (8, None)


@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_told_is_500_in_log_and_metrics_too(stream: bool, capfd: pytest.CaptureFixture[str]) -> None:
    texts = Scripted(lambda _, count, __: ["half a pair: \ud800"] * count)
    with serving(BestOfN(texts, length)) as server:
        assert ask(server, stream=stream).status_code == 500
        assert 'status="500"} 1' in server.service.metrics.text()
    assert '"status": 500' in capfd.readouterr().err


def open_connection(server: Running, body: bytes, length_said: int) -> socket.socket:
    """Begin a request whose body has a length; send a part of it."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {length_said}\r\n\r\n".encode() + body)
    return connection


def test_a_client_that_hangs_up_while_it_sends_is_499_without_a_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    with serving(BestOfN(Scripted(numbered), length)) as server:
        open_connection(server, b'{"model":', 1000).close()
        until(lambda: 'status="499"} 1' in server.service.metrics.text())
        assert ask(server, best_of_n=1).status_code == 200
    assert "Traceback" not in capfd.readouterr().err


def test_idle_connections_keep_nobody_out_and_requests_beyond_the_places_are_told_when_to_come_back() -> None:
    with ExitStack() as held, serving(BestOfN(Scripted(numbered), length), max_active=1, max_waiting=1) as server:
        for _ in range(100):
            held.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        assert ask(server, best_of_n=1).status_code == 200
        for _ in range(server.service.gate.places):
            held.enter_context(open_connection(server, b"{", 1000))
        until(lambda: server.service.gate._inside == server.service.gate.places)
        answer = ask(server, best_of_n=1)
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "overloaded"
        assert int(answer.headers["Retry-After"]) >= 1
        held.close()
        until(lambda: server.service.gate._inside == 0)
        assert ask(server, best_of_n=1).status_code == 200


def test_a_connection_on_which_nothing_is_asked_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "KEEP_ALIVE", 1)
    with serving(BestOfN(Scripted(numbered), length)) as server:
        begun = time.monotonic()
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as idle:
            assert idle.recv(1) == b""
        assert 0.5 < time.monotonic() - begun < 4
        assert ask(server, best_of_n=1).status_code == 200


FEW_FILES = """
import resource, socket, sys, time, httpx2
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 400))
sys.path.insert(0, sys.argv[1])
from best_of_n_servers import ASK, Scripted, length, numbered, serving
from tailgrad.serving import BestOfN, connections, run
import subprocess
with serving(BestOfN(Scripted(numbered), length), max_active=1, max_waiting=1, concurrency=8) as server:
    idle = subprocess.Popen([sys.executable, "-c", CLIENT, str(server.port)], stdout=subprocess.PIPE, text=True)
    idle.stdout.readline()
    body = {"model": "scripted", "messages": ASK, "best_of_n": 1}
    try:
        print(httpx2.post(f"{server.url}/v1/chat/completions", json=body, timeout=10).status_code)
    except (httpx2.NetworkError, httpx2.RemoteProtocolError):
        print("closed")
    finally:
        idle.kill()
    time.sleep(0.2)
    print(httpx2.post(f"{server.url}/v1/chat/completions", json=body, timeout=10).status_code)
"""
CLIENT = """
import resource, socket, sys, time
held = []
for _ in range(600):
    try:
        held.append(socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=2))
    except OSError:  # closed at once
        pass
time.sleep(0.5)
print("held", flush=True)
time.sleep(30)
"""


def test_too_few_files_for_the_requests_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_open_files", lambda: 1000)
    held, waiting = connections.most_connections(352, 64)
    assert held + waiting + 64 <= 1000 - 64
    assert held >= 352
    with pytest.raises(ValueError, match=r"may open 1000 files \(ulimit -n\), too few for 900 requests and 64 to"):
        connections.most_connections(900, 64)


def test_more_connections_than_files_are_closed_and_the_server_goes_on() -> None:
    """A process that may open 400 files, and 600 connections: no flood of errors."""
    code = f"CLIENT = {CLIENT!r}\n{FEW_FILES}"
    where = str(Path(__file__).resolve().parent.parent)
    done = subprocess.run([sys.executable, "-c", code, where], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() in (["closed", "200"], ["503", "200"]), done.stderr[-2000:]
    assert "Traceback" not in done.stderr


def test_clients_that_hang_up_while_a_reward_is_slow_leave_no_threads() -> None:
    goes_on, begun = threading.Event(), threading.Event()

    def stuck(*, completions: list[Any], **_: Any) -> list[float]:
        begun.set()
        goes_on.wait(10)
        return [1.0] * len(completions)

    body = json.dumps(CHAT | {"best_of_n": 1}).encode()
    with serving(BestOfN(Scripted(numbered), stuck), max_active=4) as server:
        open_connection(server, body, len(body)).close()
        assert begun.wait(5)
        until(lambda: 'status="499"} 1' in server.service.metrics.text())
        before = threading.active_count()
        for number in range(2, 42):
            open_connection(server, body, len(body)).close()
            until(lambda number=number: f'status="499"}} {number}' in server.service.metrics.text())
        assert threading.active_count() <= before
        goes_on.set()
        assert ask(server, best_of_n=1).status_code == 200


@pytest.mark.parametrize(
    ("columns", "status"), [({"self": 1}, 200), ({"answer": 1}, 200), ({"prompts": 1}, 400), ({"call": 1}, 200)]
)
def test_a_column_may_have_any_name_that_is_not_taken(columns: dict[str, Any], status: int) -> None:
    with serving(BestOfN(Scripted(numbered), number_of)) as server:
        assert ask(server, best_of_n=2, reward_columns=columns).status_code == status


def test_a_column_that_a_reward_does_not_take_is_refused_before_anything_is_sampled() -> None:
    def strict(prompts: list[Any], completions: list[Any], answer: Any = None, completion_ids: Any = None) -> Any:
        return [1.0] * len(completions)

    policy = Scripted(numbered)
    with serving(BestOfN(policy, strict)) as server:
        refused = ask(server, reward_columns={"answr": 1})
        assert refused.status_code == 400
        assert "'strict' does not take 'answr'" in refused.json()["error"]["message"]
        assert policy.wishes == []
        assert ask(server, reward_columns={"answer": 1}, best_of_n=2).status_code == 200


def test_n_may_be_any_whole_number() -> None:
    best_of_n = BestOfN(Scripted(numbered), number_of)
    assert best_of_n("one", np.int64(3)).asked == 3
    with pytest.raises(ValueError, match="n is 0"):
        best_of_n("one", np.int64(0))
    best_of_n.close()
