"""The scripts of an experiment, which import one another by their bare names."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Import a script by its path within the experiments, `smollm2/base_policy`; afterwards nothing is left of it."""
    path, before = sys.path[:], set(sys.modules)

    def load(name: str) -> ModuleType:
        folder, _, module = name.partition("/")
        sys.path.insert(0, str(EXPERIMENTS / folder))
        return importlib.import_module(module)

    yield load
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and EXPERIMENTS in Path(sys.modules[name].__file__).parents:
            del sys.modules[name]
