"""Work for a server done by several threads, given back as it is finished."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")


class InFlight(Generic[Item]):
    """Collects n results for each of some keys, several requests at a time.

    A request asks for some of the n and may give fewer: the rest is asked for again. After an error nothing new is
    begun; what is on its way is waited for, and what is complete then is given before the error is raised. The threads
    do not hold the process at its end, and wait when twice their number of keys is complete and nobody takes them.

    Args:
        keys: What results are wanted for.
        n: Results per key.
        ask: Gives at least one and at most `count` results for a key, called as `ask(key, count)`.
        at_once: The most that one request may ask for, called anew for each.
        threads: Requests in flight.
    """

    def __init__(
        self,
        keys: Iterable[int],
        n: int,
        ask: Callable[[int, int], list[Item]],
        *,
        at_once: Callable[[], int],
        threads: int,
    ) -> None:
        self._keys, self._n, self._ask, self._at_once = iter(keys), n, ask, at_once
        self._threads = threads
        self._lock = threading.Lock()
        self._missing: deque[tuple[int, int]] = deque()
        self._have: dict[int, list[Item]] = {}
        self._ready: queue.Queue[Any] = queue.Queue(maxsize=2 * threads)
        self._stopped = self._left = False

    def __iter__(self) -> Iterator[tuple[int, list[Item]]]:
        """Start, and give keys with their n results as they are complete.

        Yields:
            A key and its results.
        """
        for _ in range(self._threads):
            threading.Thread(target=self._work, name="request", daemon=True).start()
        running, errors = self._threads, []
        try:
            while running:
                done = self._ready.get()
                if done is None:
                    running -= 1
                elif isinstance(done, BaseException):
                    errors.append(done)
                else:
                    yield done
        finally:
            self._stopped = self._left = True
        if errors:
            raise errors[0]

    def _work(self) -> None:
        try:
            while (asked := self._next()) is not None:
                key, count = asked
                self._give(key, count, self._ask(key, count))
        except BaseException as error:
            self._stopped = True
            self._put(error)
        self._put(None)

    def _next(self) -> tuple[int, int] | None:
        """What to ask for next; the rest of its key is then missing."""
        with self._lock:
            if self._stopped:
                return None
            key, count = self._missing.popleft() if self._missing else (next(self._keys, None), self._n)
            if key is None:
                return None
            now = min(count, self._at_once())
            if count > now:
                self._missing.appendleft((key, count - now))
            return key, now

    def _give(self, key: int, count: int, found: list[Item]) -> None:
        with self._lock:
            have = self._have.setdefault(key, [])
            have += found
            if len(found) < count:
                self._missing.append((key, count - len(found)))
            complete = self._have.pop(key) if len(have) == self._n else None
        if complete is not None:
            self._put((key, complete))

    def _put(self, item: Any) -> None:
        """Hand something over, once there is room; where nobody takes it any more it is dropped."""
        while not self._left:
            with contextlib.suppress(queue.Full):
                self._ready.put(item, timeout=0.1)
                return
