"""Output tokens per second from a server: `vllm bench serve`, and the engine of `tailgrad sample`, on the same prompts.

Usage: python benchmarks/server_throughput.py http://localhost:8000 MODEL [prompts, default 512] [tokens, default 64]
           [rounds, default 8]

Run it where vLLM is installed (make check-engines makes such an environment), with a server of MODEL running. All send
64 requests at once, one response each, and take turns: the engine and the server's own benchmark, both with
log-probabilities, as the engine asks for them at temperature 1, and without. Printed are the rates and the mean ratios
of a round of the engine to the benchmark (geometric), with their 95% intervals over rounds.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from scipy.stats import sem, t

from tailgrad.models.openai_engine import OpenAIEngine
from tailgrad.models.openai_requests import request_settings
from tailgrad.models.server import Server

CONCURRENCY = 64
WORDS = ["one", "two", "three", "four", "five", "six", "seven"]


def theirs(url: str, model: str, prompts: list[str], tokens: int, *, logprobs: bool) -> float:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "prompts.jsonl")
        data.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
        command = [str(Path(sys.executable).parent / "vllm"), "bench", "serve", "--base-url", url, "--model", model]
        command += ["--dataset-name", "custom", "--dataset-path", str(data), "--custom-output-len", str(tokens)]
        command += ["--skip-chat-template", "--num-prompts", str(len(prompts)), "--temperature", "1"]
        command += ["--max-concurrency", str(CONCURRENCY), "--disable-tqdm"]
        command += ["--logprobs", "1"] if logprobs else []
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Output token throughput \(tok/s\):\s+([\d.]+)", said)
    assert found, said
    return float(found[1])


def ours(url: str, model: str, prompts: list[str], tokens: int, *, logprobs: bool) -> float:
    server = Server(f"{url}/v1", timeout=600.0, key_variable="OPENAI_API_KEY", connections=CONCURRENCY)
    settings = request_settings({"temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_new_tokens": tokens})
    engine = OpenAIEngine(server, model, prompts, n=1, settings=settings, concurrency=CONCURRENCY, logprobs=logprobs)
    begun = time.monotonic()
    found = [one for _, responses in engine.responses([range(len(prompts))]) for one in responses]
    seconds = time.monotonic() - begun
    return sum((one.num_tokens or 0) + one.finished for one in found) / seconds


RUNS = {
    (who, logprobs): partial(run, logprobs=logprobs)
    for who, run in (("the engine", ours), ("vllm bench serve", theirs))
    for logprobs in (True, False)
}
HOW = {True: "with log-probabilities", False: "without"}


def main(url: str, model: str, count: str = "512", tokens: str = "64", rounds: str = "8") -> None:
    prompts = [" ".join(WORDS[(i // 7**k) % 7] for k in range(4)) for i in range(int(count))]
    ours(url, model, prompts[:CONCURRENCY], 2, logprobs=True)  # warms the server up
    found = []
    for number in range(int(rounds)):
        order = [*RUNS][number % 4 :] + [*RUNS][: number % 4]
        rates = {name: RUNS[name](url, model, prompts, int(tokens)) for name in order}
        found.append(rates)
        told = (f"{who} {HOW[logprobs]} {rate:.0f}" for (who, logprobs), rate in rates.items())
        print(", ".join(told), "tokens per second", flush=True)
    for logprobs, how in HOW.items():
        engine, benchmark = (
            np.log([rates[who, logprobs] for rates in found]) for who in ("the engine", "vllm bench serve")
        )
        ratios = engine - benchmark
        ends = np.exp([ratios.mean(), *t.interval(0.95, len(ratios) - 1, ratios.mean(), sem(ratios))])
        print(f"{how}: {ends[0]:.3f} [{ends[1]:.3f}, {ends[2]:.3f}] of vllm bench serve")


if __name__ == "__main__":
    main(*sys.argv[1:])
