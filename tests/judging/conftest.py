"""Tables whose answers carry a quality that a judge on this machine can read, and such a judge."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from local_servers import Answer, quick, running
from tailgrad.curves import Rollouts
from tailgrad.judging import JudgeConfig, Outcome, judge

__all__ = ["quick"]

Configure = Callable[..., JudgeConfig]
P, M = 12, 8
N, DRAWS = 2, 3
PROMPTS = [f"request {number}" for number in range(P)]


def table(name: str, seed: int, **changes: Any) -> Rollouts:
    """Responses of a quality from 0 to 4, and rewards that pick among them."""
    draw = np.random.default_rng(seed)
    quality = draw.integers(0, 5, size=(P, M))
    texts = [[text_of(value, name) for value in row] for row in quality.tolist()]
    given = {"prompt_ids": np.arange(P) * 3, "prompts": PROMPTS, "responses": texts, "name": name}
    return Rollouts(**{"rewards": draw.normal(size=(P, M)), **given, **changes})


def text_of(quality: int, name: str) -> str:
    """An answer; of an even quality both tables give the same ones."""
    return f"q={quality} {'x' * (7 * quality % 5)}" + (f" {name}" if quality % 2 else "")


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a judge writes lands in a folder of the test."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def tables() -> tuple[Rollouts, Rollouts]:
    return table("base", 1), table("tea", 2)


def quality_of(text: str) -> int:
    return int(text[2])


def prefers(first: str, second: str) -> str:
    """The verdict of a judge that sees the quality, but takes the first of two that are nearly as good."""
    gap = quality_of(first) - quality_of(second)
    if gap == 0:
        return "C"
    return "A" if gap >= -1 else "B"


def judging(verdict: Callable[[str, str], str]) -> Callable[[str, Any], Answer]:
    """What a server answers whose judge gives these verdicts of two texts."""

    def answer(_: str, body: Any) -> Answer:
        text = body["messages"][-1]["content"]
        first, second = (re.search(rf"<answer {x}>\n(.*?)\n</answer {x}>", text, re.DOTALL)[1] for x in "AB")
        message = {"role": "assistant", "content": verdict(first, second)}
        return 200, {"choices": [{"message": message, "finish_reason": "stop"}], "usage": {"completion_tokens": 1}}

    return answer


FAIR_BUT_FOR_THE_FIRST = judging(prefers)


@pytest.fixture
def config(tmp_path: Any) -> Configure:
    """Make the config of a judge; the address is to be added."""

    def make(**changes: Any) -> JudgeConfig:
        given = {"tables": ("base", "tea"), "out": tmp_path / "judged", "concurrency": 12, "request_timeout": 5.0}
        if "base_url" in changes:
            given["judge_model"] = "the-judge"
        return JudgeConfig(**{**given, **changes})

    return make


def texts_sent(server: Any) -> list[str]:
    """The prompts that a server was sent."""
    return [body["messages"][-1]["content"] for _, body in server.seen]


def lines_of(path: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def ask(
    config: Configure, tables: Any, answer: Callable[[str, Any], Answer] = FAIR_BUT_FOR_THE_FIRST, **changes: Any
) -> tuple[Outcome, Any]:
    """What a judge finds that answers so, and its server."""
    given = {"deploy_n": N, "draws": DRAWS, **changes}
    with running(answer) as server:
        outcome = judge(config(base_url=server.url, **given), tables)
    assert outcome is not None
    return outcome, server
