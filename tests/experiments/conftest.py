"""The scripts of an experiment, for each test anew."""

from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from experiment_scripts import importing_scripts


@pytest.fixture
def script() -> Iterator[Callable[[str], ModuleType]]:
    """Import a script by its path within the experiments, `smollm2/base_policy`; afterwards nothing is left of it."""
    with importing_scripts() as load:
        yield load
