"""What fails beside a request is no line of the log, and no reward takes the server with it."""

import asyncio
import gc
import json
import threading
from typing import Any

import httpx2
import pytest

from best_of_n_servers import ASK, Make, Scripted, content_of, serving
from local_servers import in_turn, running
from tailgrad.serving import BestOfN
from tailgrad.serving.beside import Beside

SECRET = "the patient has a secret illness"
CHAT = {"model": "scripted", "messages": ASK, "best_of_n": 2}


def secrets(_: Any, count: int, __: int) -> list[str]:
    return [SECRET] * count


def ask(url: str) -> httpx2.Response:
    return httpx2.post(f"{url}/v1/chat/completions", json=CHAT, timeout=20)


@pytest.mark.parametrize("leaves", [True, False])
def test_what_a_call_raises_is_for_who_waits_and_nobodys_after_that(leaves: bool) -> None:
    begun, complaints, told = threading.Event(), [], threading.Event()

    def call(left: threading.Event) -> None:
        begun.set()
        assert left.wait(0.2) == leaves
        told.set()
        raise ValueError(SECRET)

    async def scene() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
        work = asyncio.ensure_future(Beside(1).run(call))
        await asyncio.to_thread(begun.wait)
        if leaves:
            work.cancel()
        with pytest.raises(asyncio.CancelledError if leaves else ValueError):
            await work
        await asyncio.to_thread(told.wait)
        await asyncio.sleep(0.05)
        gc.collect()

    asyncio.run(scene())
    assert complaints == []


def test_a_reward_that_raises_after_its_client_left_is_not_in_the_log(make: Make) -> None:
    begun, goes_on, complaints = threading.Event(), threading.Event(), []

    def reward(*, completions: list[Any], **_: Any) -> list[float]:
        begun.set()
        goes_on.wait(5)
        raise ValueError(f"cannot parse {completions}")

    async def scene() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
        best_of_n = make(Scripted(secrets), reward)
        work = asyncio.ensure_future(best_of_n.best_of_n(ASK, 2))
        await asyncio.to_thread(begun.wait)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        goes_on.set()
        await best_of_n._scoring._beside.run(lambda _: None)  # the reward has ended
        await asyncio.sleep(0.05)
        gc.collect()

    asyncio.run(scene())
    assert complaints == []


def test_what_a_remote_reward_says_of_its_failure_is_not_in_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    def scores(_: str, body: Any) -> tuple[int, Any]:
        return 200, {"rewards": [1.0] * len(body["completions"])}

    failures: list[Any] = [(500, {"error": f"cannot parse {SECRET}"})]
    with running(in_turn(failures, scores)) as remote, serving(BestOfN(Scripted(secrets), remote.url)) as server:
        assert ask(server.url).json()["tailgrad"]["scored"] == 2
        assert len(remote.seen) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert json.loads(line)["status"] == 200
    assert SECRET not in line


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError()])
@pytest.mark.parametrize("seconds", [None, 5.0])
def test_a_reward_that_would_end_the_server_fails_its_own_request_alone(
    error: BaseException, seconds: float | None
) -> None:
    def reward(*, completions: list[Any], **_: Any) -> list[float]:
        if content_of(completions[0]).endswith("bad"):
            raise error
        return [1.0] * len(completions)

    policy = Scripted(lambda wish, count, _: [wish.prompt[0]["content"]] * count)
    with serving(BestOfN(policy, reward, reward_timeout=seconds)) as server:
        bad = httpx2.post(
            f"{server.url}/v1/chat/completions",
            json={**CHAT, "messages": [{"role": "user", "content": "bad"}]},
            timeout=20,
        )
        assert bad.status_code == 502
        assert f"raised {type(error).__name__}" in bad.json()["error"]["message"]
        assert ask(server.url).status_code == 200
