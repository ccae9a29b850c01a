"""`tailgrad` without its imports' seconds: one process loads everything, and each command is a fork of it.

Usage: python warm.py SOCKET serves, and prints a line once it does; python -IS warm.py SOCKET WORD... is the command.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import sys
import traceback
from typing import Final, NoReturn

LATE: Final = (
    "matplotlib.pyplot",
    "tailgrad.cli.main",
    "tailgrad.fidelity.gradient_store",
    "tailgrad.grid",
    "tailgrad.rollouts.sampling",
    "tailgrad.training.launch",
)
"""What commands import when they need it."""


def serve(path: str) -> NoReturn:
    """Run each command that is asked for in a fork, with the caller's folder, environment and streams."""
    for name in LATE:
        importlib.import_module(name)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        text, streams, *_ = socket.recv_fds(connection, 1 << 16, 3)
        while more := connection.recv(1 << 16):
            text += more
        if (command := os.fork()) == 0:
            run(*json.loads(text), streams)
        for stream in streams:
            os.close(stream)
        connection.sendall(bytes([os.waitstatus_to_exitcode(os.waitpid(command, 0)[1]) % 256]))
        connection.close()


def run(words: list[str], folder: str, environment: dict[str, str], streams: list[int]) -> NoReturn:
    """Be the command from here on."""
    from tailgrad.cli.main import main

    code: object = 1
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = ["tailgrad", *words]
        code = main()
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


def call(path: str, words: list[str]) -> int:
    """Have a command run; its exit code."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        text = json.dumps([words, os.getcwd(), dict(os.environ)]).encode()
        sent = socket.send_fds(connection, [text], [0, 1, 2])
        connection.sendall(text[sent:])
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(1)
        return answer[0] if answer else 1


if __name__ == "__main__":
    if len(sys.argv) == 2:
        serve(sys.argv[1])
    sys.exit(call(sys.argv[1], sys.argv[2:]))
