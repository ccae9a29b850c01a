"""How many connections a server holds, and for how long one on which nothing is asked."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

IDLE: Final = 1024
"""Connections that nothing is asked on, beside those of as many requests as there are places for."""

_BACKLOG: Final = 1024
"""Connections that may wait for the server to take them; it takes them all at once."""
_SPARE: Final = 64
"""Connections above the limit that are told so; further ones are closed at once."""
_FILES: Final = 128
"""Files that a process has open besides."""
_MANY: Final = 8192
"""Files that are enough, where the system names no limit."""


def most_connections(requests: int, behind: int) -> tuple[int, int]:
    """Return how many connections a server may hold, and how many may wait to be taken.

    As many files may be open then as the system ever lets this process, and there are no more connections than files.

    Args:
        requests: Requests that there are places for.
        behind: Connections to the server behind.

    Raises:
        ValueError: There are fewer files than requests.
    """
    files = _open_files()
    room = files - behind - _FILES - _SPARE
    backlog = max(1, min(_BACKLOG, room // 3))
    most = min(requests + IDLE, room - backlog)
    if most < requests:
        raise ValueError(
            f"this process may open {files} files (ulimit -n), too few for {requests} requests and {behind} to the "
            "server behind: allow more, or lower --max_waiting, --max_active or --concurrency."
        )
    return most, backlog


def _open_files() -> int:
    """The most files that this process may open, after that was raised as far as it goes."""
    if sys.platform == "win32":
        return _MANY
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # where the system allows fewer than it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (_MANY if hard == resource.RLIM_INFINITY else hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MANY if soft == resource.RLIM_INFINITY else soft


class Connection(H11Protocol):
    """A connection as uvicorn has it, but closed if nothing is asked on it at first, and at once if there are too many.

    uvicorn answers with 503 beyond `limit_concurrency`, and waits without end for a first request.
    """

    def connection_made(self, transport: Any) -> None:
        """Begin; see asyncio."""
        super().connection_made(transport)
        if self.limit_concurrency is not None and len(self.connections) > self.limit_concurrency + _SPARE:
            transport.abort()
            return
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
