"""A real server of the best of N in a thread, and a policy that does as a test says."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tailgrad.models.engine import Response
from tailgrad.rollouts.prompts import plain_completions
from tailgrad.serving import BestOfN, ServeConfig
from tailgrad.serving.policy import Draw, Wish
from tailgrad.serving.run import Server, listening_at
from tailgrad.serving.service import Service

Make = Callable[..., BestOfN]
"""Makes a call that is closed at the end of a test."""

ASK = [{"role": "user", "content": "one two"}]


def length(*, completions: list[Any], **columns: Any) -> list[float]:
    """The reward of a text is its number of characters."""
    return [float(len(content_of(one))) for one in completions]


def number_of(*, completions: list[Any], **columns: Any) -> list[float]:
    """The reward of a text is the number that it ends with, as those of the stub do."""
    return [float(content_of(one).split()[-1]) for one in completions]


def content_of(completion: Any) -> str:
    return completion if isinstance(completion, str) else completion[0]["content"]


def numbered(_: Wish, count: int, first: int) -> list[str]:
    """The texts of a scripted policy, one after the other."""
    return [f"text {number}" for number in range(first, first + count)]


class Scripted:
    """A policy whose texts a test decides, by `texts(wish, count, first)`; None is a sample that fails."""

    name = "scripted"

    def __init__(self, texts: Callable[[Wish, int, int], Any]) -> None:
        self.texts = texts
        self.wishes: list[tuple[Wish, int, int]] = []
        self.begun = self.ended = self.cancelled = 0

    async def draw(self, wish: Wish, count: int, first: int) -> Draw:
        self.wishes.append((wish, count, first))
        self.begun += 1
        try:
            texts = self.texts(wish, count, first)
            texts = await texts if isinstance(texts, Awaitable) else texts
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.ended += 1
        given = [text for text in texts if text is not None]
        responses = [Response(text=text, finished=True, num_tokens=len(text.split())) for text in given]
        return Draw(
            responses=responses,
            completions=plain_completions([wish.prompt], given),
            reasons=() if len(given) == len(texts) else ("the backend is tired",),
            prompt_tokens=2,
            completion_tokens=sum(len(text.split()) + 1 for text in given),
        )

    async def aclose(self) -> None:
        pass


@dataclass
class Running:
    """A server that runs."""

    url: str
    port: int
    service: Service
    server: Server
    thread: threading.Thread


@contextmanager
def serving(best: BestOfN | None = None, **options: Any) -> Iterator[Running]:
    """Run a server for as long as the block takes."""
    options = {"model_name_or_path": "scripted", "reward_funcs": length, "shutdown_seconds": 2.0, **options}
    config = ServeConfig(**options)
    listening = listening_at("127.0.0.1", 0)
    port = listening.getsockname()[1]
    service = Service(config, best or BestOfN.of(config.sampling()))
    server = Server(service)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])), daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        thread.join(0.005)
    try:
        yield Running(f"http://127.0.0.1:{port}", port, service, server, thread)
    finally:
        if thread.is_alive():
            server.end()
        thread.join(20)
        listening.close()
        assert not thread.is_alive()
