"""Shards: a few prompts at a time, sampled, scored and written; finished ones are kept when a run resumes."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from tailgrad.events import progress_bar
from tailgrad.rewards import CheckedReward
from tailgrad.rollouts.config import SampleConfig
from tailgrad.rollouts.generate import end_token_ids, generate
from tailgrad.rollouts.logprobs import response_logprobs
from tailgrad.rollouts.prompts import Prompts, completions_of, prompt_text
from tailgrad.rollouts.table import merge_tables, read_metadata, write_table


@dataclass(frozen=True)
class Sampler:
    """Everything a shard is made from.

    Attributes:
        config: What to sample.
        model: The policy.
        tokenizer: Its tokenizer.
        reference: The reference policy or None.
        reward: Scores responses.
        prompts: The prompts and the columns that the reward is passed.
        token_ids: The prompts' tokens.
        metadata: Goes into every shard and the table.
        shaping: All that shapes a response; see `tailgrad.rollouts.generation`.
    """

    config: SampleConfig
    model: Any
    tokenizer: Any
    reference: Any
    reward: CheckedReward
    prompts: Prompts
    token_ids: list[list[int]]
    metadata: dict[str, Any]
    shaping: dict[str, Any]

    @cached_property
    def shards(self) -> list[range]:
        """The prompts of each shard: as many as fill one batch of responses."""
        size = max(1, self.config.batch_size // self.config.n)
        count = len(self.token_ids)
        return [range(start, min(start + size, count)) for start in range(0, count, size)]

    def rows(self, shard: int) -> dict[str, list[Any]]:
        """Sample and score one shard.

        Args:
            shard: Number of the shard.

        Returns:
            The columns of the rollout table, one value a response.
        """
        config, n = self.config, self.config.n
        prompt_ids = [i for i in self.shards[shard] for _ in range(n)]
        inputs = [self.token_ids[i] for i in prompt_ids]
        responses = self._responses(shard)
        texts = self.tokenizer.batch_decode(responses, skip_special_tokens=True)
        end_ids = set(end_token_ids(self.model, self.tokenizer, self.shaping.get("eos_token_id")))
        finished = [tokens[-1] in end_ids for tokens in responses]
        options: dict[str, Any] = {"temperature": self.shaping["temperature"], "batch_size": config.batch_size}
        reference: list[float] | list[None] = [None] * len(responses)
        if self.reference is not None:
            reference = response_logprobs(self.reference, inputs, responses, **options).tolist()
        return {
            "prompt_id": prompt_ids,
            "prompt": [prompt_text(self.prompts.prompts[i]) for i in prompt_ids],
            "response": texts,
            "response_index": list(range(n)) * len(self.shards[shard]),
            "reward": score(self.reward, self.tokenizer, self.prompts, prompt_ids, inputs, responses, texts),
            "num_tokens": [len(ids) - end for ids, end in zip(responses, finished, strict=True)],
            "finished": finished,
            "logprob": response_logprobs(self.model, inputs, responses, **options).tolist(),
            "reference_logprob": reference,
            "token_ids": responses,
        }

    def _responses(self, shard: int) -> list[list[int]]:
        config = self.config
        with _seeded(self.model.device, config.seed, shard):
            groups = generate(
                self.model,
                self.tokenizer,
                [self.token_ids[i] for i in self.shards[shard]],
                n=config.n,
                batch_size=config.batch_size,
                **self.shaping,
            )
        return [response for group in groups for response in group]


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
        One reward a response, None where unscored.
    """
    repeated = [copy.deepcopy(prompts.prompts[i]) for i in prompt_ids]
    return reward(
        prompts=repeated,
        completions=completions_of(tokenizer, repeated, prompt_token_ids, responses, texts),
        completion_ids=responses,
        **{name: [values[i] for i in prompt_ids] for name, values in prompts.columns.items()},
    )


class ShardMaker(Protocol):
    """What makes the rows of a table shard by shard."""

    @property
    def shards(self) -> list[range]:
        """The prompts of each shard."""

    @property
    def metadata(self) -> dict[str, Any]:
        """Goes into every shard and the table."""

    def rows(self, shard: int) -> dict[str, list[Any]]:
        """The columns of one shard."""


def make_shards(maker: ShardMaker, parts: Path, *, verb: str) -> None:
    """Make the shards that are not there yet; each appears complete or not at all.

    Args:
        maker: What makes a shard.
        parts: Folder of the shards.
        verb: Stands before the progress bar.

    Raises:
        ValueError: Shards in the folder were made differently.
    """
    done = _finished(maker, parts)
    count, initial = sum(map(len, maker.shards)), sum(len(maker.shards[i]) for i in done)
    with progress_bar(count, done=initial, name=verb, unit="prompt") as move:
        for i, shard in enumerate(maker.shards):
            if i not in done:
                write_table(parts / _part_name(i), maker.rows(i), maker.metadata)
                move(len(shard))


def merge_shards(maker: ShardMaker, parts: Path, out: Path) -> None:
    """Merge the shards into the table and remove them.

    Args:
        maker: What made the shards.
        parts: Folder of the shards, all finished.
        out: The table to write.
    """
    merge_tables([parts / _part_name(i) for i in range(len(maker.shards))], out, maker.metadata)
    shutil.rmtree(parts)


def _finished(maker: ShardMaker, parts: Path) -> set[int]:
    """Return the shards that are there, all of them made as we would."""
    done = {i for i in range(len(maker.shards)) if (parts / _part_name(i)).exists()}
    for path in sorted(parts.glob("part-*.parquet")):
        check_same_run(parts, read_metadata(path), maker.metadata)
    return done


def check_same_run(parts: Path, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    """Refuse to go on with what was made with other settings.

    Args:
        parts: Folder of what was made, for the message.
        theirs: The settings it was made with.
        ours: The settings now; JSON types only.

    Raises:
        ValueError: They differ; the message names the setting and both values.
    """
    ours = json.loads(json.dumps(ours))
    for name in ours.keys() | theirs.keys():
        if ours.get(name) != theirs.get(name):
            raise ValueError(
                f"{str(parts)!r} holds an interrupted run with another {name}: "
                f"{theirs.get(name)!r} there, {ours.get(name)!r} now. "
                "Delete that folder, choose another --out, or go on with the settings it was made with."
            )


def _part_name(shard: int) -> str:
    return f"part-{shard:05d}.parquet"


@contextmanager
def _seeded(device: torch.device, seed: int, shard: int) -> Iterator[None]:
    """Seed torch for one shard and give the random state back afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(np.random.SeedSequence([seed, shard]).generate_state(1, np.uint64)[0]))
        yield
