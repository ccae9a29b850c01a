"""Parts of a table from an engine that tailgrad does not run itself, several at once."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from tailgrad.curves.sampling import by_temperature_alone
from tailgrad.files import expanded
from tailgrad.models.engine import Engine, Response
from tailgrad.models.loading import check_model_name, model_path
from tailgrad.models.model_files import weight_options
from tailgrad.models.openai_engine import OpenAIEngine
from tailgrad.models.openai_requests import request_settings
from tailgrad.models.server import Server, check_url
from tailgrad.models.token_ids import TokenIds, check_fit
from tailgrad.models.vllm_engine import VllmEngine, vllm_settings
from tailgrad.rewards import CheckedReward
from tailgrad.rollouts.chats import prompt_text
from tailgrad.rollouts.config import SampleConfig
from tailgrad.rollouts.parts import num_finished
from tailgrad.rollouts.prompts import Prompts
from tailgrad.rollouts.shards import score, score_texts

KEY: Final = "OPENAI_API_KEY"


@dataclass(frozen=True)
class EngineSampler:
    """Everything the parts are made from.

    Attributes:
        engine: What samples.
        n: Responses per prompt.
        part_size: Prompts of a part.
        reward: Scores responses.
        prompts: The prompts and the columns that the reward is passed.
        metadata: Goes into every part and the table.
        tokenizer: The policy's tokenizer; None where a server keeps it to itself, and rewards get the texts alone.
        token_ids: The prompts' tokens; None likewise.
    """

    engine: Engine
    n: int
    part_size: int
    reward: CheckedReward
    prompts: Prompts
    metadata: dict[str, Any]
    tokenizer: Any = None
    token_ids: Sequence[list[int]] | None = None

    @property
    def prompt_ids(self) -> range:
        """All prompts."""
        return range(len(self.prompts))

    def made_at_once(self, parts: Sequence[range]) -> Iterator[tuple[range, dict[str, list[Any]]]]:
        """Sample parts and score each once it is complete.

        Args:
            parts: Their prompts.

        Yields:
            A part and the columns of its rows.
        """
        part_of = {row: part for part in parts for row in part}
        waiting: dict[int, dict[int, list[Response]]] = {part.start: {} for part in parts}
        for row, responses in self.engine.responses(parts):
            part = part_of[row]
            waiting[part.start][row] = responses
            if len(waiting[part.start]) == len(part):
                found = waiting.pop(part.start)
                yield part, self._rows(part, [one for row in part for one in found[row]])

    def rows(self, part: range) -> dict[str, list[Any]]:
        """Sample and score one part.

        Args:
            part: Its prompts.

        Returns:
            The columns of the rollout table, one value per response.
        """
        return next(self.made_at_once([part]))[1]

    def _rows(self, part: range, responses: list[Response]) -> dict[str, list[Any]]:
        prompt_ids = [row for row in part for _ in range(self.n)]
        texts, ids = [one.text for one in responses], [one.token_ids for one in responses]
        return {
            "prompt_id": prompt_ids,
            "prompt": [prompt_text(prompt) for prompt in self.prompts.rows[prompt_ids]["prompt"]],
            "response": texts,
            "response_index": list(range(self.n)) * len(part),
            "reward": self._rewards(prompt_ids, texts, None if None in ids else ids),
            "num_tokens": [one.num_tokens for one in responses],
            "finished": [one.finished for one in responses],
            "logprob": [one.logprob for one in responses],
            "reference_logprob": [None] * len(responses),
            "token_ids": ids,
        }

    def _rewards(self, prompt_ids: list[int], texts: list[str], responses: Any) -> list[float | None]:
        if self.tokenizer is None or self.token_ids is None:
            return score_texts(self.reward, self.prompts, prompt_ids, texts, responses)
        inputs = [self.token_ids[row] for row in prompt_ids]
        return score(self.reward, self.tokenizer, self.prompts, prompt_ids, inputs, responses, texts)


def own_settings(config: SampleConfig) -> dict[str, Any]:
    """What the generation config of a policy sets; {} where there is none.

    Args:
        config: Names the policy; by a server's name of it, which need not be that of a folder or of the hub.
    """
    if config.engine == "vllm":
        from transformers import GenerationConfig

        with contextlib.suppress(OSError):
            options = {} if config.model_revision is None else {"revision": config.model_revision}
            own = GenerationConfig.from_pretrained(model_path(config.model_name_or_path), **options)
            return dict(own.to_dict())
        return {}
    file = expanded(config.model_name_or_path) / "generation_config.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def vllm_engine(config: SampleConfig, tokenizer: Any, token_ids: TokenIds, shaping: dict[str, Any]) -> VllmEngine:
    """The engine of vLLM in this process.

    Args:
        config: Names the policy.
        tokenizer: Its tokenizer.
        token_ids: The prompts' tokens.
        shaping: All that shapes a response.

    Raises:
        ValueError: vLLM is not installed or cannot load the policy, a setting is none of its own, or a prompt does
            not fit.
        FileNotFoundError: There is no such policy.
    """
    name = config.model_name_or_path
    check_model_name(name, "model")
    engine = VllmEngine(
        name,
        tokenizer,
        token_ids,
        n=config.n,
        settings=vllm_settings(shaping),
        logprobs=config.logprobs and keeps_logprobs(shaping),
        options={
            "revision": config.model_revision,
            "dtype": config.dtype,
            "seed": _seed_of_engine(config),
            "trust_remote_code": config.trust_remote_code,
            **({"load_format": "safetensors"} if weight_options() else {}),
            **config.engine_kwargs,
        },
    )
    room, source = shaping["max_new_tokens"], f"data set {config.dataset_name!r}"
    check_fit(token_ids, tokenizer, engine.config, model=name, new_tokens=room, source=source)
    return engine


def _seed_of_engine(config: SampleConfig) -> int:
    """The seed of vLLM, whose random numbers begin anew with every run: one that goes on takes other ones."""
    done = num_finished(Path(config.out))
    return int(np.random.SeedSequence([config.seed, done]).generate_state(1)[0]) if done else config.seed


def keeps_logprobs(shaping: dict[str, Any]) -> bool:
    """Whether all engines mean the same by the log-probability of a response, so that it is kept.

    Args:
        shaping: All that shapes a response.

    Examples:
        >>> keeps_logprobs({"temperature": 0.7, "top_p": 1.0, "top_k": 0})
        False
    """
    return shaping["temperature"] == 1 and by_temperature_alone(shaping)


def openai_engine(
    config: SampleConfig, prompts: Prompts, shaping: dict[str, Any], chat_template_kwargs: dict[str, Any]
) -> OpenAIEngine:
    """The engine of the server that a config names, which is tried once.

    Args:
        config: Names the server.
        prompts: The prompts.
        shaping: All that shapes a response.
        chat_template_kwargs: Arguments of the chat template.

    Raises:
        ValueError: The address is none, the server does not take the key, or a setting cannot be sent to it.
        ServerDownError: There is no such server.
    """
    settings = request_settings(shaping)
    return OpenAIEngine(
        openai_server(str(config.base_url), timeout=config.request_timeout, connections=config.concurrency),
        config.model_name_or_path,
        prompts.prompts,
        n=config.n,
        settings=settings,
        concurrency=config.concurrency,
        logprobs=config.logprobs and keeps_logprobs(shaping),
        chat_template_kwargs=chat_template_kwargs,
    )


def openai_server(base_url: str, *, timeout: float, connections: int) -> Server:
    """The server with an OpenAI-compatible API at an address, which is tried once; its key is in `OPENAI_API_KEY`.

    Args:
        base_url: The address, with or without the API's version.
        timeout: Seconds until a request has failed and is tried again.
        connections: Requests in flight at once.

    Raises:
        ValueError: The address is none, or the server does not take the key.
        ServerDownError: There is no such server.
    """
    url = check_url(base_url, "--base_url")
    url = url if re.search(r"//[^/]+/", url) else f"{url}/v1"
    server = Server(url, timeout=timeout, key_variable=KEY, connections=connections)
    server.reach("/models")
    return server
