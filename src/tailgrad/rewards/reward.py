"""What a reward is: a callable, under a name, async or not."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

Reward = Callable[..., Any]
"""`reward(*, prompts, completions, **columns)` returns one number, or None (unscored), per rollout."""


def reward_name(reward: Reward) -> str:
    """Return the name a reward goes by in messages, tables and logs, the one that TRL shows.

    Args:
        reward: A function, a `functools.partial` of one, or a callable object.

    Returns:
        The function's `__name__`, or the class name of a callable object without one.

    Examples:
        >>> reward_name(functools.partial(len))
        'len'
    """
    while isinstance(reward, functools.partial):
        reward = reward.func
    return str(getattr(reward, "__name__", type(reward).__name__))


def is_async(reward: Reward) -> bool:
    """Return whether a reward is async, in the same forms as for TRL: a function, a partial of one, an object.

    Args:
        reward: Any reward callable.

    Returns:
        True if calling it gives a coroutine.

    Examples:
        >>> import asyncio
        >>> is_async(functools.partial(asyncio.sleep, 1)), is_async(len)
        (True, False)
    """
    while isinstance(reward, functools.partial):
        reward = reward.func
    return inspect.iscoroutinefunction(reward) or inspect.iscoroutinefunction(type(reward).__call__)
