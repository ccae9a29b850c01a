"""Run a command, and leave nothing of it behind when it ends or when the process that asked for it does.

    python guard.py COMMAND [ARGUMENT ...]

The guard leads a process group of its own, to which the command and all that it starts belong. Its standard input is
the end of a pipe that the asking process holds open: when that process closes it, or ends in any way (`kill -9` too),
the group gets SIGTERM and after `KILL_AFTER` seconds SIGKILL. When the command ends by itself, its exit code is
written to the guard's standard output (128 and the signal's number where a signal ended it), and what it has left of
the group gets SIGKILL. The command's output goes to the guard's standard error.

Only the standard library is imported, and the file is run by its path, so that a guard is small and starts at once.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import Final

KILL_AFTER: Final = 10.0
"""Seconds from SIGTERM to SIGKILL."""


def main(command: list[str]) -> None:
    """Run the command; this process ends with it, by SIGKILL to its own group."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # a handler, unlike SIG_IGN, is not inherited
        signal.signal(number, lambda *_: None)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    threading.Thread(target=_stop_when_left, args=(process,), daemon=True).start()
    code = process.wait()
    try:
        os.write(1, str(code if code >= 0 else 128 - code).encode())
    finally:  # where nobody reads it, too
        os.killpg(0, signal.SIGKILL)


def _stop_when_left(process: subprocess.Popen[bytes]) -> None:
    os.read(0, 1)  # nothing is ever written to the pipe: this returns when it is closed
    os.killpg(0, signal.SIGTERM)
    threading.Event().wait(KILL_AFTER)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
