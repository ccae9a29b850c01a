"""Files that appear complete or not at all, and folders that one process writes at a time."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a file beside `path` to write, and put it in its place at the end; an interruption leaves `path` as it was.

    Args:
        path: The file to write; its folder is made if missing.

    Yields:
        The unfinished file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Give a folder beside `folder` to fill, and put it in its place at the end; until then `folder` is as it was.

    Args:
        folder: The folder to write; what is in it is removed in the end.

    Yields:
        The unfinished folder, which is empty; one that was left there is removed.
    """
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    yield unfinished
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(unfinished, folder)


def remove_unfinished(folder: Path, name: str | None = None) -> None:
    """Remove what killed processes left of `replacing`; only who keeps others from writing there may.

    Args:
        folder: Where to look; it need not exist.
        name: The file that was to be written; None is every file.
    """
    left = re.compile(rf"\.{'.+' if name is None else re.escape(name)}\.\d+\.tmp")
    for path in [*folder.glob(".*.tmp")]:
        if left.fullmatch(path.name):
            path.unlink(missing_ok=True)


@contextmanager
def locked(lock: Path, what: str, *, wait: float = 0.0) -> Iterator[None]:
    """Hold a lock for the length of the block; it is released when the process ends, however it ends.

    Args:
        lock: The lock's file; its folder is made if missing. The file stays, the lock does not.
        what: What is locked, the first words of the error message.
        wait: Most seconds to wait for another process that holds the lock.

    Raises:
        ValueError: Another process holds the lock.
    """
    from filelock import FileLock, Timeout

    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, timeout=wait):
            yield
    except Timeout:
        raise ValueError(f"{what} is being written by another process; wait for its end or stop it.") from None
