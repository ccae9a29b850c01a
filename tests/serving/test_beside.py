"""Calls beside the loop: so many at once, from any loop, and who waits holds no thread."""

import asyncio
import random
import threading
import time

import pytest

from tailgrad.serving.beside import Beside


@pytest.mark.parametrize("at_once", [1, 3])
def test_never_more_at_once_than_allowed_whoever_leaves(at_once: int) -> None:
    """Many tasks in two loops, of which a third leaves at some time: each of the others is answered, in its turn."""
    beside, lock, running, peak = Beside(at_once), threading.Lock(), 0, 0

    def call(_: threading.Event) -> int:
        nonlocal running, peak
        with lock:
            running += 1
            peak = max(peak, running)
        time.sleep(0.001)
        with lock:
            running -= 1
        return 7

    async def leaving(draw: random.Random) -> str:
        work = asyncio.ensure_future(beside.run(call))
        if draw.random() < 1 / 3:
            await asyncio.sleep(draw.random() * 0.05)
            work.cancel()
        try:
            return "answered" if await work == 7 else "wrong"
        except asyncio.CancelledError:
            return "left"

    async def many(seed: int) -> list[str]:
        draw = random.Random(seed)
        return await asyncio.gather(*[leaving(draw) for _ in range(60)])

    found: list[list[str]] = []
    loops = [threading.Thread(target=lambda seed=seed: found.append(asyncio.run(many(seed)))) for seed in range(2)]
    for loop in loops:
        loop.start()
    for loop in loops:
        loop.join(20)
    outcomes = [one for part in found for one in part]
    assert (len(outcomes), set(outcomes)) == (120, {"answered", "left"})
    assert peak == at_once
    asyncio.run(asyncio.wait_for(beside.run(call), 5))  # every turn was given back
    assert beside._free == at_once


def test_who_waits_and_leaves_holds_no_thread_and_is_not_called() -> None:
    beside, called, goes_on = Beside(1), [], threading.Event()

    async def scene() -> None:
        first = asyncio.ensure_future(beside.run(lambda _: goes_on.wait(5)))
        await asyncio.sleep(0.05)
        before = threading.active_count()
        waiting = [asyncio.ensure_future(beside.run(lambda _, i=i: called.append(i))) for i in range(50)]
        await asyncio.sleep(0.05)
        assert threading.active_count() <= before
        for one in waiting[:-1]:
            one.cancel()
        await asyncio.sleep(0)
        goes_on.set()
        await asyncio.gather(first, waiting[-1])
        assert called == [49]

    asyncio.run(scene())


def test_a_turn_is_kept_by_a_call_whose_task_has_left() -> None:
    beside, goes_on, order = Beside(1), threading.Event(), []

    def slow(left: threading.Event) -> None:
        assert left.wait(5)
        goes_on.wait(5)
        order.append("the one that was left alone")

    async def scene() -> None:
        first = asyncio.ensure_future(beside.run(slow))
        await asyncio.sleep(0.05)
        first.cancel()
        second = asyncio.ensure_future(beside.run(lambda _: order.append("the next")))
        await asyncio.sleep(0.05)
        assert order == []
        goes_on.set()
        await second

    asyncio.run(scene())
    assert order == ["the one that was left alone", "the next"]


@pytest.mark.parametrize("closed", ["before", "after", "never"])
def test_a_loop_that_has_ended_keeps_no_turn(closed: str) -> None:
    """Whether it is closed before its waiter is called, after that, or only stopped."""
    beside, goes_on, ended = Beside(1), threading.Event(), threading.Event()

    def slow(_: threading.Event) -> None:
        goes_on.wait(5)

    async def occupied() -> None:
        work = asyncio.ensure_future(beside.run(slow))
        await asyncio.sleep(0.05)
        assert not work.done()

    asyncio.run(occupied())  # the call goes on after its loop is closed
    loop = asyncio.new_event_loop()
    waits = loop.create_task(beside.run(lambda _: ended.set()))
    loop.run_until_complete(asyncio.sleep(0.02))
    if closed == "before":
        loop.close()
    goes_on.set()
    time.sleep(0.1)
    if closed == "after":
        loop.close()
    asyncio.run(asyncio.wait_for(beside.run(lambda _: None), 5))
    assert not ended.is_set()
    if closed == "never":
        loop.run_until_complete(waits)
        assert ended.is_set()
        loop.close()
    assert beside._free == 1
