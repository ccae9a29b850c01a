"""Run commands side by side, each with its own log file and progress bar."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Progress = Callable[[str], tuple[int, str]]
"""From what a job has printed so far to the steps done and a few words for the bar."""


def flags(options: Mapping[str, Any]) -> list[str]:
    """Options as a command line: `--name value`; a list gives several values, a mapping JSON, None is left out.

    Example:
        >>> flags({"n": 4, "reward": ["a", "b"], "seed": None})
        ['--n', '4', '--reward', 'a', 'b']
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
        log: Where its output goes.
        total: Steps of its progress bar.
        progress: Reads the progress from the output.
        module: What `python -m` runs.
        folder: The working folder; None is the present one.
    """

    name: str
    argv: Sequence[str]
    log: Path
    total: int
    progress: Progress
    module: str = "tailgrad.cli.main"
    folder: Path | None = None


def run_side_by_side(
    chains: Sequence[Job | Iterable[Job]], *, processes: int, overall: str | None = None, keep_going: bool = False
) -> None:
    """Run jobs, at most `processes` at once, showing a progress bar for each.

    Args:
        chains: Jobs, or chains of jobs that run one after another, started in their order. The next job of a chain is
            asked for when the one before has ended, so that a generator may look at what it left.
        processes: How many run at once; each gets its share of the cores as threads, or OMP_NUM_THREADS where that
            is set.
        overall: Name of a bar that counts finished chains; the bars of finished jobs then disappear.
        keep_going: Let the other chains go on when a job has failed, and raise at the end.

    Raises:
        RuntimeError: A job failed; the message ends with the last lines of its log. Without `keep_going` the others
            are stopped.
    """
    from tqdm import tqdm

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
            for started in list(running):
                if not started.has_ended():
                    continue
                running.remove(started)
                failure = _failure(started)
                if failure and not keep_going:
                    raise RuntimeError(failure)
                failures += [failure] if failure else []
                waiting[:0] = [] if failure else [started.chain]
    finally:
        for started in running:
            started.process.terminate()
            started.process.wait()
            started.bar.close()
        total.close()
    if failures:
        raise RuntimeError("\n\n".join(failures))


@dataclass(frozen=True)
class _Running:
    job: Job
    chain: Iterator[Job]
    process: subprocess.Popen[bytes]
    bar: Any

    def has_ended(self) -> bool:
        """Show how far the job is, and tell whether it has ended."""
        ended = self.process.poll() is not None
        done, words = self.job.progress(self.job.log.read_text(errors="replace"))
        if done and not self.bar.n:  # what a resumed job had done before counts neither for its rate nor its end
            self.bar.initial, self.bar.start_t = done, time.time()
        self.bar.n = min(done, self.job.total)
        self.bar.set_postfix_str(words, refresh=True)
        if ended:
            self.bar.close()
        return ended


def _start(job: Job, chain: Iterator[Job], threads: int, *, leave: bool) -> _Running:
    from tqdm import tqdm

    job.log.parent.mkdir(parents=True, exist_ok=True)
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ, "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-m", job.module, *job.argv]
    with job.log.open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment, cwd=job.folder
        )
    return _Running(job, chain, process, tqdm(total=job.total, desc=f"{job.name:<16}", leave=leave, mininterval=0))


def _failure(started: _Running) -> str:
    """What to say of a job that failed; empty for one that did not."""
    job, code = started.job, started.process.returncode
    if not code:
        return ""
    lines = re.split(r"[\r\n]+", job.log.read_text(errors="replace").strip())
    return f"{job.name} failed (exit code {code}; log: {job.log}):\n" + "\n".join(lines[-8:])


def training_progress(output: str) -> tuple[int, str]:
    """Count the steps that `tailgrad train --logging_steps 1` printed, and tell the last reward, forecast and KL."""
    logged = re.findall(r"\{'loss'.*?\}", output)
    if not logged:
        return 0, "starting"
    last = ast.literal_eval(logged[-1])
    forecast = next((value for name, value in last.items() if name.startswith("tail/forecast")), None)
    done = len(logged) + resumed_from(output)
    return done, f"reward {last['reward']}, best-of-N forecast {forecast}, KL {last.get('kl', 'off')}"


def resumed_from(output: str) -> int:
    """The step that a resumed training printed to go on from; 0 for one that began anew."""
    found = re.search(r"goes on from step (\d+)", output)
    return int(found.group(1)) if found else 0


def bar_progress(total: int) -> Progress:
    """Return a reader of the progress bar of `total` steps among all that a command printed."""

    def progress(output: str) -> tuple[int, str]:
        counts = re.findall(rf"(\d+)/{total} \[", output)
        return (int(counts[-1]) if counts else 0), ""

    return progress
