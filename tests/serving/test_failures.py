"""Failures that happen while requests are under way: each is injected, on loopback, and bounded in number and time."""

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from best_of_n_servers import ASK, Running, Scripted, length, number_of, serving
from tailgrad.serving import BestOfN
from tailgrad.serving.policy import Wish

STUB = Path(__file__).resolve().parent.parent / "stub_backend.py"
CHAT: dict[str, Any] = {"model": "scripted", "messages": ASK, "best_of_n": 2}


@contextmanager
def backend(port: int = 0, seconds: float = 0.1) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A backend in a process of its own."""
    command = [sys.executable, "-S", str(STUB), str(port), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


async def ask(client: httpx2.AsyncClient, url: str, number: int) -> tuple[int, int, str]:
    """Ask a question of its own; its number, the status, and the text."""
    body = {"model": "m", "messages": [{"role": "user", "content": f"question-{number}"}], "best_of_n": 4}
    answer = await client.post(f"{url}/v1/chat/completions", json=body)
    content = answer.json()
    return number, answer.status_code, content["choices"][0]["message"]["content"] if answer.is_success else ""


async def ask_all(url: str, count: int) -> list[tuple[int, int, str]]:
    limits = httpx2.Limits(max_connections=count)
    async with httpx2.AsyncClient(timeout=60.0, limits=limits) as client:
        return await asyncio.gather(*[ask(client, url, number) for number in range(count)])


def until(true: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def count_of(server: Running, status: int) -> int:
    """How many requests have got this status."""
    found = re.search(rf'completions",status="{status}"}} (\d+)', server.service.metrics.text())
    return int(found[1]) if found else 0


def ask_in_threads(server: Running, count: int) -> tuple[list[threading.Thread], list[httpx2.Response]]:
    answers: list[httpx2.Response] = []
    path = f"{server.url}/v1/chat/completions"
    threads = [
        threading.Thread(target=lambda: answers.append(httpx2.post(path, json=CHAT, timeout=20))) for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    return threads, answers


def test_a_backend_that_is_killed_and_restarted_under_load_loses_nothing_in_silence() -> None:
    """200 requests at once: each gets its own answer or a 5xx."""
    options = {"model_name_or_path": "m", "reward_funcs": number_of, "max_active": 16, "max_waiting": 200}
    before = psutil.Process().memory_info().rss
    with backend() as (first, port), serving(base_url=f"http://127.0.0.1:{port}", **options) as server:
        found: list[tuple[int, int, str]] = []
        load = threading.Thread(target=lambda: found.extend(asyncio.run(ask_all(server.url, 200))))
        load.start()
        until(lambda: count_of(server, 200) >= 20)
        first.kill()
        first.wait()
        until(lambda: count_of(server, 502) >= 1)
        with backend(port):
            load.join(60)
            assert asyncio.run(ask_all(server.url, 3)) == [(i, 200, f"question-{i} 3") for i in range(3)]
        assert (server.service.gate.active, server.service.gate.waiting) == (0, 0)
    statuses = Counter(status for _, status, _ in found)
    assert sum(statuses.values()) == 200
    assert set(statuses) == {200, 502}
    assert statuses[200] >= 30
    assert all(text == f"question-{number} 3" for number, status, text in found if status == 200)
    assert psutil.Process().memory_info().rss - before < 200e6


def test_more_than_may_wait_are_sent_away_with_a_time() -> None:
    let_go = threading.Event()

    async def held(count: int) -> list[str]:
        while not let_go.is_set():
            await asyncio.sleep(0.01)
        return ["a"] * count

    best_of_n = BestOfN(Scripted(lambda _, count, __: held(count)), length)
    with serving(best_of_n, max_active=2, max_waiting=6) as server:
        threads, answers = ask_in_threads(server, 40)
        until(lambda: len(answers) == 32, seconds=20)
        let_go.set()
        for thread in threads:
            thread.join(20)
    assert Counter(one.status_code for one in answers) == {200: 8, 503: 32}
    assert all(1 <= int(one.headers["Retry-After"]) <= 60 for one in answers if one.status_code == 503)


async def forever() -> list[str]:
    await asyncio.sleep(60)
    return []


def connect(server: Running) -> socket.socket:
    """Ask, and do not wait for the answer."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    body = json.dumps(CHAT)
    lines = ["POST /v1/chat/completions HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    connection.sendall("\r\n".join([*lines, f"Content-Length: {len(body)}", "", body]).encode())
    return connection


def test_a_client_that_hangs_up_cancels_its_samples() -> None:
    policy = Scripted(lambda *_: forever())
    with serving(BestOfN(policy, length), max_active=1) as server:
        gate = server.service.gate
        first = connect(server)
        until(lambda: policy.begun == 1)
        second = connect(server)
        until(lambda: gate.waiting == 1)
        second.close()
        until(lambda: gate.waiting == 0)
        assert (policy.begun, policy.cancelled) == (1, 0)
        first.close()
        until(lambda: (gate.active, policy.cancelled) == (0, 1))
        until(lambda: count_of(server, 499) == 2)
        assert policy.begun == 1


def test_what_is_cancelled_hangs_up_on_the_backend() -> None:
    async def scene() -> None:
        begun, left = asyncio.Event(), asyncio.Event()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
            else:
                begun.set()
                while await reader.read(1000):
                    pass
                left.set()
            writer.close()

        async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            best_of_n = await asyncio.to_thread(BestOfN, "m", length, base_url=url)
            work = asyncio.ensure_future(best_of_n.best_of_n(ASK, 4))
            await asyncio.wait_for(begun.wait(), 5)
            work.cancel()
            await asyncio.wait_for(left.wait(), 5)
            await best_of_n.aclose()

    asyncio.run(scene())


def test_a_slow_reward_gets_504_and_the_server_goes_on() -> None:
    slow = threading.Event()

    def reward(*, completions: list[Any], **_: Any) -> list[float]:
        if not slow.is_set():
            slow.set()
            time.sleep(2.0)
        return [0.0] * len(completions)

    best_of_n = BestOfN(Scripted(lambda _, count, __: ["a"] * count), reward, reward_timeout=0.5)
    with serving(best_of_n) as server:
        path = f"{server.url}/v1/chat/completions"
        first = httpx2.post(path, json=CHAT)
        assert (first.status_code, first.json()["error"]["code"]) == (504, "timeout")
        assert httpx2.post(path, json=CHAT).status_code == 200


def test_a_request_has_its_time() -> None:
    policy = Scripted(lambda *_: forever())
    with serving(BestOfN(policy, length), max_seconds=0.2) as server:
        answer = httpx2.post(f"{server.url}/v1/chat/completions", json=CHAT)
        assert answer.status_code == 504
        assert policy.cancelled == 1


def test_a_reward_that_fails_is_told_and_the_server_goes_on() -> None:
    def reward(*, completions: list[Any], **_: Any) -> list[float]:
        if completions[0][0]["content"] == "bad":
            raise ZeroDivisionError("of mine")
        return [1.0] * len(completions)

    texts = ["bad", "good"]
    best_of_n = BestOfN(Scripted(lambda _, count, __: [texts.pop(0)] * count), reward)
    with serving(best_of_n) as server:
        answers = [httpx2.post(f"{server.url}/v1/chat/completions", json=CHAT) for _ in range(2)]
    assert [one.status_code for one in answers] == [502, 200]
    assert "ZeroDivisionError" in answers[0].json()["error"]["message"]


def test_what_nobody_foresaw_is_500_without_its_words() -> None:
    def texts(_: Wish, __: int, ___: int) -> list[str]:
        raise LookupError("the secret prompt")

    with serving(BestOfN(Scripted(texts), length)) as server:
        answer = httpx2.post(f"{server.url}/v1/chat/completions", json=CHAT)
        assert (answer.status_code, answer.json()["error"]["type"]) == (500, "server_error")
        assert "secret" not in answer.text
        assert httpx2.get(f"{server.url}/health").status_code == 200


def test_at_its_end_who_is_worked_on_is_answered_and_who_waits_is_sent_away() -> None:
    async def half_a_second(count: int) -> list[str]:
        await asyncio.sleep(0.5)
        return ["a"] * count

    best_of_n = BestOfN(Scripted(lambda _, count, __: half_a_second(count)), length)
    with serving(best_of_n, max_active=1) as server:
        threads, answers = ask_in_threads(server, 3)
        until(lambda: server.service.gate.waiting == 2)
        server.server.end()
        for thread in (*threads, server.thread):
            thread.join(10)
        assert Counter(one.status_code for one in answers) == {200: 1, 503: 2}
        assert {one.headers["Retry-After"] for one in answers if one.status_code == 503} == {"5"}
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"{server.url}/health")


def test_at_its_end_nobody_is_waited_for_longer_than_said() -> None:
    policy = Scripted(lambda *_: forever())
    with serving(BestOfN(policy, length), shutdown_seconds=0.2) as server:
        threads, answers = ask_in_threads(server, 1)
        until(lambda: policy.begun == 1)
        begun = time.monotonic()
        server.server.end()
        for thread in (*threads, server.thread):
            thread.join(10)
        assert time.monotonic() - begun < 4
        assert [one.status_code for one in answers] == [503]
        assert policy.cancelled == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_it_is_told_to_end(tmp_path: Path, number: int) -> None:
    (tmp_path / "words.py").write_text(
        "def words(completions, **columns):\n    return [len(str(c)) for c in completions]\n"
    )
    words = ["--model_name_or_path", "m", "--port", "0", "--reward_funcs", "words.words"]
    with backend() as (_, port):
        words += ["--base_url", f"http://127.0.0.1:{port}"]
        command = [sys.executable, "-m", "tailgrad.cli.main", "serve", *words]
        with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
            try:
                first = json.loads(process.stderr.readline())
                assert first["event"] == "serving"
                found = asyncio.run(ask_all(first["url"].removesuffix("/v1"), 2))
                process.send_signal(number)
                _, log = process.communicate(timeout=30)
            finally:
                process.kill()
    assert found == [(0, 200, "question-0 0"), (1, 200, "question-1 0")]
    assert process.returncode == 0
    events = [json.loads(line) for line in log.splitlines()]
    assert [one["event"] for one in events] == ["request", "request", "ended"]
