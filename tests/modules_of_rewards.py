"""Modules of rewards whose source a test writes."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def module_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Imports a module whose source stands in a file."""

    def imported(source: str, folder: str = "rewards") -> Any:
        path = tmp_path / folder / "own_rewards.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
        spec = importlib.util.spec_from_file_location("own_rewards", path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "own_rewards", module)
        exec(compile(source, str(path), "exec"), module.__dict__)
        return module

    return imported
