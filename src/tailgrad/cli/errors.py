"""What a command says of an error: one line for the user, whoever raised it."""

from __future__ import annotations

import errno
import os
import re
import traceback
from pathlib import Path
from typing import Final

_OF_DISKS: Final = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "the quota of the disk is used up: free some space",
    errno.EFBIG: "it is larger than the disk or the limit of this shell (ulimit -f) allows: raise that limit",
    errno.EROFS: "it lies on a disk that can only be read: name another folder",
    errno.EACCES: "permission denied: change its permissions, or name another file or folder",
    errno.EPERM: "permission denied: change its permissions, or name another file or folder",
}
"""What a user can do about an error of the system, by its number."""

_NUMBER: Final = re.compile(r"\[errno (\d+)\]|\(os error (\d+)\)", re.IGNORECASE)
"""How Python, Arrow and safetensors tell the number of an error of the system."""


def in_words(error: Exception, resume: str) -> str:
    """The message of an error that was raised for the user; of any other one its kind too, and where it comes from.

    Raised for the user means by a `raise`; what Python itself or a compiled library finds wrong (`'<=' not supported
    between ...`) tells a user nothing. Files that cannot be opened or written are the exception.

    Args:
        error: What a command raised.
        resume: How to go on after a stop.

    Returns:
        One line; a second one where the error has a cause.
    """
    frame = traceback.extract_tb(error.__traceback__)[-1]
    raised = isinstance(error, ValueError | TypeError | RuntimeError) and (frame.line or "raise").startswith("raise")
    where = "TAILGRAD_TRACEBACK=1 shows where this was raised"
    if not raised and (words := _of_disk(error)):
        return f"{words}; {resume}."
    if str(error) and (raised or isinstance(error, OSError)):
        return str(error) if error.__cause__ is None else f"{error}\n({where}.)"
    return (
        f"{type(error).__name__}: {error} ({Path(frame.filename).name}, line {frame.lineno}). "
        f"tailgrad did not foresee this; please report it with the traceback ({where})."
    )


def _of_disk(error: Exception) -> str | None:
    """What is wrong with the file, and what to do, where a disk or its permissions are to blame."""
    found = _NUMBER.search(str(error))
    number = getattr(error, "errno", None) or (int(found[1] or found[2]) if found else None)
    if "inline_container" in str(error):  # all that torch says where it cannot write a file to its end
        number = errno.ENOSPC
    if number not in _OF_DISKS:
        return None
    name = getattr(error, "filename", None)
    file = "a file could not be written" if name is None else f"{os.fspath(name)!r} cannot be used"
    return f"{file}, {_OF_DISKS[number]}"
