"""Output tokens per second from a server: `vllm bench serve`, and the engine of `tailgrad sample`, on the same prompts.

Usage: python benchmarks/server_throughput.py http://localhost:8000 MODEL [prompts, default 512] [tokens, default 64]
           [pairs, default 8]

Run it where vLLM is installed (make check-engines makes such an environment), with a server of MODEL running. Both send
64 requests at once, one response each, and take turns, one first and then the other. Printed are the rates and the mean
ratio of a pair (geometric), with its 95% interval over pairs.
"""

import json
import math
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.stats import sem, t

from tailgrad.models.openai_engine import OpenAIEngine
from tailgrad.models.openai_requests import request_settings
from tailgrad.models.server import Server

CONCURRENCY = 64
WORDS = ["one", "two", "three", "four", "five", "six", "seven"]


def theirs(url: str, model: str, prompts: list[str], tokens: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "prompts.jsonl")
        data.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
        command = [str(Path(sys.executable).parent / "vllm"), "bench", "serve", "--base-url", url, "--model", model]
        command += ["--dataset-name", "custom", "--dataset-path", str(data), "--custom-output-len", str(tokens)]
        command += ["--skip-chat-template", "--num-prompts", str(len(prompts)), "--temperature", "1"]
        command += ["--max-concurrency", str(CONCURRENCY), "--disable-tqdm"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Output token throughput \(tok/s\):\s+([\d.]+)", said)
    assert found, said
    return float(found[1])


def ours(url: str, model: str, prompts: list[str], tokens: int) -> float:
    server = Server(f"{url}/v1", timeout=600.0, key_variable="OPENAI_API_KEY", connections=CONCURRENCY)
    settings = request_settings({"temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_new_tokens": tokens})
    engine = OpenAIEngine(server, model, prompts, n=1, settings=settings, concurrency=CONCURRENCY, logprobs=True)
    begun = time.monotonic()
    found = [one for _, responses in engine.responses([range(len(prompts))]) for one in responses]
    seconds = time.monotonic() - begun
    return sum((one.num_tokens or 0) + one.finished for one in found) / seconds


def main(url: str, model: str, count: str = "512", tokens: str = "64", pairs: str = "8") -> None:
    prompts = [" ".join(WORDS[(i // 7**k) % 7] for k in range(4)) for i in range(int(count))]
    ours(url, model, prompts[:CONCURRENCY], 2)  # warms the server up
    ratios = []
    for pair in range(int(pairs)):
        order = (ours, theirs) if pair % 2 == 0 else (theirs, ours)
        rates = {run: run(url, model, prompts, int(tokens)) for run in order}
        ratios.append(math.log(rates[ours] / rates[theirs]))
        print(f"tailgrad {rates[ours]:.0f} tokens per second, vllm bench serve {rates[theirs]:.0f}", flush=True)
    low, high = t.interval(0.95, len(ratios) - 1, np.mean(ratios), sem(ratios))
    ratio, low, high = np.exp([np.mean(ratios), low, high])
    print(f"ratio {ratio:.3f} [{low:.3f}, {high:.3f}]")


if __name__ == "__main__":
    main(*sys.argv[1:])
