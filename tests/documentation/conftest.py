"""A shell in which the documented commands run as printed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def shell(tmp_path: Path) -> Callable[[str], str]:
    """Run a block with bash as it is printed; `pip` and `make` only say what they were asked for."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("pip", "make"):
        (commands / name).write_text(f'#!/bin/sh\necho "{name}: $*"\n')
        (commands / name).chmod(0o755)
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
