"""Commands in forked children of this process, which has loaded all libraries: they start at once and can be killed."""

import ctypes
import mmap
import os
import resource
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

FILE_EVENTS: Final = {
    *("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree"),
    "open",
}
"""What Python tells an audit hook before it changes what lies on a disk."""

LONGEST: Final = 120
"""Seconds after which a child is ended by SIGALRM: it hangs where a thread of this process held a lock at the fork."""

CLONE_NEWNS, CLONE_NEWUSER, MS_RDONLY, MS_REMOUNT, MS_PRIVATE = 0x20000, 0x10000000, 1, 32, 0x44000


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    Attributes:
        code: Its exit code; minus the number of the signal that ended it.
        output: What it printed.
        events: How often it was about to change a file below the folder it was watched in.
        seconds: CPU time that it took.
    """

    code: int
    output: str
    events: int
    seconds: float


def in_child(work: Callable[[], int], folder: Path, prepare: Callable[[Any], None] = lambda counter: None) -> Ended:
    """Run something in a forked child.

    Args:
        work: What to run; it returns the exit code.
        folder: The child's working folder; its output goes to a file beside it.
        prepare: Called in the child before that, with memory that it shares with this process.
    """
    counter = mmap.mmap(-1, 8)
    log = folder.with_name(f"{folder.name}.log")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of threads; ours are idle
        child = os.fork()
    if child == 0:
        code = 70
        try:
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            sys.stdout = sys.stderr = os.fdopen(output, "w", buffering=1)
            os.chdir(folder)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(LONGEST)
            _bars_of_its_own(tqdm)
            prepare(counter)
            code = work()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    _, status, used = os.wait4(child, 0)
    events = int.from_bytes(counter[:8], "little")
    output_text = log.read_text(errors="replace")
    return Ended(os.waitstatus_to_exitcode(status), output_text, events, used.ru_utime + used.ru_stime)


def _bars_of_its_own(bar: type[tqdm]) -> None:
    """Give the bars of this process a lock of their own, also those classes of them that have one: a killed child would
    keep the one that all processes share."""
    bar.set_lock(threading.RLock())
    for kind in bar.__subclasses__():
        _bars_of_its_own(kind)


def killed_at_event(number: int, folder: Path) -> Callable[[Any], None]:
    """Let a child be killed when it is about to change a file below a folder for the time of this number.

    Args:
        number: 1 is the first; 0 is never, and only counts.
        folder: Where changes count.
    """
    below = str(folder.resolve())

    def prepare(counter: Any) -> None:
        parent = os.getpid()

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event not in FILE_EVENTS or os.getpid() != parent or not _changes(event, arguments, below):
                return
            count = int.from_bytes(counter[:8], "little") + 1
            counter[:8] = count.to_bytes(8, "little")
            if count == number:
                os.kill(parent, signal.SIGKILL)

        sys.addaudithook(hook)

    return prepare


def killed_after(seconds: float) -> Callable[[Any], None]:
    """Let the kernel end a child after so much CPU time, amid whatever it does: SIGPROF ends who does not handle it."""

    def prepare(counter: Any) -> None:
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, max(seconds, 1e-3))

    return prepare


def _changes(event: str, arguments: tuple[Any, ...], below: str) -> bool:
    path = arguments[0]
    if not isinstance(path, str | os.PathLike):
        return False
    if event == "open" and not int(arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
        return False
    return os.path.abspath(path).startswith(below)


def on_small_disk(place: Path, size: int, *, read_only: bool = False) -> Callable[[Any], None]:
    """Mount a disk of so many bytes at a folder, which only the child sees; OSError where that is not allowed.

    Args:
        place: The folder.
        size: Bytes.
        read_only: Whether it can only be read.
    """

    def prepare(counter: Any) -> None:
        user, group = os.getuid(), os.getgid()
        _call("unshare", CLONE_NEWNS | (CLONE_NEWUSER if user else 0))
        if user:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
            Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
        _call("mount", b"none", b"/", None, MS_PRIVATE, None)  # and all below it: nobody else sees what follows
        _call("mount", b"tmpfs", os.fsencode(place), b"tmpfs", MS_RDONLY if read_only else 0, b"size=%d" % size)

    return prepare


def _call(name: str, *arguments: Any) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def with_small_files(size: int) -> Callable[[Any], None]:
    """Let no file of a child grow beyond so many bytes, as `ulimit -f`."""
    return lambda counter: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def remounted(place: Path, size: int) -> None:
    """Give the disk that was mounted there this size, in the child."""
    _call("mount", b"none", os.fsencode(place), b"tmpfs", MS_REMOUNT, b"size=%d" % size)
