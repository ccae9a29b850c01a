"""Run commands side by side, each with its own log file and progress bar."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Progress = Callable[[str], tuple[int, str]]
"""From what a job has printed so far to the steps done and a few words for the bar."""


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
    """

    name: str
    argv: Sequence[str]
    log: Path
    total: int
    progress: Progress
    module: str = "tailgrad.cli.main"


def run_side_by_side(jobs: Sequence[Job], *, processes: int) -> None:
    """Run jobs, at most `processes` at once, showing a progress bar for each.

    Args:
        jobs: The jobs, started in their order.
        processes: How many run at once; each gets its share of the cores.

    Raises:
        RuntimeError: A job failed; the message ends with the last lines of its log. The others are stopped.
    """
    from tqdm import tqdm

    waiting = list(jobs)
    running: dict[str, tuple[Job, subprocess.Popen[bytes], Any]] = {}
    threads = max(1, (os.cpu_count() or 1) // processes)
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                job = waiting.pop(0)
                bar = tqdm(total=job.total, desc=f"{job.name:<16}", leave=True, mininterval=0)
                running[job.name] = (job, _start(job, threads), bar)
            time.sleep(0.3)
            for job, process, bar in list(running.values()):
                finished = process.poll() is not None
                _show(job, bar)
                if finished:
                    bar.close()
                    del running[job.name]
                    _check(job, process.returncode)
    finally:
        for _, process, bar in running.values():
            process.terminate()
            process.wait()
            bar.close()


def _start(job: Job, threads: int) -> subprocess.Popen[bytes]:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-m", job.module, *job.argv]
    with job.log.open("wb") as log:
        return subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment
        )


def _show(job: Job, bar: Any) -> None:
    done, words = job.progress(job.log.read_text(errors="replace"))
    bar.n = min(done, job.total)
    bar.set_postfix_str(words, refresh=True)


def _check(job: Job, returncode: int) -> None:
    if returncode:
        lines = re.split(r"[\r\n]+", job.log.read_text(errors="replace").strip())
        raise RuntimeError(f"{job.name} failed (exit code {returncode}; log: {job.log}):\n" + "\n".join(lines[-8:]))


def training_progress(output: str) -> tuple[int, str]:
    """Count the steps that `tailgrad train --logging_steps 1` printed, and tell the last reward, forecast and KL."""
    logged = re.findall(r"\{'loss'.*?\}", output)
    if not logged:
        return 0, "starting"
    last = ast.literal_eval(logged[-1])
    forecast = next((value for name, value in last.items() if name.startswith("tail/forecast")), None)
    resumed = re.search(r"goes on from step (\d+)", output)
    done = len(logged) + (int(resumed.group(1)) if resumed else 0)
    return done, f"reward {last['reward']}, best-of-N forecast {forecast}, KL {last.get('kl', 'off')}"


def bar_progress(total: int) -> Progress:
    """Return a reader of the progress bar of `total` steps among all that a command printed."""

    def progress(output: str) -> tuple[int, str]:
        counts = re.findall(rf"(\d+)/{total} \[", output)
        return (int(counts[-1]) if counts else 0), ""

    return progress
