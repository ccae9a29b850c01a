"""What to sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

from tailgrad.rewards import Reward


@dataclass(frozen=True)
class SampleConfig:
    """What `sample` needs to know.

    Attributes:
        model: The policy: hub name or local folder.
        dataset: Hub name, folder, or .jsonl, .json, .parquet or .csv file (also with .gz).
        reward: One or several rewards: callables or names, see `tailgrad.rewards.load_reward`.
        out: The rollout table to write; it must not exist.
        n: Responses per prompt.
        reward_weights: One weight a reward; None is 1 for each.
        reward_options: Options of `RewardModel` for the rewards that are reward models; None is the default.
        reward_timeout: Most seconds of a call of a reward; None is no limit.
        temperature: Sampling temperature, above 0; None is that of the policy's training, else 1. It is so for the next
            three too.
        top_p: Nucleus, in (0, 1]; 1 is off, the default.
        top_k: Only the k most likely tokens; 0 is off, the default.
        max_new_tokens: Most tokens of a response, end token included; 512 by default.
        generation_kwargs: Other settings of transformers' `GenerationConfig` that shape responses, such as
            {"min_p": 0.1}, as in TRL; what is not given is as in the policy's training, else as its own generation
            config says.
        chat_template_kwargs: Arguments of the chat template, such as {"enable_thinking": False}, as in TRL; None is
            those of the policy's training, else none.
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
    reward_timeout: float | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_new_tokens: int | None = None
    generation_kwargs: dict[str, Any] = field(default_factory=dict)
    chat_template_kwargs: dict[str, Any] | None = None
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

    SHAPING: ClassVar[tuple[str, ...]] = ("temperature", "top_p", "top_k", "max_new_tokens")

    @property
    def shaping(self) -> dict[str, Any]:
        """The settings asked for that shape a response; None where not given."""
        return {name: getattr(self, name) for name in self.SHAPING} | self.generation_kwargs

    @property
    def reward_list(self) -> list[str | Reward]:
        """The rewards as a list."""
        if isinstance(self.reward, str) or callable(self.reward):
            return [self.reward]
        return list(self.reward)

    def __post_init__(self) -> None:
        for name in ("n", "batch_size", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1.")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it must be 0 or more.")
        if not self.reward_list:
            raise ValueError("no reward given; name at least one.")
        for name, (allowed, words) in _IN_RANGE.items():
            value = self.shaping[name]  # also where generation_kwargs has it
            if value is not None and not (isinstance(value, int | float) and allowed(value)):
                raise ValueError(f"{name} is {value!r}; it must be {words}.")


_IN_RANGE: Final[dict[str, tuple[Callable[[float], bool], str]]] = {
    "max_new_tokens": (lambda value: value >= 1, "at least 1"),
    "top_k": (lambda value: value >= 0, "0 or more (0 is off)"),
    "temperature": (lambda value: 0 < value < math.inf, "above 0 and finite"),
    "top_p": (lambda value: 0 < value <= 1, "above 0 and at most 1 (1 is off)"),
}
"""Which values of what shapes a response can be sampled with."""
