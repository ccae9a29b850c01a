"""A policy in this process: transformers, one prompt after the other in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from tailgrad.models.batching import check_batches, made_up_prompts
from tailgrad.models.engine import Response
from tailgrad.models.generate import end_token_ids, generate
from tailgrad.models.loading import load_policy
from tailgrad.models.token_ids import check_fit
from tailgrad.rollouts.config import SampleConfig
from tailgrad.rollouts.generation import as_trained
from tailgrad.rollouts.prompts import completions_of, tokenize_prompts
from tailgrad.serving.beside import Beside
from tailgrad.serving.policy import Draw, Wish


class _LeftError(Exception):
    """Nobody waits for the responses any more."""


class LocalPolicy:
    """A policy that is loaded here. Prompts are sampled one after the other, `batch_size` responses at once.

    A draw that nobody waits for any more ends at its next token.

    Args:
        config: Names the policy and what shapes its responses; its data set is not looked at.

    Raises:
        FileNotFoundError: There is no such policy.
        ValueError: It cannot be loaded, or a setting is unknown.
    """

    def __init__(self, config: SampleConfig) -> None:
        self.name, self._batch_size = config.model_name_or_path, config.batch_size
        self.model, self.tokenizer = load_policy(
            self.name,
            revision=config.model_revision,
            dtype=config.dtype,
            device=config.device,
            trust_remote_code=config.trust_remote_code,
        )
        own = self.model.generation_config.to_dict()
        self.shaping, self.chat_template_kwargs, _ = as_trained(config, own)
        if self._batch_size > 1:
            check_batches(self.model, self.tokenizer, made_up_prompts(self.tokenizer)[1:], name=self.name)
        self._beside = Beside(1)

    async def draw(self, wish: Wish, count: int, first: int) -> Draw:
        """Sample some responses; see `Policy`."""
        if wish.stop:
            raise ValueError("stop is given, which a policy in this process does not know: leave it out.")
        return await self._beside.run(partial(self._draw, wish, count, first))

    async def aclose(self) -> None:
        """Nothing is held."""

    def _draw(self, wish: Wish, count: int, first: int, left: threading.Event) -> Draw:
        shaping = {**self.shaping, **wish.shaping}
        ids = tokenize_prompts(self.tokenizer, [wish.prompt], self.chat_template_kwargs, source="the request")
        room = shaping["max_new_tokens"]
        check_fit(ids, self.tokenizer, self.model.config, model=self.name, new_tokens=room, source="the request")
        device = self.model.device
        with (
            _ends_when(left, self.model),
            torch.random.fork_rng(devices=[device] if device.type == "cuda" else [], enabled=wish.seed is not None),
        ):
            if wish.seed is not None:
                torch.manual_seed(wish.seed + first)
            try:
                found = generate(self.model, self.tokenizer, [ids[0]], n=count, batch_size=self._batch_size, **shaping)
            except (RuntimeError, ValueError) as error:  # the model's fault, such as too little memory
                return Draw([], [], (f"{self.name}: {error}",))
        return self._read(wish, ids[0], found[0], shaping)

    def _read(self, wish: Wish, prompt_ids: list[int], found: list[list[int]], shaping: dict[str, Any]) -> Draw:
        texts = self.tokenizer.batch_decode(found, skip_special_tokens=True)
        end_ids = set(end_token_ids(self.model, self.tokenizer, shaping.get("eos_token_id")))
        ends = [tokens[-1] in end_ids for tokens in found]
        responses = [
            Response(text=text, finished=end, num_tokens=len(tokens) - end, token_ids=tokens)
            for text, end, tokens in zip(texts, ends, found, strict=True)
        ]
        prompts = [wish.prompt] * len(found)
        return Draw(
            responses=responses,
            completions=completions_of(self.tokenizer, prompts, [prompt_ids] * len(found), found, texts),
            prompt_tokens=len(prompt_ids),
            completion_tokens=sum(map(len, found)),
        )


@contextmanager
def _ends_when(left: threading.Event, model: Any) -> Iterator[None]:
    """End what the model computes before its next token once the event is set."""

    def look(*_: Any) -> None:
        if left.is_set():
            raise _LeftError

    handle = model.register_forward_pre_hook(look)
    try:
        yield
    finally:
        handle.remove()
