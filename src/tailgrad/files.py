"""Files that appear complete or not at all, and folders that one process writes at a time."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

FOREVER: Final = -1.0
"""As long as it takes."""


def expanded(path: str | Path) -> Path:
    """Return a path with the home folder in the place of a `~` it begins with.

    Args:
        path: As it was given.

    Returns:
        The path.

    Raises:
        ValueError: It begins with the name of a user who is not there, or there is no home folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        first = Path(path).parts[0]
        raise ValueError(f"{str(path)!r} begins with {first}, a home folder that is not there.") from error


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


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, which appears complete or not at all.

    Args:
        path: The file.
        text: What it holds.
    """
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a record, which appears complete or not at all.

    Args:
        path: The file.
        values: JSON types only.
    """
    write_text(path, json.dumps(values, indent=2) + "\n")


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Give a folder beside `folder` to fill, and put it in its place at the end; until then `folder` is as it was.

    The old folder is renamed, the new one is renamed into its place, and the old one is removed. So a killed process
    leaves `folder` whole, as it was or as it was to be, at any moment but between the two renames. Then both folders
    are whole under other names, and `restore_folder` puts the new one in its place.

    Args:
        folder: The folder to write; what is in it is removed in the end. A link stays one.

    Yields:
        The unfinished folder, which is empty; what a killed process left there is removed.
    """
    folder = folder.resolve()
    restore_folder(folder)
    unfinished, replaced = _beside(folder)
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    yield unfinished
    if folder.exists():
        os.replace(folder, replaced)
    os.replace(unfinished, folder)
    shutil.rmtree(replaced, ignore_errors=True)


def restore_folder(folder: Path) -> None:
    """End what a killed `replacing_folder` had begun to put in place; call it before looking whether `folder` is there.

    Args:
        folder: The folder that was to be written.
    """
    folder = folder.resolve()
    unfinished, replaced = _beside(folder)
    if replaced.exists():  # so `unfinished` had been filled, or is in its place already
        if unfinished.exists() and not folder.exists():
            os.replace(unfinished, folder)
        shutil.rmtree(replaced)


def _beside(folder: Path) -> tuple[Path, Path]:
    """Where a new folder is filled, and where the old one goes meanwhile."""
    return folder.with_name(f"{folder.name}.unfinished"), folder.with_name(f".{folder.name}.replaced")


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
        wait: Most seconds to wait for another process that holds the lock; `FOREVER` until it ends.

    Raises:
        ValueError: Another process holds the lock.
    """
    with claimed(lock, wait=wait) as ours:
        if not ours:
            raise ValueError(f"{what} is being written by another process; wait for its end or stop it.")
        yield


@contextmanager
def claimed(lock: Path, *, wait: float = 0.0) -> Iterator[bool]:
    """Try to hold a lock for the length of the block; see `locked`.

    Args:
        lock: The lock's file, which others may remove, with its folder, at any time.
        wait: Most seconds to wait for another process that holds the lock; `FOREVER` until it ends, however it ends.

    Yields:
        Whether the lock is held.
    """
    from filelock import FileLock, Timeout

    file = FileLock(lock)
    while not file.is_locked:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            file.acquire(timeout=wait)
        except FileExistsError as error:  # a folder was there, and was removed before it was seen to be one
            if os.path.lexists(error.filename) and not os.path.isdir(error.filename):
                raise
        except FileNotFoundError:  # its folder was removed since
            continue
        except Timeout:
            if lock.exists():  # else it was removed between being opened and locked, and nobody holds it
                break
    try:
        yield file.is_locked
    finally:
        file.release()
