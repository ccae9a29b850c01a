"""Calls beside the loop that serves others: so many at once, and told when nobody waits for them any more."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
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
        self._line: deque[asyncio.Future[None]] = deque()

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
        with self._lock:
            if self._free:
                self._free -= 1
                return
            turn = asyncio.get_running_loop().create_future()
            self._line.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            with self._lock:
                waits = turn in self._line
                if waits:
                    self._line.remove(turn)
            if not waits and not turn.cancelled():  # it came when who waited left
                self._give_back()
            raise

    def _give_back(self) -> None:
        """Give a turn to the first in line; called from any thread."""
        with self._lock:
            while self._line:
                turn = self._line.popleft()
                try:
                    turn.get_loop().call_soon_threadsafe(self._give, turn)
                except RuntimeError:  # its loop is closed, and it with it
                    continue
                return
            self._free += 1

    def _give(self, turn: asyncio.Future[None]) -> None:
        if turn.done():  # who waited has left
            self._give_back()
        else:
            turn.set_result(None)
