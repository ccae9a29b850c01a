"""A loop of asyncio in a thread of its own, for those who wait."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class Waiting:
    """Runs coroutines and waits for them, also where another loop runs, as in a notebook.

    The loop stays between calls, so that connections do too. It ends when it is closed or forgotten.

    Args:
        last: What is run at its end.
    """

    def __init__(self, last: Callable[[], Awaitable[None]]) -> None:
        self._last, self._lock = last, threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: Callable[[], Any] | None = None

    def result(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine; what interrupts the waiting cancels it.

        Args:
            work: The coroutine.

        Returns:
            What it returns.
        """
        answer = asyncio.run_coroutine_threadsafe(work, self._running())
        try:
            return answer.result()
        except BaseException:
            answer.cancel()
            raise

    def close(self) -> None:
        """End the loop, if there is one."""
        with self._lock:
            end, self._loop, self._end = self._end, None, None
        if end is not None:
            end()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                thread = threading.Thread(target=_run, args=(self._loop, self._last), name="best of N", daemon=True)
                thread.start()
                self._end = weakref.finalize(self, _stop, self._loop, thread)
            return self._loop


def _run(loop: asyncio.AbstractEventLoop, last: Callable[[], Awaitable[None]]) -> None:
    loop.run_forever()
    loop.run_until_complete(_finish(last))
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


async def _finish(last: Callable[[], Awaitable[None]]) -> None:
    """End what still runs, then do what is last."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.wait_for(last(), 5.0)


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(loop.stop)
    if thread is not threading.current_thread():
        thread.join(10.0)
