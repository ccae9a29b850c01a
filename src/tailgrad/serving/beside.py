"""Calls beside the loop that serves others: so many at once, and told when nobody waits for them any more."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from tailgrad.rewards.timeout import in_thread

Result = TypeVar("Result")


class Beside:
    """Runs calls in threads of their own, from any loop of asyncio; who waits for a turn holds no thread.

    Args:
        at_once: Calls that run at once.
    """

    def __init__(self, at_once: int) -> None:
        self._free, self._lock = at_once, threading.Lock()
        self._lines: dict[asyncio.AbstractEventLoop, deque[asyncio.Future[None]]] = {}

    async def run(self, call: Callable[[threading.Event], Result]) -> Result:
        """Wait for a turn, and for a call.

        Args:
            call: Is passed an event that is set once who waits has left, as when the task is cancelled. The call then
                goes on until it ends, in its turn, and what it returns or raises is nobody's.

        Returns:
            What the call returns.
        """
        await self._turn()
        left = threading.Event()
        try:
            thread = in_thread(lambda: call(left))
        except BaseException:
            self._give_back()
            raise
        thread.add_done_callback(lambda _: self._give_back())
        work = asyncio.wrap_future(thread)
        work.add_done_callback(lambda done: done.cancelled() or done.exception())  # else asyncio writes it into the log
        try:
            found: Result = await asyncio.shield(work)
        finally:
            left.set()
        return found

    async def _turn(self) -> None:
        """Take a turn. Who is woken takes it itself: one whose loop has ended by then takes none with it."""
        loop, front = asyncio.get_running_loop(), False
        while True:
            with self._lock:
                if self._free:
                    self._free -= 1
                    return
                call = loop.create_future()
                line = self._lines.setdefault(loop, deque())
                line.appendleft(call) if front else line.append(call)
            try:
                await call
            except asyncio.CancelledError:
                self._leave(loop, call)
                raise
            front = True

    def _leave(self, loop: asyncio.AbstractEventLoop, call: asyncio.Future[None]) -> None:
        with self._lock:
            line = self._lines.get(loop, deque())
            if waited := call in line:
                line.remove(call)
        if not waited:  # it was called when it left
            self._call()

    def _give_back(self) -> None:
        with self._lock:
            self._free += 1
        self._call()

    def _call(self) -> None:
        """Call the first in line of each loop, from any thread."""
        with self._lock:
            self._lines = {loop: line for loop, line in self._lines.items() if line and not loop.is_closed()}
            firsts = [(loop, line.popleft()) for loop, line in self._lines.items()]
        for loop, call in firsts:
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(_answer, call)


def _answer(call: asyncio.Future[None]) -> None:
    if not call.done():
        call.set_result(None)
