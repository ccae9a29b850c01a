"""The command that trains as planned."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any, Final

_ROLLOUTS_AT_ONCE: Final = 8
"""Rollouts per backward pass, as in TRL, where they divide those of a step."""

_SHAPING: Final = {
    **{name: name for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")},
    "max_new_tokens": "max_completion_length",
}
"""Options of `tailgrad train` by the name of the setting in a rollout table; others are `generation_kwargs`."""

_OFF: Final = {"temperature": 1.0, "top_p": 1.0, "top_k": 0}
"""What need not be said."""

_OF_REWARDS: Final = ("max_length", "dtype", "input_format")
"""Options of a reward model that decide its scores."""

_DEFAULTS: Final = {
    "prompt_column": "prompt",
    "model_revision": "main",
    "reward_dtype": "float32",
    "reward_input_format": "auto",
}
"""Values of options of `tailgrad train` that need not be said."""


def train_command(
    estimator: str, m: int, *, deploy_n: int, rollouts_per_step: int, table: Mapping[str, Any] | None = None
) -> str:
    r"""Give the `tailgrad train` command of an estimator, for one device.

    Args:
        estimator: With its options.
        m: Rollouts per prompt.
        deploy_n: N.
        rollouts_per_step: B x m.
        table: Metadata of the rollout table: policy, prompts, reward and what shapes a response are taken from it. Of
            policy, prompts and reward, what it does not say stands in capital letters.

    Returns:
        One command on several lines.

    Examples:
        >>> print(train_command("max_at_k:k=4", 8, deploy_n=64, rollouts_per_step=32))
        tailgrad train --model_name_or_path MODEL --dataset_name PROMPTS --reward_funcs REWARD \
            --estimator max_at_k:k=4 --num_generations 8 --deploy_n 64 \
            --per_device_train_batch_size 8 --gradient_accumulation_steps 4 --output_dir policy
    """
    table = table or {}
    data = table.get("dataset") or {}
    at_once = max(size for size in range(1, _ROLLOUTS_AT_ONCE + 1) if rollouts_per_step % size == 0)
    of_data = {"dataset_config": data.get("config"), "prompt_column": data.get("prompt_column")}
    lines = [
        ["--model_name_or_path", str(table.get("model") or "MODEL"), *_said("model_revision", table.get("revision"))],
        ["--dataset_name", str(data.get("name") or "PROMPTS"), *_all_said(of_data), *_reward(table)],
        ["--estimator", estimator, "--num_generations", str(m), "--deploy_n", str(deploy_n)],
        [*_shaping(table.get("sampling") or {}), *_as_json("chat_template_kwargs", table.get("chat_template_kwargs"))],
        ["--per_device_train_batch_size", str(at_once)],
        ["--gradient_accumulation_steps", str(rollouts_per_step // at_once), "--output_dir", "policy"],
    ]
    first, second, third, fourth, *last = (shlex.join(line) for line in lines)
    together = [f"{first} {second}", third, *([fourth] if fourth else []), " ".join(last)]
    return "tailgrad train " + " \\\n    ".join(together)


def _shaping(sampling: Mapping[str, Any]) -> list[str]:
    """How the responses were sampled: a plan holds for such responses alone."""
    given = {name: value for name, value in sampling.items() if name != "n" and value not in (None, _OFF.get(name))}
    own = [word for name in _SHAPING if name in given for word in (f"--{_SHAPING[name]}", str(given[name]))]
    return own + _as_json("generation_kwargs", {name: given[name] for name in given if name not in _SHAPING})


def _as_json(option: str, value: Mapping[str, Any] | None) -> list[str]:
    return [f"--{option}", json.dumps(value)] if value else []


def _reward(table: Mapping[str, Any]) -> list[str]:
    """A dotted path is a function, a name with a slash a model; of a weighted sum the table has a description alone."""
    text = str(table.get("reward") or "")
    if re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", text):
        return ["--reward_funcs", text]
    if re.fullmatch(r"[^\s*]*/[^\s*]*", text):
        name, _, revision = text.partition("@")
        given = table.get("reward_options") or {}
        options = {f"reward_{option}": given.get(option) for option in _OF_REWARDS}
        return ["--reward_model_name_or_path", name, *_all_said(options | {"reward_revision": revision})]
    return ["--reward_funcs", "REWARD"]


def _all_said(options: Mapping[str, Any]) -> list[str]:
    return [word for option, value in options.items() for word in _said(option, value)]


def _said(option: str, value: Any) -> list[str]:
    """An option and its value; nothing where it need not be said."""
    return [] if value in (None, "", _DEFAULTS.get(option)) else [f"--{option}", str(value)]
