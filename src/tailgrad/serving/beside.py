"""A call beside the loop that serves others, which is told when nobody waits for it any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

from tailgrad.rewards.timeout import in_thread

Result = TypeVar("Result")


async def beside(call: Callable[[threading.Event], Result]) -> Result:
    """Wait for a call in a thread of its own.

    Args:
        call: Is passed an event that is set once who waits has left, as when the task is cancelled. The thread goes on
            until the call ends, and what it then returns or raises is nobody's.

    Returns:
        What the call returns.
    """
    left = threading.Event()
    work = asyncio.wrap_future(in_thread(lambda: call(left)))
    work.add_done_callback(lambda done: done.cancelled() or done.exception())  # else asyncio writes it into the log
    try:
        found: Result = await asyncio.shield(work)
    finally:
        left.set()
    return found
