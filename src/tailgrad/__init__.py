"""Post-train language models for best-of-N with few rollouts per prompt, and measure what it bought.

Every public name of the core is here too (`tailgrad.tea`, `tailgrad.best_of_n`), loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from tailgrad._version import __version__ as __version__

if TYPE_CHECKING:
    from tailgrad.curves import *  # noqa: F403
    from tailgrad.estimators import *  # noqa: F403
    from tailgrad.fidelity import *  # noqa: F403
    from tailgrad.planning import *  # noqa: F403
    from tailgrad.statistics import *  # noqa: F403
    from tailgrad.tails import *  # noqa: F403
    from tailgrad.training import *  # noqa: F403
    from tailgrad.types import *  # noqa: F403

_CORE: Final = ("estimators", "tails", "curves", "fidelity", "planning", "statistics", "types")
_TRAINING: Final = ("TailGRPOConfig", "TailGRPOTrainer")
"""These need `tailgrad[train]`, whose libraries are loaded for nothing else."""


def __getattr__(name: str) -> Any:
    if name == "__all__":  # what `import *` takes: no more than the core
        return ["__version__", *(public for room in _CORE for public in import_module(f"tailgrad.{room}").__all__)]
    if name in _TRAINING:
        return getattr(import_module("tailgrad.training"), name)
    if not name.startswith("_"):
        for room in _CORE:
            module = import_module(f"tailgrad.{room}")
            if name in module.__all__:
                return getattr(module, name)
    raise AttributeError(f"module 'tailgrad' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__"), *_TRAINING})
