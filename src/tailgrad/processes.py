"""Which process this is, and of how many: what launchers such as torchrun, accelerate and mpirun tell each of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

_COUNT: Final = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
_INDEX: Final = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
_LOCAL: Final = ("LOCAL_RANK", "MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_RANK")


def num_processes() -> int:
    """Return how many processes run together; 1 where no launcher said so."""
    return _number(_COUNT) or 1


def process_index() -> int:
    """Return which of them this is, counted from 0 over all machines."""
    return _number(_INDEX) or 0


def local_index() -> int | None:
    """Return which of those on this machine this is; None where no launcher said so."""
    return _number(_LOCAL)


def _number(names: Sequence[str]) -> int | None:
    """The first of these environment variables that holds a number."""
    return next((int(os.environ[name]) for name in names if os.environ.get(name, "").isdigit()), None)
