"""A client of JSON servers: what is tried again, what is not, and a breaker that does not hammer."""

import itertools
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from local_servers import hanging, in_turn, quick, running
from tailgrad.models.breaker import Breaker, FailedError, ServerDownError
from tailgrad.models.in_flight import InFlight
from tailgrad.models.server import RefusedError, Server, check_url

__all__ = ["quick"]


def client(url: str, **options: Any) -> Server:
    return Server(url, **{"timeout": 5.0, "key_variable": "NO_KEY", **options})


def fine(_: str, body: Any) -> tuple[int, Any]:
    return 200, {"got": body}


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 529])
def test_what_may_pass_is_tried_again(status: int, quick: list[str]) -> None:
    with running(in_turn([(status, b"later")] * 3, fine)) as server:
        assert client(server.url).post("/x", {"a": 1}, lambda answer: answer["got"]) == {"a": 1}
    assert len(server.seen) == 4
    assert [f"failure {i} of 4" in line for i, line in enumerate(quick[:3], 1)] == [True] * 3


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 413, 422, 501])
def test_what_will_not_pass_is_not(status: int, quick: list[str]) -> None:
    refusal = pytest.raises(RefusedError, match=rf"/x refuses with {status}: no such thing")
    with running(lambda *_: (status, {"error": {"message": "no\n such thing"}})) as server, refusal:
        client(server.url).post("/x", {}, dict)
    assert (len(server.seen), quick) == (1, [])


def test_a_server_that_stays_down_is_left_alone(quick: list[str]) -> None:
    with running(lambda *_: (500, b"")) as server:
        ours = client(server.url)
        for _ in range(2):
            with pytest.raises(ServerDownError, match="failed 4 times in a row"):
                ours.post("/x", {}, dict)
    assert len(server.seen) == 4, "the second call sends nothing"


def test_a_hang_ends(quick: list[str]) -> None:
    with running(hanging(1.0)) as server:
        begun = time.monotonic()
        with pytest.raises(ServerDownError, match=r"no answer within 0\.05 seconds"):
            client(server.url, timeout=0.05).post("/x", {}, dict)
    assert time.monotonic() - begun < 0.9


def test_retry_after_is_kept(quick: list[str]) -> None:
    with running(in_turn([(429, b"", {"Retry-After": "1"})], fine)) as server:
        begun = time.monotonic()
        client(server.url).post("/x", {}, dict)
    assert 1.0 <= time.monotonic() - begun < 3.0


def test_while_a_server_is_down_one_request_tries() -> None:
    """64 callers, a server that fails six times: every failure after the first costs one request."""
    said: list[str] = []
    breaker = Breaker("it", limit=10, first_wait=0.002, longest_wait=0.002, say=said.append)
    lock, together, most, failures = threading.Lock(), 0, 0, 0

    def call() -> None:
        nonlocal together, most, failures
        while True:
            try:
                with breaker.turn():
                    with lock:
                        together += 1
                        most = max(most, together if breaker.failures else 0)
                        fails = failures < 6
                        failures += fails
                    time.sleep(0.001)
                    with lock:
                        together -= 1
                    if fails:
                        raise FailedError("down")
                return
            except FailedError:
                continue

    with breaker.turn():
        pass
    with pytest.raises(FailedError), breaker.turn():
        raise FailedError("first")
    threads = [threading.Thread(target=call) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert (most, failures, breaker.failures) == (1, 6, 0)
    assert len(said) == 7 + 1


def test_the_wait_doubles_up_to_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    clock = itertools.count(0.0, 1000.0)
    monkeypatch.setattr("tailgrad.models.breaker.time", SimpleNamespace(monotonic=lambda: next(clock)))
    breaker = Breaker("it", limit=6, first_wait=1.0, longest_wait=4.0, say=said.append)
    for asked in (None, None, None, None, 30.0, None):
        with pytest.raises(FailedError), breaker.turn():
            raise FailedError("down", wait=asked)
    waits = [float(line.rpartition("in ")[2].removesuffix(" s")) for line in said[:5]]
    assert waits == pytest.approx([1, 2, 4, 4, 30], rel=0.25)
    with pytest.raises(ServerDownError), breaker.turn():
        pass


def test_work_in_flight_gives_all_that_was_complete_before_its_error() -> None:
    def ask(key: int, count: int) -> list[int]:
        if key == 5:
            raise ValueError("five")
        time.sleep(0.001)
        return [key] * max(1, count // 2)

    found: dict[int, list[int]] = {}
    with pytest.raises(ValueError, match="five"):
        found.update(InFlight(range(50), 3, ask, at_once=lambda: 2, threads=2))
    assert found.keys() >= {0, 1, 2, 3}
    assert found == {key: [key] * 3 for key in found}
    assert max(found) < 8, "nothing is begun after an error"


def test_work_in_flight_is_bounded_where_nobody_takes_it() -> None:
    begun = []

    def ask(key: int, count: int) -> list[int]:
        begun.append(key)
        return [key] * count

    taken = iter(InFlight(range(1000), 1, ask, at_once=lambda: 1, threads=4))
    next(taken)
    time.sleep(0.2)
    assert len(begun) <= 1 + 2 * 4 + 4
    taken.close()  # type: ignore[attr-defined]
    time.sleep(0.2)
    assert len(begun) <= 1 + 2 * 4 + 4
    assert not [thread for thread in threading.enumerate() if thread.name == "request"]


@pytest.mark.parametrize("url", ["localhost", "ftp://host", "http://", "http://a:b@host", "http://host/?key=1"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="--base_url"):
        check_url(url, "--base_url")


def test_a_proxy_is_used_where_one_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(fine) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        assert client("http://nowhere.invalid").post("/x", {"a": 1}, lambda answer: answer["got"]) == {"a": 1}
        assert proxy.seen == [("http://nowhere.invalid/x", {"a": 1})]
