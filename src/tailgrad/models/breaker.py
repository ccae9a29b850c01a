"""A circuit breaker: while a server is down, one request at a time tries it, and after some failures in a row none."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class ServerDownError(RuntimeError):
    """A server failed too often in a row; what was finished before stays."""


class FailedError(Exception):
    """A try that failed and may be repeated.

    Args:
        reason: What went wrong, a few words.
        wait: Least seconds to wait, as the server asks for; None where it does not.
    """

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class Breaker:
    """What all requests to one server share. Closed: they go out as they come. Open: one of them tries now and then.

    Every failure in a row doubles the wait before the next try, up to a longest one, with jitter. A success closes it.

    Args:
        name: The server, in messages.
        limit: Failures in a row after which nothing is tried any more.
        first_wait: Seconds after the first failure.
        longest_wait: Most seconds, unless the server asks for more.
        say: Told of every failure in a row and of the recovery, in one line.

    Attributes:
        failures: Failures in a row; 0 is closed.
        say: As given.
    """

    def __init__(
        self,
        name: str,
        *,
        limit: int = 10,
        first_wait: float = 0.5,
        longest_wait: float = 30.0,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.name, self.limit, self.failures = name, limit, 0
        self._first_wait, self._longest_wait, self.say = first_wait, longest_wait, say or to_terminal
        self._changed = threading.Condition()
        self._trying, self._next_try, self._reason = False, 0.0, ""

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn, and judge the server by what the request in it raises.

        Raises:
            ServerDownError: The server has failed too often in a row.
            FailedError: The request failed and may be repeated. Any other error is one that a working server gives.
        """
        alone = self._enter()
        try:
            yield
        except FailedError as error:
            self._failed(error, alone)
            raise
        except Exception:
            self._answered(alone)
            raise
        except BaseException:
            self._leave(alone)
            raise
        self._answered(alone)

    def _enter(self) -> bool:
        """Wait until a request may go out; whether it is the one that tries."""
        with self._changed:
            while self.failures:
                if self.failures >= self.limit:
                    raise ServerDownError(
                        f"{self.name}: {self._reason}; it failed {self.failures} times in a row, so nothing more is "
                        "sent. What is finished is kept: the same command goes on once the server is back."
                    )
                left = self._next_try - time.monotonic()
                if not self._trying and left <= 0:
                    self._trying = True
                    return True
                self._changed.wait(left if left > 0 else None)
            return False

    def _failed(self, error: FailedError, alone: bool) -> None:
        with self._changed:
            if alone or not self.failures:  # what was on its way when another failed says nothing new
                self.failures += 1
                self._reason = str(error)
                wait = min(self._longest_wait, self._first_wait * 2 ** (self.failures - 1)) * random.uniform(0.8, 1.2)
                wait = max(wait, error.wait or 0.0)
                self._next_try = time.monotonic() + wait
                then = f"next try in {wait:.1f} s" if self.failures < self.limit else "no further try"
                self.say(f"{self.name}: {error}; failure {self.failures} of {self.limit} in a row, {then}")
        self._leave(alone)

    def _answered(self, alone: bool) -> None:
        with self._changed:
            if self.failures:
                self.say(f"{self.name}: answers again")
            self.failures = 0
        self._leave(alone)

    def _leave(self, alone: bool) -> None:
        with self._changed:
            if alone:
                self._trying = False
            self._changed.notify_all()


def to_terminal(line: str) -> None:
    """Write a line to the terminal, above a progress bar.

    Args:
        line: The line.
    """
    from tqdm.auto import tqdm

    tqdm.write(line, file=sys.stderr)
