"""What to sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from tailgrad.rewards import Reward


@dataclass(frozen=True)
class SampleConfig:
    """What `sample` needs to know.

    Attributes:
        model: The policy: hub name or local folder.
        dataset: Hub name, folder, or .jsonl, .json, .parquet or .csv file (also with .gz).
        reward: One or several rewards: callables or names, see `tailgrad.rewards.load_reward`.
        out: The rollout table to write; it must not exist.
        n: Responses a prompt.
        reward_weights: One weight a reward; None is 1 for each.
        reward_options: Options of `RewardModel` for the rewards that are reward models; None is the default.
        temperature: Sampling temperature, above 0.
        top_p: Nucleus, in (0, 1]; 1 is off.
        top_k: Only the k most likely tokens; 0 is off.
        max_new_tokens: Most tokens of a response, end token included.
        batch_size: Responses sampled at once.
        seed: Seed of the responses.
        limit: Only the first `limit` prompts; None is all.
        prompt_column: Column with the prompts: strings, or lists of messages.
        dataset_split: Split of the data set, where it has splits.
        dataset_config: Configuration of a hub data set.
        revision: Revision of the policy on the hub.
        dtype: "float32", "bfloat16", "float16" or "auto", for policy and reference policy.
        device: A torch device name for all models; None is the GPU where there is one, else the CPU.
        reference_model: The reference policy; None leaves `reference_logprob` null.
        trust_remote_code: Run the code that comes with the models.
    """

    model: str
    dataset: str
    reward: str | Reward | Sequence[str | Reward]
    out: str | Path
    n: int = 256
    reward_weights: Sequence[float] | None = None
    reward_options: dict[str, Any] = field(default_factory=dict)
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int = 256
    batch_size: int = 256
    seed: int = 0
    limit: int | None = None
    prompt_column: str = "prompt"
    dataset_split: str = "test"
    dataset_config: str | None = None
    revision: str | None = None
    dtype: str = "float32"
    device: str | None = None
    reference_model: str | None = None
    trust_remote_code: bool = False

    SAMPLING: ClassVar[tuple[str, ...]] = ("n", "temperature", "top_p", "top_k", "max_new_tokens")

    @property
    def reward_list(self) -> list[str | Reward]:
        """The rewards as a list."""
        if isinstance(self.reward, str) or callable(self.reward):
            return [self.reward]
        return list(self.reward)

    def __post_init__(self) -> None:
        for name in ("n", "max_new_tokens", "batch_size", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1.")
        for name in ("top_k", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 or more.")
        if not self.reward_list:
            raise ValueError("no reward given; name at least one.")
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"temperature is {self.temperature}; it must be above 0 and finite.")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; it must be above 0 and at most 1 (1 is off).")
