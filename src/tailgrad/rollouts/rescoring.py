"""Score the responses of a rollout table with another reward, resumably: no response is sampled again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tailgrad.curves import Rollouts
from tailgrad.identity import file_sha256
from tailgrad.models.loading import model_errors, model_path
from tailgrad.rewards import CheckedReward
from tailgrad.rollouts.config import SampleConfig, ScoreConfig
from tailgrad.rollouts.parts import make_table
from tailgrad.rollouts.prompts import Prompts, tokenize_prompts
from tailgrad.rollouts.read import read_rollouts
from tailgrad.rollouts.sampling import load_scoring, read_prompts
from tailgrad.rollouts.shards import score, score_texts

_SELECTION = {"selection_reward": "reward", "selection_reward_files": "reward_files"}
"""What is recorded of the reward that picks, and under which names it stood before the table was scored anew."""


@dataclass(frozen=True)
class Rescorer:
    """Everything a part is made from.

    Attributes:
        table: The table to score anew.
        prompts: Its prompts and the columns that the reward is passed.
        prompt_token_ids: The tokens of `prompts`; empty where a server sampled the table.
        tokenizer: The policy's tokenizer; None where a server sampled the table, whose rewards get the texts alone.
        reward: The new reward.
        selection: What picks the best response, `[P, n]`; None is the new reward.
        batch_size: Responses scored at once.
        metadata: Goes into every part and the new table.
    """

    table: Rollouts
    prompts: Prompts
    prompt_token_ids: Sequence[list[int]]
    tokenizer: Any
    reward: CheckedReward
    selection: np.ndarray | None
    batch_size: int
    metadata: dict[str, Any]

    @cached_property
    def prompt_ids(self) -> list[int]:
        """The prompts of the table."""
        ids: list[int] = self.table.prompt_ids.tolist()
        return ids

    @property
    def n(self) -> int:
        """Responses per prompt."""
        return self.table.n

    @property
    def part_size(self) -> int:
        """Prompts of a part that is still to be scored."""
        return max(1, self.batch_size // self.n)

    def rows(self, part: range) -> dict[str, list[Any]]:
        """Score one part.

        Args:
            part: Places of its prompts in the table.

        Returns:
            The columns of the rollout table, one value per response.
        """
        table, at, n = self.table, slice(part.start, part.stop), self.n
        prompt_ids = np.repeat(table.prompt_ids[at], n).tolist()
        texts = [text for group in table.known("responses")[at] for text in group]
        responses = None if table.token_ids is None else [ids.tolist() for ids in table.token_ids[at].ravel()]
        return {
            "prompt_id": prompt_ids,
            "prompt": [text for text in table.known("prompts")[at] for _ in range(n)],
            "response": texts,
            "response_index": list(range(n)) * len(part),
            "reward": self._rewards(prompt_ids, texts, responses),
            "num_tokens": _or_nulls(table.num_tokens, at, len(prompt_ids)),
            "finished": table.known("finished")[at].ravel().tolist(),
            "logprob": _nullable(table.logprobs, at, len(prompt_ids)),
            "reference_logprob": _nullable(table.reference_logprobs, at, len(prompt_ids)),
            "token_ids": responses or [None] * len(prompt_ids),
            "selection_reward": _nullable(self.selection, at, len(prompt_ids)),
        }

    def _rewards(self, prompt_ids: list[int], texts: list[str], responses: Any) -> list[float | None]:
        if self.tokenizer is None:
            return score_texts(self.reward, self.prompts, prompt_ids, texts, responses)
        inputs = [self.prompt_token_ids[i] for i in prompt_ids]
        return score(self.reward, self.tokenizer, self.prompts, prompt_ids, inputs, responses, texts)


def rescore(config: ScoreConfig) -> Path:
    """Score the responses of a rollout table anew and write them as another.

    Parts are written to `<out>.parts/`. An interrupted run goes on from the finished parts, even with another batch
    size. By default the new table's V_N is the expected new reward of the response that the old reward picks out of N.
    It says whether what was trained and selected for is also better by another measure.

    Args:
        config: What to score.

    Returns:
        The path of the new table.

    Raises:
        FileNotFoundError: The table, the data set or the tokenizer is not there.
        ValueError: `out` exists or is being written, the parts of an interrupted run were scored differently or are
            damaged, the table lacks token ids (and no server sampled it) or metadata, or it was sampled on another
            data set.
        RuntimeError: A reward raised; the finished parts stay.
    """
    return make_table(Path(config.out), lambda: _rescorer(config), verb="score")


def _rescorer(config: ScoreConfig) -> Rescorer:
    table = read_rollouts(config.table)
    sampled = _sampled_as(config, table)
    prompts = _prompts(config, sampled, table.metadata["dataset"]["sha256"])
    tokenizer = None if _is_served(table) else _tokenizer(sampled, table.metadata.get("revision"))
    reward, described = load_scoring(sampled, prompts)
    metadata = {name: value for name, value in table.metadata.items() if name not in _SELECTION} | described
    metadata["rescored"] = file_sha256(config.table)
    selection = None
    if config.selection == "table":
        selection = table.rewards if table.selection_rewards is None else table.selection_rewards
        picked_before = "selection_reward" in table.metadata
        metadata |= {name: table.metadata.get(name if picked_before else own) for name, own in _SELECTION.items()}
    return Rescorer(
        table=table,
        prompts=prompts,
        prompt_token_ids=[]
        if tokenizer is None
        else tokenize_prompts(
            tokenizer,
            prompts.prompts,
            table.metadata.get("chat_template_kwargs"),
            source=f"data set {sampled.dataset_name!r}",
        ),
        tokenizer=tokenizer,
        reward=reward,
        selection=selection,
        batch_size=config.batch_size,
        metadata=metadata,
    )


def _sampled_as(config: ScoreConfig, table: Rollouts) -> SampleConfig:
    """How the table was sampled, as far as scoring needs it, with the new reward."""
    if "dataset" not in table.metadata or (table.token_ids is None and not _is_served(table)):
        raise ValueError(
            f"rollout table {str(config.table)!r} lacks the responses' tokens or where they come from: "
            "sample it again with `tailgrad sample`."
        )
    data = table.metadata["dataset"]
    ids = table.prompt_ids
    if ids.dtype.kind != "i" or ids[-1] >= data["num_prompts"]:
        raise ValueError(
            f"rollout table {str(config.table)!r} has the prompt_id {ids[-1]!s}; it must be a row of the data set, a "
            f"whole number below {data['num_prompts']}."
        )
    shared = ("out", "batch_size", "device", "trust_remote_code")
    return SampleConfig(
        model_name_or_path=config.model_name_or_path or table.metadata["model"],
        dataset_name=config.dataset_name or data["name"],
        limit=data["num_prompts"],
        prompt_column=data["prompt_column"],
        dataset_split=data["split"] or SampleConfig.dataset_split,
        dataset_config=data["config"],
        **{name: getattr(config, name) for name in shared},
        **config.of_rewards,
    )


def _prompts(config: ScoreConfig, sampled: SampleConfig, sha256: str) -> Prompts:
    """The prompts of the table with their columns."""
    prompts = read_prompts(sampled)
    if prompts.sha256 != sha256:
        raise ValueError(
            f"data set {sampled.dataset_name!r} is not the one that {str(config.table)!r} was sampled on (sha256 "
            f"{prompts.sha256[:12]}, there {sha256[:12]}). Name that one with --dataset_name."
        )
    return prompts


def _tokenizer(config: SampleConfig, revision: str | None) -> Any:
    from transformers import AutoTokenizer

    path = model_path(config.model_name_or_path)
    with model_errors(config.model_name_or_path, "tokenizer of model"):
        return AutoTokenizer.from_pretrained(
            path, revision=None if Path(path).is_dir() else revision, trust_remote_code=config.trust_remote_code
        )


def _is_served(table: Rollouts) -> bool:
    """Whether a server sampled the table, which keeps the policy's tokenizer to itself."""
    return table.metadata.get("engine") == "openai"


def _or_nulls(values: np.ndarray | None, at: slice, count: int) -> list[int] | list[None]:
    return [None] * count if values is None else values[at].ravel().tolist()


def _nullable(values: np.ndarray | None, at: slice, count: int) -> list[float | None]:
    if values is None:
        return [None] * count
    return [None if np.isnan(value) else float(value) for value in values[at].ravel()]
