"""A local HTTP server whose answers a test decides, and an OpenAI-compatible one with every habit that servers have."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tailgrad.models import server as of_server
from tailgrad.models.breaker import Breaker

Answer = tuple[int, Any] | tuple[int, Any, dict[str, str]]


class LocalServer(ThreadingHTTPServer):
    """Answers `answer(path, body)` to every POST, and 200 to every GET; `seen` has what it was sent.

    An answer is a status and JSON, or bytes as they are, and headers.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer: Callable[[str, Any], Answer], port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.answer = answer
        self.seen: list[tuple[str, Any]] = []
        self.keys: set[str | None] = set()
        self.port = self.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def handle_error(self, *_: Any) -> None:
        """A client that has hung up is no error here."""

    def die(self) -> None:
        """Stop listening; what is being answered gets no answer."""
        threading.Thread(target=self.shutdown).start()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: LocalServer

    def do_GET(self) -> None:
        self._send(200, {"data": []})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.path, body))
        self.server.keys.add(self.headers["Authorization"])
        self._send(*self.server.answer(self.path, body))

    def _send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        if status == 0:  # the connection is cut
            self.close_connection = True
            self.connection.close()
            return
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def running(answer: Callable[[str, Any], Answer], port: int = 0) -> Iterator[LocalServer]:
    """Run a server for as long as the block takes."""
    server = LocalServer(answer, port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.die()
        thread.join()


class OpenAI:
    """What an OpenAI-compatible server answers: the i-th response to a prompt ends in the number i.

    Args:
        n: "all", "one" (it ignores n) or "refused".
        logprobs: Whether it gives log-probabilities.
        token_ids: Whether it gives token ids, as vLLM does.
        usage: Whether it counts tokens.
        unknown: Fields that it refuses.
    """

    def __init__(
        self,
        *,
        n: str = "all",
        logprobs: bool = True,
        token_ids: bool = False,
        usage: bool = True,
        unknown: tuple[str, ...] = (),
    ) -> None:
        self.n, self.logprobs, self.token_ids, self.usage, self.unknown = n, logprobs, token_ids, usage, unknown
        self.given: dict[str, int] = {}
        self._lock = threading.Lock()

    def __call__(self, path: str, body: dict[str, Any]) -> Answer:
        for field in self.unknown:
            if field in body:
                return 400, {"error": {"message": f"Unrecognized request argument supplied: {field}"}}
        asked = body.get("n", 1)
        if asked > 1 and self.n == "refused":
            return 400, {"detail": "Only one completion choice is allowed"}
        prompt = json.dumps(body["messages"]) if "messages" in body else body["prompt"]
        with self._lock:
            first = self.given.get(prompt, 0)
            count = asked if self.n == "all" else 1
            self.given[prompt] = first + count
        numbers = range(first, first + count)
        choices = [self._choice(number, "messages" in body, body) for number in numbers]
        counts = {"usage": {"completion_tokens": sum(map(tokens_of, numbers))}} if self.usage else {}
        return 200, {"choices": choices, **counts}

    def _choice(self, number: int, is_chat: bool, body: dict[str, Any]) -> dict[str, Any]:
        values = [-0.5] * tokens_of(number)
        told = self.logprobs and "logprobs" in body
        ids = {"token_ids": [3] * (tokens_of(number))} if self.token_ids and "return_token_ids" in body else {}
        end = {"finish_reason": "stop" if number % 2 else "length", **ids}
        if is_chat:
            logprobs = {"content": [{"token": "word", "logprob": value} for value in values]} if told else None
            message = {"role": "assistant", "content": text_of(number), "tool_calls": []}
            return {"message": message, "logprobs": logprobs, **end}
        return {"text": text_of(number), "logprobs": {"token_logprobs": values} if told else None, **end}


def text_of(number: int) -> str:
    """The text of the response of this number."""
    return "word " * (number % 3) + str(number)


def tokens_of(number: int) -> int:
    """Its tokens, end token included: the odd ones have one."""
    return number % 3 + 1 + number % 2


def in_turn(first: list[Answer], then: Callable[[str, Any], Answer]) -> Callable[[str, Any], Answer]:
    """Give these answers to the first requests, and then those of another."""
    waiting, lock = list(first), threading.Lock()

    def answer(path: str, body: Any) -> Answer:
        with lock:
            given = waiting.pop(0) if waiting else None
        return then(path, body) if given is None else given

    return answer


def hanging(seconds: float) -> Callable[[str, Any], Answer]:
    """Cut the connection after so many seconds without an answer."""

    def answer(_: str, __: Any) -> Answer:
        time.sleep(seconds)
        return 0, b""

    return answer


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Makes breakers quick: four failures in a row, waits of milliseconds. What they say is in the list."""
    said: list[str] = []
    small = partial(Breaker, limit=4, first_wait=0.002, longest_wait=0.005, say=said.append)
    monkeypatch.setattr(of_server, "Breaker", small)
    return said
