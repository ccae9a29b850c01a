"""A few prompts at a time: their responses sampled and scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tailgrad.models.chosen import ChosenLogprobs
from tailgrad.models.generate import end_token_ids, generate
from tailgrad.models.logprobs import response_logprobs
from tailgrad.rewards import CheckedReward
from tailgrad.rollouts.chats import prompt_text
from tailgrad.rollouts.config import SampleConfig
from tailgrad.rollouts.prompts import Prompts, completions_of, plain_completions


@dataclass(frozen=True)
class Sampler:
    """Everything a part is made from.

    Attributes:
        config: What to sample.
        model: The policy.
        tokenizer: Its tokenizer.
        reference: The reference policy or None.
        reward: Scores responses.
        prompts: The prompts and the columns that the reward is passed.
        token_ids: The prompts' tokens.
        metadata: Goes into every part and the table.
        shaping: All that shapes a response; see `tailgrad.rollouts.generation`.
        gathers: Whether log-probabilities are kept while sampling; else they take a pass of their own.
    """

    config: SampleConfig
    model: Any
    tokenizer: Any
    reference: Any
    reward: CheckedReward
    prompts: Prompts
    token_ids: Sequence[list[int]]
    metadata: dict[str, Any]
    shaping: dict[str, Any]
    gathers: bool

    @property
    def prompt_ids(self) -> range:
        """All prompts."""
        return range(len(self.token_ids))

    @property
    def n(self) -> int:
        """Responses per prompt."""
        return self.config.n

    @property
    def part_size(self) -> int:
        """Prompts of a part: as many as fill one batch of responses."""
        return max(1, self.config.batch_size // self.config.n)

    def rows(self, part: range) -> dict[str, list[Any]]:
        """Sample and score one part.

        Args:
            part: Its prompts.

        Returns:
            The columns of the rollout table, one value per response.
        """
        n = self.config.n
        prompt_ids = [i for i in part for _ in range(n)]
        inputs = [self.token_ids[i] for i in prompt_ids]
        responses, logprobs = self._responses(part)
        texts = self.tokenizer.batch_decode(responses, skip_special_tokens=True)
        end_ids = set(end_token_ids(self.model, self.tokenizer, self.shaping.get("eos_token_id")))
        finished = [tokens[-1] in end_ids for tokens in responses]
        if logprobs is None:
            logprobs = self._logprobs(self.model, inputs, responses)
        reference: list[float] | list[None] = [None] * len(responses)
        if self.reference is not None:
            same = self.reference is self.model
            reference = logprobs if same else self._logprobs(self.reference, inputs, responses)
        return {
            "prompt_id": prompt_ids,
            "prompt": [prompt_text(prompt) for prompt in self.prompts.rows[prompt_ids]["prompt"]],
            "response": texts,
            "response_index": list(range(n)) * len(part),
            "reward": score(self.reward, self.tokenizer, self.prompts, prompt_ids, inputs, responses, texts),
            "num_tokens": [len(ids) - end for ids, end in zip(responses, finished, strict=True)],
            "finished": finished,
            "logprob": logprobs,
            "reference_logprob": reference,
            "token_ids": responses,
        }

    def _responses(self, part: range) -> tuple[list[list[int]], list[float] | None]:
        """Responses, and their log-probabilities where they are kept while sampling."""
        config = self.config
        chosen = ChosenLogprobs(self.shaping["temperature"]) if self.gathers else None
        with _seeded(self.model.device, config.seed, part.start // self.part_size):
            groups = generate(
                self.model,
                self.tokenizer,
                [self.token_ids[i] for i in part],
                n=config.n,
                batch_size=config.batch_size,
                chosen=chosen,
                **self.shaping,
            )
        responses = [response for group in groups for response in group]
        return responses, None if chosen is None else chosen.logprobs

    def _logprobs(self, model: Any, prompts: list[list[int]], responses: list[list[int]]) -> list[float]:
        options: dict[str, Any] = {"temperature": self.shaping["temperature"], "batch_size": self.config.batch_size}
        logprobs: list[float] = response_logprobs(model, prompts, responses, **options).tolist()
        return logprobs


def score(
    reward: CheckedReward,
    tokenizer: Any,
    prompts: Prompts,
    prompt_ids: list[int],
    prompt_token_ids: list[list[int]],
    responses: list[list[int]],
    texts: list[str],
) -> list[float | None]:
    """Score responses, the reward called with what TRL's trainers pass.

    Args:
        reward: The reward.
        tokenizer: The policy's tokenizer.
        prompts: The prompts and the columns that the reward is passed.
        prompt_ids: Row of `prompts` of each response.
        prompt_token_ids: The tokens of each response's prompt.
        responses: The responses' tokens.
        texts: The responses' texts without special tokens.

    Returns:
        One reward per response, None where unscored.
    """
    columns = prompts.rows[prompt_ids]
    repeated = columns.pop("prompt")
    return reward(
        prompts=repeated,
        completions=completions_of(tokenizer, repeated, prompt_token_ids, responses, texts),
        completion_ids=responses,
        **columns,
    )


def score_texts(
    reward: CheckedReward, prompts: Prompts, prompt_ids: list[int], texts: list[str], responses: list[Any] | None
) -> list[float | None]:
    """Score responses of a server, of which the text is known and the tokens may be.

    Args:
        reward: The reward.
        prompts: The prompts and the columns that the reward is passed.
        prompt_ids: Row of `prompts` of each response.
        texts: The responses' texts without special tokens.
        responses: The responses' tokens; None where not known, and the reward is not passed them.

    Returns:
        One reward per response, None where unscored.
    """
    columns = prompts.rows[prompt_ids]
    repeated = columns.pop("prompt")
    known = {} if responses is None else {"completion_ids": responses}
    return reward(prompts=repeated, completions=plain_completions(repeated, texts), **known, **columns)


@contextmanager
def _seeded(device: torch.device, seed: int, part: int) -> Iterator[None]:
    """Seed torch for one part and give the random state back afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(np.random.SeedSequence([seed, part]).generate_state(1, np.uint64)[0]))
        yield
