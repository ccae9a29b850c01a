"""Output tokens per second from a server: `vllm bench serve`, and the engine of `tailgrad sample`, on the same prompts.

Usage: python benchmarks/server_throughput.py http://localhost:8000 MODEL [prompts, default 512] [tokens, default 64]

Run it where vLLM is installed (make check-engines makes such an environment), with a server of MODEL running. Both send
64 requests at once, one response each, and take turns three times; the ratio of the best runs is printed.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tailgrad.models.openai_engine import OpenAIEngine, request_settings
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


def main(url: str, model: str, count: str = "512", tokens: str = "64") -> None:
    prompts = [" ".join(WORDS[(i // 7**k) % 7] for k in range(4)) for i in range(int(count))]
    ours(url, model, prompts[:CONCURRENCY], 2)  # warms the server up
    rates = [[run(url, model, prompts, int(tokens)) for run in (ours, theirs)] for _ in range(3)]
    best = [max(rate) for rate in zip(*rates, strict=True)]
    print(f"tailgrad {best[0]:.1f} tokens per second, vllm bench serve {best[1]:.1f}: {best[0] / best[1]:.3f}")
    print(f"all runs: {rates}")


if __name__ == "__main__":
    main(*sys.argv[1:])
