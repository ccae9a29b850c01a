"""Engines and remote rewards against vLLM itself and `transformers serve`: `make check-engines`, in its environment.

POLICY and REWARD_MODEL in the environment name other models than the tiny ones that are made here.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("vllm")

import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from tailgrad.models.loading import load_policy
from tailgrad.models.logprobs import response_logprobs
from tailgrad.rewards import RewardModel, ServedRewardModel
from tailgrad.rollouts import read_rollouts
from tailgrad.rollouts.chats import prompts_of_texts
from tailgrad.rollouts.prompts import tokenize_prompts
from tiny_policies import CHAT_TEMPLATE, WORDS, save_tokenizer

BIN = Path(sys.executable).parent
PROMPTS = [f"{a} {b}" for a in WORDS[5:] for b in WORDS[5:]][:40]
QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
REWARD = "def words(completions, **columns):\n    return [len(str(text).split()) for text in completions]\n"


def save(folder: Path, kind: Any) -> Path:
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"bos_token_id": None, "eos_token_id": 2, "pad_token_id": 1}
    model = kind(LlamaConfig(vocab_size=len(WORDS), max_position_embeddings=256, num_labels=1, **ids, **sizes))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    model.save_pretrained(folder)
    save_tokenizer(folder, pad_token="[PAD]", chat_template=CHAT_TEMPLATE)
    return folder


def given(name: str) -> str | None:
    """The folder or hub name that the environment has; commands work elsewhere, so a folder is spelled in full."""
    value = os.environ.get(name)
    return str(Path(value).resolve()) if value and Path(value).is_dir() else value


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return given("POLICY") or str(save(tmp_path_factory.mktemp("policy"), LlamaForCausalLM))


@pytest.fixture(scope="session")
def reward_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return given("REWARD_MODEL") or str(save(tmp_path_factory.mktemp("rm"), LlamaForSequenceClassification))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    chats = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    for name, prompts in (("plain", PROMPTS), ("chats", chats)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    (tmp_path / "count.py").write_text(REWARD)
    return tmp_path


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def serving(words: list[str], port: int, log: Path, path: str = "/v1/models") -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends, in a group of processes of its own; it works where its log lies."""
    with log.open("ab") as output:
        how: dict[str, Any] = {"stdout": output, "stderr": subprocess.STDOUT, "start_new_session": True}
        server = subprocess.Popen(words, env={**os.environ, **QUIET}, cwd=log.parent, **how)
    try:
        begun = time.monotonic()
        while True:
            assert server.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() - begun < 900, "the server does not start"
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5).read()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        yield server
    finally:
        end(server)


def end(server: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def vllm(model: str, port: int, *more: str) -> list[str]:
    where = ["--port", str(port), "--host", "127.0.0.1"]
    small = ["--dtype", "float32", "--max-model-len", "256", "--gpu-memory-utilization", "0.4", "--enforce-eager"]
    return [str(BIN / "vllm"), "serve", model, *where, *small, *more]


def sampling(
    folder: Path, model: str, *more: str, data: str = "plain", out: str = "t.parquet", n: int = 8
) -> list[str]:
    words = [sys.executable, "-m", "tailgrad.cli.main", "sample", "--model_name_or_path", model, "--n", str(n)]
    words += ["--dataset_name", str(folder / f"{data}.jsonl"), "--max_completion_length", "24", "--batch_size", "8"]
    return [*words, "--reward_funcs", "count.words", "--out", str(folder / out), *more]


def call(words: list[str], folder: Path) -> str:
    done = subprocess.run(words, cwd=folder, env={**os.environ, **QUIET}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def check(path: Path, model: str, n: int = 8) -> Any:
    """All responses are there once; tokens, texts, counts and log-probabilities are those of the policy itself."""
    table = read_rollouts(path)
    assert table.rewards.shape == (table.metadata["dataset"]["num_prompts"], n)
    policy, tokenizer = load_policy(model)
    prompts = tokenize_prompts(tokenizer, prompts_of_texts(table.prompts))
    token_ids = table.known("token_ids")
    np.testing.assert_array_equal(table.num_tokens + table.finished, np.vectorize(len)(token_ids))
    assert table.finished.any()
    responses = [ids.tolist() for ids in token_ids.ravel()]
    texts = [text.strip() for group in table.responses for text in group]  # servers may keep the space before a word
    decoded = [text.strip() for text in tokenizer.batch_decode(responses, skip_special_tokens=True)]
    for text, whole, finished in zip(texts, decoded, table.finished.ravel(), strict=True):
        allowed = {whole} if finished else {whole, whole.rstrip("\ufffd").strip()}  # vLLM leaves out half a character
        assert text in allowed
    inputs = [prompts[row] for row in range(len(prompts)) for _ in range(n)]
    exact = response_logprobs(policy, inputs, responses, temperature=1.0, batch_size=64)
    np.testing.assert_allclose(table.logprobs.ravel(), exact, atol=1e-3 * 24)
    return table


def test_a_real_server_and_its_deaths(model: str, folder: Path) -> None:
    """Chats and prompts; then it is killed, then a request of somebody else kills its engine: nothing is lost."""
    port, log = free_port(), folder / "server.log"
    to = ["--engine", "openai", "--base_url", f"http://127.0.0.1:{port}", "--concurrency", "4"]
    for fault in (kill, poison):
        out = f"{fault.__name__}.parquet"
        words = sampling(folder, model, *to, out=out)
        with serving(vllm(model, port), port, log) as server:
            if fault is kill:
                call(sampling(folder, model, *to, data="chats", out="chats.parquet"), folder)
                check(folder / "chats.parquet", model)
            running = subprocess.Popen(words, cwd=folder, stderr=subprocess.PIPE, text=True)
            parts = folder / f"{out}.parts"
            until_parts(parts, running)
            fault(server, port, model)
            said = running.communicate(timeout=300)[1]
        assert running.returncode == 2, said
        assert said.count("tailgrad sample: error:") == 1
        assert "the same command goes on" in said.splitlines()[-1]
        kept = {path.name: path.read_bytes() for path in parts.glob("part-*")}
        assert 3 <= len(kept) < len(PROMPTS)
        with serving(vllm(model, port), port, log):
            call(words, folder)
        check(folder / out, model)


def test_a_real_server_that_hangs_is_waited_for(model: str, folder: Path) -> None:
    """It is stopped for longer than a request may take, and then goes on."""
    port = free_port()
    to = ["--engine", "openai", "--base_url", f"http://127.0.0.1:{port}", "--concurrency", "4"]
    words = sampling(folder, model, *to, "--request_timeout", "5")
    with serving(vllm(model, port), port, folder / "server.log") as server:
        running = subprocess.Popen(words, cwd=folder, stderr=subprocess.PIPE, text=True)
        until_parts(folder / "t.parquet.parts", running)
        os.killpg(server.pid, signal.SIGSTOP)
        time.sleep(8)
        os.killpg(server.pid, signal.SIGCONT)
        said = running.communicate(timeout=300)[1]
    assert running.returncode == 0, said
    assert "no answer within 5 seconds" in said
    assert "answers again" in said
    check(folder / "t.parquet", model)


def until_parts(parts: Path, running: subprocess.Popen[str]) -> None:
    """Wait until three parts of a table are there."""
    while len(list(parts.glob("part-*"))) < 3:
        assert running.poll() is None, "it was done before it could be disturbed"
        time.sleep(0.01)


def kill(server: subprocess.Popen[bytes], port: int, model: str) -> None:
    os.killpg(server.pid, signal.SIGKILL)


def poison(server: subprocess.Popen[bytes], port: int, model: str) -> None:
    """A request with a seed ends vLLM's engine on a CPU."""
    body = json.dumps({"model": model, "prompt": "one", "max_tokens": 2, "seed": 1}).encode()
    address, headers = f"http://127.0.0.1:{port}/v1/completions", {"Content-Type": "application/json"}
    try:
        urllib.request.urlopen(urllib.request.Request(address, body, headers), timeout=60)
    except (urllib.error.URLError, OSError):
        return
    kill(server, port, model)  # where a seed is no poison any more


@pytest.mark.parametrize("path", ["pooling", "classify"])
def test_a_served_reward_model(reward_model: str, tmp_path: Path, path: str) -> None:
    port = free_port()
    texts = ["one two </s>", "seven", "three four five six </s>"]
    local = RewardModel(reward_model)(prompts=PROMPTS[:3], completions=texts)
    with serving(vllm(reward_model, port, "--runner", "pooling"), port, tmp_path / "server.log"):
        served = ServedRewardModel(reward_model, url=f"http://127.0.0.1:{port}/{path}", batch_size=2)
        assert served(prompts=PROMPTS[:3], completions=texts) == pytest.approx(local, rel=1e-3, abs=1e-3)


def test_the_best_of_n_in_front_of_a_real_server(model: str, folder: Path) -> None:
    """The official client, chats and prompts, streams and prices; a prompt too long; vLLM dies and comes back."""
    openai = pytest.importorskip("openai")
    port, ours = free_port(), free_port()
    words = [sys.executable, "-m", "tailgrad.cli.main", "serve", "--model_name_or_path", model, "--n", "16"]
    words += ["--base_url", f"http://127.0.0.1:{port}", "--reward_funcs", "count.words", "--port", str(ours)]
    words += ["--max_completion_length", "24", "--served_model_name", "tiny"]
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{ours}/v1", api_key="none", max_retries=0, timeout=120)
    chat: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": PROMPTS[0]}]}

    def answered(**more: Any) -> Any:
        return client.chat.completions.create(**chat, extra_body={"return_candidates": True, **more})

    with ExitStack() as ending:
        behind = ending.enter_context(serving(vllm(model, port), port, folder / "vllm.log"))
        ending.enter_context(serving(words, ours, folder / "serve.log", path="/health"))
        found = answered()
        extras = found.tailgrad
        rewards = [one["reward"] for one in extras["candidates"]]
        assert (extras["asked"], extras["scored"], len(rewards)) == (16, 16, 16)
        assert extras["reward"] == max(rewards)
        assert extras["candidates"][rewards.index(max(rewards))]["text"] == found.choices[0].message.content
        assert len(set(rewards)) > 1
        assert found.usage.completion_tokens >= sum(len(one["text"].split()) for one in extras["candidates"])
        priced = answered(best_of_n=64, max_price=0.3).tailgrad
        assert 8 <= priced["asked"] < 64
        stream = client.completions.create(model="tiny", prompt=PROMPTS[1], stream=True)
        assert "".join(event.choices[0].text for event in stream if event.choices).strip()
        with pytest.raises(openai.BadRequestError, match="refuses"):
            client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "one " * 400}])
        assert answered().tailgrad["scored"] == 16
        end(behind)
        with pytest.raises(openai.InternalServerError, match="connection failed"):
            answered()
        ending.enter_context(serving(vllm(model, port), port, folder / "vllm.log"))
        assert answered().tailgrad["scored"] == 16
    assert "Traceback" not in (folder / "serve.log").read_text()


def test_vllm_in_this_process(model: str, folder: Path) -> None:
    options = json.dumps({"gpu_memory_utilization": 0.4, "max_model_len": 256, "enforce_eager": True})
    call(sampling(folder, model, "--engine", "vllm", "--engine_kwargs", options, "--batch_size", "64"), folder)
    check(folder / "t.parquet", model)


def test_a_second_kind_of_server(model: str, folder: Path) -> None:
    """`transformers serve` gives one response whatever is asked for, and samples only if the model's files say so."""
    port = free_port()
    serve = [str(BIN / "transformers"), "serve", "--port", str(port), "--host", "127.0.0.1", "--device", "cpu"]
    sampled = shutil.copytree(model, folder / "sampled")
    settings = {"do_sample": True, "top_k": 0, "eos_token_id": 2, "pad_token_id": 1}
    (sampled / "generation_config.json").write_text(json.dumps(settings))
    to = ["--engine", "openai", "--base_url", f"http://127.0.0.1:{port}", "--concurrency", "2", "--limit", "4"]
    with serving(serve, port, folder / "server.log", path="/health"):
        greedy = call(sampling(folder, model, *to, data="chats", out="greedy.parquet", n=3), folder)
        said = call(sampling(folder, str(sampled), *to, data="chats", n=3), folder)
    assert ("is it sampling" in greedy, "is it sampling" in said) == (True, False)
    assert "responses; it is asked for 1 at once" in said
    table = read_rollouts(folder / "t.parquet")
    assert table.rewards.shape == (4, 3)
    assert len({text for group in table.responses for text in group}) > 6
