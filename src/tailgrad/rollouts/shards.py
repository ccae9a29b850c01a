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
from typing import Any

import numpy as np
import torch

from tailgrad.rewards import CheckedReward
from tailgrad.rollouts.config import SampleConfig
from tailgrad.rollouts.generate import end_token_ids, generate, response_logprobs
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
    """

    config: SampleConfig
    model: Any
    tokenizer: Any
    reference: Any
    reward: CheckedReward
    prompts: Prompts
    token_ids: list[list[int]]
    metadata: dict[str, Any]

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
        end_ids = set(end_token_ids(self.model, self.tokenizer))
        finished = [tokens[-1] in end_ids for tokens in responses]
        options: dict[str, Any] = {"temperature": config.temperature, "batch_size": config.batch_size}
        reference: list[float] | list[None] = [None] * len(responses)
        if self.reference is not None:
            reference = response_logprobs(self.reference, inputs, responses, **options).tolist()
        return {
            "prompt_id": prompt_ids,
            "prompt": [prompt_text(self.prompts.prompts[i]) for i in prompt_ids],
            "response": texts,
            "response_index": list(range(n)) * len(self.shards[shard]),
            "reward": self._rewards(prompt_ids, inputs, responses, texts),
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
                temperature=config.temperature,
                top_p=config.top_p,
                top_k=config.top_k,
                max_new_tokens=config.max_new_tokens,
                batch_size=config.batch_size,
            )
        return [response for group in groups for response in group]

    def _rewards(
        self, prompt_ids: list[int], inputs: list[list[int]], responses: list[list[int]], texts: list[str]
    ) -> list[float | None]:
        prompts = [copy.deepcopy(self.prompts.prompts[i]) for i in prompt_ids]
        return self.reward(
            prompts=prompts,
            completions=completions_of(self.tokenizer, prompts, inputs, responses, texts),
            completion_ids=responses,
            **{name: [values[i] for i in prompt_ids] for name, values in self.prompts.columns.items()},
        )


def sample_shards(sampler: Sampler, parts: Path) -> None:
    """Sample the shards that are not there yet; each appears complete or not at all.

    Args:
        sampler: What a shard is made from.
        parts: Folder of the shards.

    Raises:
        ValueError: Shards in the folder were sampled differently.
    """
    from tqdm.auto import tqdm

    done = _finished(sampler, parts)
    initial = sum(len(sampler.shards[i]) for i in done)
    with tqdm(total=len(sampler.token_ids), initial=initial, desc="sample", unit="prompt") as progress:
        for i, shard in enumerate(sampler.shards):
            if i not in done:
                write_table(parts / _part_name(i), sampler.rows(i), sampler.metadata)
                progress.update(len(shard))


def merge_shards(sampler: Sampler, parts: Path, out: Path) -> None:
    """Merge the shards into the table and remove them.

    Args:
        sampler: What the shards were made from.
        parts: Folder of the shards, all finished.
        out: The table to write.
    """
    merge_tables([parts / _part_name(i) for i in range(len(sampler.shards))], out, sampler.metadata)
    shutil.rmtree(parts)


def _finished(sampler: Sampler, parts: Path) -> set[int]:
    """Return the shards that are there, all of them sampled as we would."""
    done = {i for i in range(len(sampler.shards)) if (parts / _part_name(i)).exists()}
    for path in sorted(parts.glob("part-*.parquet")):
        check_same_run(parts, read_metadata(path), sampler.metadata)
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
