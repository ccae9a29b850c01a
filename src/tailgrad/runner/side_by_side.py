"""Run commands side by side: each in a process group of its own, whose progress is read from its events."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tailgrad.events import VARIABLE, EventReader, words_of
from tailgrad.runner import guard

_SECONDS_IN_A_FILE = 60.0
"""Between two states of a job's bar where it is written into a file."""


def flags(options: Mapping[str, Any]) -> list[str]:
    """Options as a command line, `--name value`.

    Args:
        options: By name: a list gives several values, a mapping JSON, None is left out.

    Returns:
        The words.

    Examples:
        >>> flags({"n": 4, "names": ["a", "b"], "seed": None, "kwargs": {"a": 1}})
        ['--n', '4', '--names', 'a', 'b', '--kwargs', '{"a": 1}']
    """
    argv: list[str] = []
    for name, value in options.items():
        if value is not None:
            values = value if isinstance(value, list | tuple) else [value]
            argv += [f"--{name}", *(json.dumps(one) if isinstance(one, Mapping) else str(one) for one in values)]
    return argv


@dataclass(frozen=True)
class Job:
    """One `tailgrad` command, or another module that runs as a program.

    Attributes:
        name: Shown at its progress bar.
        argv: The command's arguments.
        log: Where its output goes, after that of earlier attempts.
        total: Steps of its progress bar, until its events say another number.
        module: What `python -m` runs.
        folder: The working folder; None is the present one.
    """

    name: str
    argv: Sequence[str]
    log: Path
    total: int
    module: str = "tailgrad.cli.main"
    folder: Path | None = None

    @property
    def events(self) -> Path:
        """Where its events go, after those of earlier attempts; see `tailgrad.events`."""
        return events_beside(self.log)


def events_beside(log: Path) -> Path:
    """The file of events of a job.

    Args:
        log: Where the job's output goes.

    Returns:
        The file beside it.
    """
    return log.with_suffix(".events.jsonl")


def stop_on_signals() -> None:
    """Let SIGINT and SIGTERM end this process by an exception, so that its jobs are stopped before it ends.

    A shell starts what it puts in the background (`command &`) with SIGINT ignored; that is undone here.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def run_side_by_side(
    chains: Sequence[Job | Iterable[Job]], *, processes: int, overall: str | None = None, keep_going: bool = False
) -> None:
    """Run jobs, at most `processes` at once, showing a progress bar for each.

    No job outlives this process, and nothing that a job started outlives the job: see `tailgrad.runner.guard`.

    Args:
        chains: Jobs, or chains of jobs that run one after another, started in their order. The next job of a chain is
            asked for when the one before has ended, so that a generator may look at what it left.
        processes: How many run at once; each gets its share of the cores as threads, or OMP_NUM_THREADS where that
            is set.
        overall: Name of a bar that counts finished chains; the bars of finished jobs then disappear.
        keep_going: Let the other chains go on when a job has failed, and raise at the end.

    Raises:
        ValueError: `processes` is below 1.
        RuntimeError: A job failed; the message ends with the last lines of its log. Without `keep_going` the others
            are stopped.
    """
    from tqdm import tqdm

    if processes < 1:
        raise ValueError(f"processes is {processes}; at least 1 command must run at a time.")
    waiting = [iter([chain] if isinstance(chain, Job) else chain) for chain in chains]
    total = tqdm(total=len(waiting), desc=overall, disable=overall is None, mininterval=0)
    threads = max(1, (os.cpu_count() or 1) // processes)
    running: list[_Running] = []
    failures: list[str] = []
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                chain = waiting.pop(0)
                if (job := next(chain, None)) is None:
                    total.update()
                    continue
                running.append(_start(job, chain, threads, leave=overall is None))
            time.sleep(0.3)
            for started in [one for one in running if one.has_ended()]:
                running.remove(started)
                failure = started.failure()
                if failure and not keep_going:
                    raise RuntimeError(failure)
                failures += [failure] if failure else []
                waiting[:0] = [] if failure else [started.chain]
    finally:
        _stop(running)
        total.close()
    if failures:
        raise RuntimeError("\n\n".join(failures))


@dataclass(frozen=True)
class _Running:
    job: Job
    chain: Iterator[Job]
    process: subprocess.Popen[bytes]
    log_start: int
    events: EventReader
    bar: Any

    def has_ended(self) -> bool:
        """Show how far the job is, and tell whether it has ended."""
        ended = self.process.poll() is not None
        for event in self.events.new():
            self._show(event)
        now = time.time()
        if now - self.bar.last_print_t >= self.bar.mininterval:
            self.bar.last_print_t = now
            self.bar.refresh()
        return ended

    def _show(self, event: dict[str, Any]) -> None:
        kind = event["kind"]
        done = event.get("step" if kind in ("start", "step") else "done")
        if done is None:
            return
        if kind == "start" or (kind == "progress" and not self.bar.n):
            self.bar.initial, self.bar.start_t = done, time.time()  # what an earlier attempt did is not of this rate
        self.bar.n, self.bar.total = done, event.get("total", self.bar.total)
        if words := words_of(event):
            self.bar.set_postfix_str(words, refresh=False)

    def leave(self) -> None:
        """Close the pipe that the guard watches: it stops the job, also when this process ends before the job does."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def end(self) -> int:
        """End at once what is left of the job, and return its exit code."""
        self.leave()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.bar.close()
        assert self.process.stdout is not None
        with self.process.stdout as told:
            return int(told.read() or 128 + signal.SIGKILL)  # nothing: the guard was killed

    def failure(self) -> str:
        """End the job, and return what to say if it failed; empty for one that did not."""
        code = self.end()
        if code == 0:
            return ""
        with self.job.log.open("rb") as log:
            log.seek(max(self.log_start, log.seek(0, os.SEEK_END) - 20_000))
            lines = re.split(r"[\r\n]+", log.read().decode(errors="replace").strip())
        how = f"exit code {code}" + (", killed" if code == 128 + signal.SIGKILL else "")
        return f"{self.job.name} failed ({how}; log: {self.job.log}):\n" + "\n".join(lines[-8:])


def _start(job: Job, chain: Iterator[Job], threads: int, *, leave: bool) -> _Running:
    from tqdm import tqdm

    job.log.parent.mkdir(parents=True, exist_ok=True)
    events = EventReader.at_end(job.events)
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ, "TOKENIZERS_PARALLELISM": "false"}
    environment[VARIABLE] = str(job.events.resolve())
    command = [sys.executable, "-m", job.module, *job.argv]
    guarded = [sys.executable, "-I", "-S", guard.__file__, *command]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with job.log.open("ab") as log:
        log.write(f"--- {datetime.now():%Y-%m-%d %H:%M:%S} {' '.join(command)}\n".encode())
        log.flush()
        place = log.tell()
        process = subprocess.Popen(
            guarded, **pipes, stderr=log, env=environment, cwd=job.folder, start_new_session=True
        )
    bar = tqdm(
        total=job.total,
        desc=f"{job.name:<16}",
        leave=leave,
        mininterval=0.0 if sys.stderr.isatty() else _SECONDS_IN_A_FILE,
    )
    return _Running(job, chain, process, place, events, bar)


def _stop(running: Sequence[_Running]) -> None:
    """Stop jobs, all of them before any is waited for; who asks again while they end has them ended at once."""
    try:
        for started in running:
            started.leave()
        for started in running:
            started.process.wait()
    finally:
        for started in running:
            started.end()
