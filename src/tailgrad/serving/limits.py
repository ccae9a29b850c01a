"""Who is worked on, who waits, and who is told to come back later."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from tailgrad.serving.errors import ApiError, shutting_down

_BEYOND: Final = 64
"""Requests beside those that are worked on or wait: their bodies are being read, or they are sent away."""

_LONGEST_WAIT: Final = 60.0
"""Most seconds of a Retry-After."""


class Gate:
    """Lets a number of requests through at once; others wait in one line per client, and the lines take turns.

    When all places to wait are taken and a client with a shorter line comes, the last one of the longest line gives way
    (429). Where there is no longer line the new one is sent away (503).

    Args:
        active: Requests at once.
        waiting: Requests that wait, of all clients together.

    Attributes:
        active: Requests that are let through now.
    """

    def __init__(self, active: int, waiting: int) -> None:
        self._most_active, self._most_waiting = active, waiting
        self.active = 0
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._inside = 0
        self._seconds = 1.0  # how long a request takes, lately
        self._closed = False

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return sum(map(len, self._lines.values()))

    @property
    def places(self) -> int:
        """Requests that are worked on, wait, or come and go, at most."""
        return self._most_active + self._most_waiting + _BEYOND

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for a request, from before its body is read until it is answered.

        Raises:
            ApiError: All are taken.
        """
        if self._inside >= self.places:
            raise self._full(503, "there are too many requests")
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Wait for a turn, and give it back.

        Args:
            client: Who asks.

        Raises:
            ApiError: There is no place to wait, or the server ends.
        """
        await self._enter(client)
        begun = time.monotonic()
        try:
            yield
        finally:
            self._seconds += 0.1 * (time.monotonic() - begun - self._seconds)
            self.active -= 1
            self._next()

    def close(self) -> None:
        """Send away all who wait, and all who come."""
        self._closed = True
        for line in self._lines.values():
            for waits in line:
                if not waits.done():
                    waits.set_exception(shutting_down())
        self._lines.clear()

    async def _enter(self, client: str) -> None:
        if self._closed:
            raise shutting_down()
        if self.active < self._most_active and not self._lines:
            self.active += 1
            return
        if self.waiting >= self._most_waiting:
            self._make_room(client)
        waits = asyncio.get_running_loop().create_future()
        self._lines.setdefault(client, deque()).append(waits)
        try:
            await waits
        except asyncio.CancelledError:
            if waits.done() and not waits.cancelled() and waits.exception() is None:
                self.active -= 1  # its turn came when it left
                self._next()
            else:
                self._leave(client, waits)
            raise

    def _make_room(self, client: str) -> None:
        """Let the last of the longest line give way to a client with fewer, or send the new one away."""
        longest = max(self._lines, key=lambda name: len(self._lines[name]), default=client)
        if longest == client or len(self._lines[longest]) <= len(self._lines.get(client, ())) + 1:
            raise self._full(503, "all places to wait are taken")
        last = self._lines[longest][-1]
        self._leave(longest, last)
        last.set_exception(self._full(429, "this client has more requests waiting than others"))

    def _leave(self, client: str, waits: asyncio.Future[None]) -> None:
        line = self._lines.get(client)
        if line is not None and waits in line:
            line.remove(waits)
            if not line:
                del self._lines[client]

    def _next(self) -> None:
        """Give the turn to the first of the next line."""
        while self._lines and self.active < self._most_active:
            client, line = self._lines.popitem(last=False)
            waits = line.popleft()
            if line:
                self._lines[client] = line  # at the end: the others come first
            if not waits.done():
                self.active += 1
                waits.set_result(None)

    def _full(self, status: int, why: str) -> ApiError:
        wait = min(_LONGEST_WAIT, self._seconds * (1 + self.waiting / self._most_active))
        message = f"{why} ({self.active} requests are worked on, {self.waiting} wait): try again later."
        return ApiError(status, message, code="overloaded", retry_after=wait)
