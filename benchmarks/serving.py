"""Latency of `tailgrad serve` at N = 16, and that of the server behind it for the same 16 samples, asked in turn.

Usage: python benchmarks/serving.py [URL MODEL] [requests, default 100]

Without a URL a stub stands behind it, which answers after 200 ms. The reward is the length of a text, so the difference
is what serving itself adds. Printed are the medians, their difference with a 95% interval from 2,000 resamples of the
requests, and their ratio.
"""

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

N = 16
HERE = Path(__file__).resolve().parent
STUB = HERE.parent / "tests" / "stub_backend.py"


def length(completions: list[Any], **columns: Any) -> list[float]:
    return [float(len(one[0]["content"])) for one in completions]


@contextlib.contextmanager
def running(command: list[str], first_line: Callable[[subprocess.Popen[str]], str]) -> Iterator[str]:
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, *command], text=True, cwd=HERE, **pipes) as process:
        try:
            line = first_line(process)
            for pipe in (process.stdout, process.stderr):  # which would fill up
                threading.Thread(target=pipe.read, daemon=True).start()
            yield line
        finally:
            process.terminate()


@contextlib.contextmanager
def backend(url: str | None) -> Iterator[str]:
    if url is not None:
        yield url
        return
    with running([str(STUB), "0", "0.2"], lambda process: process.stdout.readline()) as port:
        yield f"http://127.0.0.1:{port.strip()}/v1"


def seconds_of(client: httpx2.Client, url: str, body: dict[str, Any]) -> float:
    begun = time.perf_counter()
    answer = client.post(f"{url}/chat/completions", json=body)
    seconds = time.perf_counter() - begun
    answer.raise_for_status()
    return seconds


def measure(behind: str, served: str, model: str, count: int) -> np.ndarray:
    """Seconds `[count, 2]` of the server behind and of ours."""
    messages = [{"role": "user", "content": "Name a prime above 1000."}]
    body = {"model": model, "messages": messages, "max_tokens": 64}
    asks = ((behind, body | {"n": N}), (served, body | {"best_of_n": N}))
    with httpx2.Client(timeout=600.0) as client:
        rows = [[seconds_of(client, url, body) for url, body in asks] for _ in range(count + 5)]
    return np.array(rows[5:])  # the first ones open connections


def main(url: str | None = None, model: str = "stub", requests: str = "100") -> None:
    with backend(url) as behind:
        command = ["-m", "tailgrad.cli.main", "serve", "--model_name_or_path", model, "--base_url", behind]
        command += ["--reward_funcs", "serving.length", "--port", "0", "--n", str(N)]
        with running(command, lambda process: process.stderr.readline()) as line:
            seconds = measure(behind, json.loads(line)["url"], model, int(requests))
    drawn = np.random.default_rng(0).integers(len(seconds), size=(2000, len(seconds)))
    differences = np.diff(np.median(seconds[drawn], axis=1), axis=-1)[:, 0] * 1000
    theirs, ours = np.median(seconds, axis=0) * 1000
    low, high = np.quantile(differences, [0.025, 0.975])
    print(f"median of {len(seconds)}: behind {theirs:.1f} ms, through tailgrad serve {ours:.1f} ms")
    print(f"difference {ours - theirs:.1f} ms [{low:.1f}, {high:.1f}], ratio {ours / theirs:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
