"""What the name of a reward stands for: one of TRL's, a function, the URL of one, or a reward model."""

from __future__ import annotations

from typing import Final

from tailgrad.files import expanded

TRL_REWARDS: Final[dict[str, dict[str, int]]] = {
    "accuracy_reward": {},
    "reasoning_accuracy_reward": {},
    "think_format_reward": {},
    "get_soft_overlong_punishment": {"max_completion_len": 1280, "soft_punish_cache": 256},
}
"""Rewards that `trl grpo` knows by a bare name; one with options is made with these, as there."""


def names_url(spec: str) -> bool:
    """Return whether a name is the URL of a function.

    Args:
        spec: The name of a reward.
    """
    return spec.startswith(("http://", "https://"))


def names_function(spec: str) -> bool:
    """Return whether a name is read as a function's, "package.module.function" or "package.module:function".

    Args:
        spec: The name of a reward.

    Returns:
        False for an existing folder, a path, a name with a slash, and one without dot and colon.

    Examples:
        >>> [names_function(name) for name in ("statistics.mean", "statistics:mean", "org/model-1.5", "judge")]
        [True, True, False, False]
    """
    is_path = "/" in spec or spec.startswith((".", "~")) or expanded(spec).is_dir()
    return not is_path and (":" in spec or "." in spec)


def names_model(spec: str) -> bool:
    """Return whether a name is read as a reward model's: it is no other reward's.

    Args:
        spec: The name of a reward.

    Examples:
        >>> [names_model(name) for name in ("org/model-1.5", "statistics.mean", "http://host/score", "accuracy_reward")]
        [True, False, False, False]
    """
    return not (spec in TRL_REWARDS or names_url(spec) or names_function(spec))


def reads(spec: str, option: str) -> bool:
    """Return whether a reward reads an option of reward models; a function behind a URL has a batch size too.

    Args:
        spec: The name of a reward.
        option: The option, by the name that `RewardModel` gives it.

    Examples:
        >>> [reads(name, "batch_size") for name in ("org/model", "http://host/score", "statistics.mean")]
        [True, True, False]
    """
    return names_model(spec) or (option == "batch_size" and names_url(spec))
