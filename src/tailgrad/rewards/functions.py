"""Rewards that are plain functions: import by dotted path, check what comes back, sum with weights."""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import math
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import torch

Reward = Callable[..., Any]
"""`reward(*, prompts, completions, **columns)` returns one number, or None (unscored), a rollout."""

_FLOAT32_MAX = torch.finfo(torch.float32).max


def reward_name(reward: Reward) -> str:
    """Return the name a reward goes by in messages, tables and logs, the one that TRL shows.

    Args:
        reward: A function, a `functools.partial` of one, or a callable object.

    Returns:
        The function's `__name__`, or the class name of a callable object without one.

    Example:
        >>> reward_name(functools.partial(len))
        'len'
    """
    while isinstance(reward, functools.partial):
        reward = reward.func
    return str(getattr(reward, "__name__", type(reward).__name__))


def import_reward(spec: str) -> Reward:
    """Import a reward function, the current directory included in the search.

    Args:
        spec: "package.module.function" or "package.module:function".

    Returns:
        The function.

    Raises:
        ValueError: There is no such module, its import fails, or it has no such name.
        TypeError: The name is not callable.

    Example:
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


class CheckedReward:
    """A reward whose results are checked: never a wrong number.

    Calls `reward` with the same arguments and returns a list with one float or None (unscored) a rollout.
    NaN counts as None. An async reward is run to its end.

    Args:
        reward: The reward to check.
    """

    def __init__(self, reward: Reward) -> None:
        self.reward = reward
        self.__name__ = reward_name(reward)

    def __repr__(self) -> str:
        return f"CheckedReward({self.__name__})"

    def __call__(self, *, prompts: list[Any], completions: list[Any], **columns: Any) -> list[float | None]:
        """Score rollouts.

        Args:
            prompts: One prompt a rollout.
            completions: One response a rollout.
            columns: One value a rollout of every other column, and what TRL passes.

        Returns:
            One float, or None where unscored, a rollout.

        Raises:
            RuntimeError: The reward raised; the error is chained.
            ValueError: The reward returned another number of values, or a value that is not a finite number.
        """
        try:
            values = self.reward(prompts=prompts, completions=completions, **columns)
            if inspect.isawaitable(values):
                values = asyncio.run(_finish(values))
        except Exception as error:
            raise RuntimeError(
                f"reward {self.__name__!r} raised {type(error).__name__}: {error}. "
                "Return None for a rollout that cannot be scored."
            ) from error
        return [self._number(value, i) for i, value in enumerate(self._sequence(values, len(completions)))]

    def _sequence(self, values: Any, count: int) -> list[Any]:
        shape = getattr(values, "shape", None)
        if isinstance(values, str | bytes | dict | set) or not hasattr(values, "__len__"):
            is_sequence = False
        else:
            is_sequence = shape is None or len(shape) == 1
        if not is_sequence:
            given = f"of shape {tuple(shape)}" if shape is not None else repr(values)[:60]
            raise ValueError(
                f"reward {self.__name__!r} returned a {type(values).__name__} {given}; "
                f"it must return a list with one number or None for each of the {count} rollouts."
            )
        if len(values) != count:
            raise ValueError(
                f"reward {self.__name__!r} returned {len(values)} values for {count} rollouts; "
                "it must return one number or None for each."
            )
        return values.tolist() if isinstance(values, torch.Tensor) else list(values)

    def _number(self, value: Any, position: int) -> float | None:
        if value is None:
            return None
        number = _as_float(value)
        if number is None:
            raise ValueError(
                f"reward {self.__name__!r} returned {repr(value)[:60]} ({type(value).__name__}) at position "
                f"{position}; it must return a number, or None for an unscored rollout."
            )
        if math.isnan(number):
            return None
        if abs(number) > _FLOAT32_MAX:
            raise ValueError(
                f"reward {self.__name__!r} returned {number} at position {position}; rewards must be finite "
                "(in float32). Return None for an unscored rollout."
            )
        return number


async def _finish(values: Awaitable[Any]) -> Any:
    return await values


def _as_float(value: Any) -> float | None:
    """Return a real scalar as a float, None for anything else."""
    if isinstance(value, str | bytes | complex) or getattr(value, "shape", ()) != ():
        return None
    if not hasattr(value, "__float__") and not hasattr(value, "__index__"):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf
    except (TypeError, ValueError, RuntimeError):
        return None


def checked(reward: Reward) -> CheckedReward:
    """Wrap a reward so that its results are checked; see `CheckedReward`.

    Args:
        reward: Any reward callable.

    Returns:
        A callable with the same name whose results are finite floats, or None where unscored.

    Example:
        >>> def length(*, completions, **columns):
        ...     return [float("nan") if not text else len(text) for text in completions]
        >>> checked(length)(prompts=["a", "a"], completions=["abc", ""])
        [3.0, None]
    """
    return reward if isinstance(reward, CheckedReward) else CheckedReward(reward)


class WeightedSum:
    """The weighted sum of several rewards, as TRL sums them.

    `sum_k weight_k * reward_k` over the rewards that scored the rollout; unscored where none did.

    Args:
        rewards: The rewards; each is checked.
        weights: One finite number a reward; None is 1 for each.

    Raises:
        ValueError: No rewards, another number of weights than rewards, or a weight that is not finite.

    Example:
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

    def __call__(self, *, prompts: list[Any], completions: list[Any], **columns: Any) -> list[float | None]:
        """Score rollouts.

        Args:
            prompts: One prompt a rollout.
            completions: One response a rollout.
            columns: One value a rollout of every other column, and what TRL passes.

        Returns:
            One float, or None where no reward scored the rollout, a rollout.
        """
        scores = [reward(prompts=prompts, completions=completions, **columns) for reward in self.rewards]
        return [self._sum(row) for row in zip(*scores, strict=True)]

    def _sum(self, row: tuple[float | None, ...]) -> float | None:
        terms = [w * value for w, value in zip(self.weights, row, strict=True) if value is not None]
        return math.fsum(terms) if terms else None
