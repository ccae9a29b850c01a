"""Nothing outlives the process that asked for it: real processes that do not want to end, stopped in every way."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import psutil
import pytest

from tailgrad.runner import Job, run_side_by_side

STUBBORN = """
import os, signal, subprocess, sys, time

signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
if len(sys.argv) == 1:
    subprocess.Popen([sys.executable, __file__, "grandchild"])
open("pids", "a").write(f"{os.getpid()} ")
time.sleep(300)
"""
PARENT = """
from pathlib import Path
from tailgrad.runner import Job, run_side_by_side, stop_on_signals

stop_on_signals()
jobs = [Job(name, [], Path(name + ".log"), 1, module="stubborn") for name in "ab"]
run_side_by_side(jobs, processes=2)
"""


def pids(folder: Path, count: int) -> list[int]:
    """The processes that have written down their id, waited for until there are so many."""
    deadline = time.monotonic() + 60
    while len(found := (folder / "pids").read_text().split() if (folder / "pids").exists() else []) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return [int(pid) for pid in found]


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def all_gone(ids: Iterable[int], within: float) -> bool:
    deadline = time.monotonic() + within
    while any(map(alive, ids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(alive, ids))


SIGNALS = (
    (signal.SIGINT, signal.SIGINT),  # asked twice: at once
    (signal.SIGTERM, signal.SIGTERM),
    (signal.SIGINT,),
    (signal.SIGKILL,),
    (signal.SIGINT, signal.SIGKILL),
    (signal.SIGHUP,),
)


def start(folder: Path, program: str = PARENT, tidy: str = "") -> subprocess.Popen[bytes]:
    """Start jobs, by default two that do not want to end, as a shell starts `command &`."""
    folder.mkdir()
    (folder / "stubborn.py").write_text(STUBBORN)
    (folder / "tidy.py").write_text(tidy)
    in_background = ["sh", "-c", 'trap "" INT; exec "$0" -c "$1"', sys.executable, program]

    def hangs_up() -> None:  # also where these tests run under nohup, which `command` would heed
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

    with (folder / "output").open("w") as output:
        return subprocess.Popen(in_background, cwd=folder, stdout=output, stderr=output, preexec_fn=hangs_up)


def test_jobs_that_ignore_signals_end_with_their_parent(tmp_path: Path) -> None:
    folders = {signals: tmp_path / "-".join(one.name for one in signals) for signals in SIGNALS}
    parents = {signals: start(folder) for signals, folder in folders.items()}
    try:
        ids = {}
        for signals, parent in parents.items():
            stubborn = pids(folders[signals], 4)
            below = [child.pid for child in psutil.Process(parent.pid).children(recursive=True)]
            ids[signals] = {*stubborn, *below}
            assert len(ids[signals]) == 6  # two jobs, each with a child, and the guards
        for turn in range(2):
            for signals, parent in parents.items():
                if turn < len(signals):
                    parent.send_signal(signals[turn])
            time.sleep(0.5)
        for signals, parent in parents.items():
            within = 4 if len(signals) == 2 and signal.SIGKILL not in signals else 20
            assert all_gone(ids[signals], within), (folders[signals] / "output").read_text()
            assert parent.wait(timeout=5) != 0
    finally:
        for parent in parents.values():
            parent.kill()
            parent.wait()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_job_may_clean_up_and_takes_its_children_along(tmp_path: Path, how: signal.Signals) -> None:
    """It is asked to end before it is made to; a child of it that does not want to is killed when it has."""
    tidy = "import signal, subprocess, sys, time\n"
    tidy += "signal.signal(signal.SIGTERM, lambda *_: sys.exit(open('goodbye', 'w').write('done')))\n"
    tidy += "subprocess.Popen([sys.executable, 'stubborn.py', 'grandchild'])\ntime.sleep(300)\n"
    parent = start(tmp_path / "in", PARENT.replace('module="stubborn"', 'module="tidy"').replace('"ab"', '"a"'), tidy)
    try:
        ids = pids(tmp_path / "in", 1)
        parent.send_signal(how)
        assert all_gone(ids, 5)
        assert (tmp_path / "in" / "goodbye").read_text() == "done"
    finally:
        parent.kill()
        parent.wait()


def test_a_job_that_ends_leaves_none_of_its_own_behind(tmp_path: Path) -> None:
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    start = "import subprocess, sys; subprocess.Popen([sys.executable, 'stubborn.py', 'grandchild'])"
    wait = "import os, time\nwhile not os.path.exists('pids'): time.sleep(0.05)"
    (tmp_path / "brief.py").write_text(f"{start}\n{wait}\n")
    run_side_by_side([Job("brief", [], tmp_path / "brief.log", 1, module="brief", folder=tmp_path)], processes=1)
    assert all_gone(pids(tmp_path, 1), 5)


def test_a_guard_that_is_killed_takes_its_job_along(tmp_path: Path) -> None:
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    killer = "import os, signal, subprocess, sys\nsubprocess.Popen([sys.executable, 'stubborn.py'])\n"
    killer += "import time\nwhile not os.path.exists('pids'): time.sleep(0.05)\nos.kill(os.getppid(), signal.SIGKILL)\n"
    (tmp_path / "killer.py").write_text(killer + "time.sleep(300)\n")
    with pytest.raises(RuntimeError, match=r"exit code 137, killed"):
        run_side_by_side([Job("killer", [], tmp_path / "log", 1, module="killer", folder=tmp_path)], processes=1)
    assert all_gone(pids(tmp_path, 1), 5)
