"""A copy of the package with its tests, to which a page of instructions is done; and Python that runs there."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def copy_package(folder: Path, tests: Iterable[str]) -> None:
    """Copy the package and some files and folders of its tests."""
    of_every_test = ("src/tailgrad", "pyproject.toml", "tests/conftest.py", "tests/slow_tests.py")
    for name in (*of_every_test, *(f"tests/{name}" for name in tests)):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


def insert(path: Path, lines: str, *, before: str) -> None:
    """Write lines into a file, before a text that stands there once."""
    text = path.read_text()
    assert text.count(before) == 1, f"{path.name}: {before}"
    path.write_text(text.replace(before, f"{lines}\n{before}"))


def run_in(folder: Path, *words: str) -> str:
    """What Python prints in a folder whose package is the one it imports."""
    environment = os.environ | {"PYTHONPATH": str(folder / "src")}
    result = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    return result.stdout
