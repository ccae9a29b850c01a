"""Scripts of an experiment, which import one another by their bare names."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

EXPERIMENTS = Path(__file__).resolve().parent.parent / "experiments"


@contextmanager
def importing_scripts() -> Iterator[Callable[[str], ModuleType]]:
    """Give a function that imports a script by its path within the experiments, such as `arena/run`.

    Afterwards nothing is left of the scripts. Libraries that they loaded stay: who has imported a module keeps it, and
    a second copy of it would not know the first.
    """
    path, before = sys.path[:], set(sys.modules)

    def load(name: str) -> ModuleType:
        folder, _, module = name.partition("/")
        if str(EXPERIMENTS / folder) not in sys.path:
            sys.path.insert(0, str(EXPERIMENTS / folder))
        return importlib.import_module(module)

    try:
        yield load
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - before:
            if EXPERIMENTS in Path(getattr(sys.modules[name], "__file__", None) or "").parents:
                del sys.modules[name]
