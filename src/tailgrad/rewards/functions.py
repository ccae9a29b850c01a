"""Rewards that are plain functions: import by dotted path, sum with weights."""

from __future__ import annotations

import importlib
import math
import os
import sys
from collections.abc import Sequence
from typing import Any

from tailgrad.rewards.checks import checked
from tailgrad.rewards.reward import Reward


def import_reward(spec: str) -> Reward:
    """Import a reward function, the current directory included in the search.

    Args:
        spec: "package.module.function" or "package.module:function".

    Returns:
        The function.

    Raises:
        ValueError: There is no such module, its import fails, or it has no such name.
        TypeError: The name is not callable.

    Examples:
        >>> import_reward("statistics:mean").__name__
        'mean'
    """
    module_name, _, attribute = spec.rpartition(":" if ":" in spec else ".")
    if not module_name or not attribute:
        raise ValueError(f"reward {spec!r} is not a dotted path; write 'package.module.function'.")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise ValueError(
                f"reward {spec!r}: there is no module {error.name!r} in the current directory or the "
                "environment, and no folder of that name. Give 'package.module.function' of an importable "
                "module, or the folder or hub name of a reward model."
            ) from error
        raise ValueError(f"reward {spec!r}: importing {module_name!r} failed: {error}") from error
    except Exception as error:
        message = f"reward {spec!r}: importing {module_name!r} failed: {type(error).__name__}: {error}"
        raise ValueError(message) from error
    if not hasattr(module, attribute):
        raise ValueError(f"reward {spec!r}: module {module_name!r} has no {attribute!r}.")
    reward: Reward = getattr(module, attribute)
    if not callable(reward):
        raise TypeError(f"reward {spec!r} is a {type(reward).__name__}, not a function.")
    return reward


class WeightedSum:
    """The weighted sum of several rewards, as TRL sums them.

    `sum_k weight_k * reward_k` over the rewards that scored the rollout; unscored where none did. A reward of weight 0
    does not count, unless all are.

    Args:
        rewards: The rewards; each is checked.
        weights: One finite number per reward; None is 1 for each.

    Raises:
        ValueError: No rewards, another number of weights than rewards, or a weight that is not finite.

    Examples:
        >>> def length(*, completions, **columns):
        ...     return [len(text) for text in completions]
        >>> def capital(*, completions, **columns):
        ...     return [text[0].isupper() if text else None for text in completions]
        >>> WeightedSum([length, capital], [0.5, 10.0])(prompts=["a"] * 3, completions=["Abcd", "ab", ""])
        [12.0, 1.0, 0.0]
    """

    def __init__(self, rewards: Sequence[Reward], weights: Sequence[float] | None = None) -> None:
        if not rewards:
            raise ValueError("no rewards given; a weighted sum needs at least one.")
        weights = [1.0] * len(rewards) if weights is None else [float(weight) for weight in weights]
        if len(weights) != len(rewards):
            raise ValueError(f"{len(weights)} reward weights given for {len(rewards)} rewards; give one for each.")
        if not all(math.isfinite(weight) for weight in weights):
            raise ValueError(f"reward weights {weights} must be finite numbers.")
        self.rewards = [checked(reward) for reward in rewards]
        self.weights = weights
        terms = zip(self.weights, self.rewards, strict=True)
        self.__name__ = "+".join(f"{weight:g}*{reward.__name__}" for weight, reward in terms)

    def __call__(self, /, *, prompts: list[Any], completions: list[Any], **columns: Any) -> list[float | None]:
        """Score rollouts.

        Args:
            prompts: One prompt per rollout.
            completions: One response per rollout.
            columns: One value per rollout of every other column, and what TRL passes.

        Returns:
            One float, or None where no reward scored the rollout, a rollout.
        """
        scores = [reward(prompts=prompts, completions=completions, **columns) for reward in self.rewards]
        return [self._sum(row) for row in zip(*scores, strict=True)]

    def _sum(self, row: tuple[float | None, ...]) -> float | None:
        some_count = any(self.weights)  # a weight of 0 beside others is for the log alone
        pairs = [(w, value) for w, value in zip(self.weights, row, strict=True) if w != 0 or not some_count]
        terms = [w * value for w, value in pairs if value is not None]
        return math.fsum(terms) if terms else None
