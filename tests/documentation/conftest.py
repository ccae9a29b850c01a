"""A shell in which the documented commands run as printed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import warm

Shell = Callable[[str], str]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Run a block with bash as it is printed; `pip` and `make` only say what they were asked for."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("pip", "make"):
        write_program(commands / name, f'#!/bin/sh\necho "{name}: $*"\n')
    path = os.pathsep.join([str(commands), str(Path(sys.executable).parent), os.environ["PATH"]])

    def run(text: str) -> str:
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=tmp_path,
            env={**os.environ, "PATH": path, "CUDA_VISIBLE_DEVICES": ""},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, f"{text}\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}"
        return result.stdout

    return run


@pytest.fixture
def warm_shell(shell: Shell, tmp_path: Path, warm_process: str) -> Shell:
    """The same, with commands that are forks of a process which has loaded what they import."""
    write_program(
        tmp_path / "bin" / "tailgrad", f'#!/bin/sh\nexec {sys.executable} -IS {warm.__file__} {warm_process} "$@"\n'
    )
    return shell


@pytest.fixture(scope="module")
def warm_process() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:  # a socket's path is at most 108 characters long
        command = [sys.executable, warm.__file__, path := os.path.join(folder, "socket")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield path
            process.terminate()


def write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
