"""Public names of a package that are loaded when they are first used: the help of a command waits for no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazily(
    package: str, homes: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return the `__getattr__`, `__dir__` and `__all__` of a package that loads its names when they are first used.

    A name is not also that of a module of the package: importing the module would put it in the name's place.

    Args:
        package: The package's `__name__`.
        homes: The public names that each of its modules has.

    Examples:
        >>> get, _, public = lazily("tailgrad.statistics", {"power": ["seeds_needed"]})
        >>> public, get("seeds_needed").__module__
        (['seeds_needed'], 'tailgrad.statistics.power')
    """
    home = {name: f"{package}.{module}" for module, names in homes.items() for name in names}

    def get(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(home[name]), name)

    return get, lambda: sorted(home), sorted(home)
