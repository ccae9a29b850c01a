"""Rewards that TRL's process of rollouts can import by name."""

from typing import Any


def words(completions: list[Any], **columns: Any) -> list[float]:
    """The reward is the number of words; it varies by the one who answers."""
    return [float(len(one[0]["content"].split())) for one in completions]
