"""What a reward is: a callable, under a name, async or not, that may need columns of the data."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from typing import Any, Final

Reward = Callable[..., Any]
"""`reward(*, prompts, completions, **columns)` returns one number, or None (unscored), per rollout."""


ARGUMENTS: Final = ("prompts", "completions", "completion_ids")
"""What every reward is passed beside the columns of the data."""

ARGUMENTS_IN_TRAINING: Final = (*ARGUMENTS, "trainer_state", "log_extra", "log_metric", "environments")
"""What TRL passes in training."""


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


def check_columns(reward: Reward, columns: Collection[str], what: str, given: Collection[str] = ARGUMENTS) -> None:
    """Refuse a reward that lacks an argument or does not take a column: said here, before the policy is loaded.

    Args:
        reward: A function; of what does not say its arguments nothing is known. Those of a wrapper count, and not those
            of what it wraps.
        columns: The columns of the data that it is passed.
        what: What has the columns, in the error.
        given: What it is passed besides.

    Raises:
        ValueError: An argument without default is neither among the columns nor given, or a column is no argument.

    Examples:
        >>> check_columns(lambda completions, answer: [0.0], ["topic"], "the data")
        Traceback (most recent call last):
            ...
        ValueError: reward '<lambda>' needs 'answer', which is no column of the data; there is: topic. Name the ...
    """
    try:
        parameters = inspect.signature(reward, follow_wrapped=False).parameters.values()
    except (TypeError, ValueError):  # some compiled functions
        return
    name = reward_name(reward)
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    needed = [one.name for one in parameters if one.default is one.empty and one.kind in by_name]
    if missing := [repr(name) for name in needed if name not in {*columns, *given}]:
        raise ValueError(
            f"reward {name!r} needs {' and '.join(missing)}, which is no column of {what}; there is: "
            f"{', '.join(columns) or 'none'}. Name the column so, or give the argument a default."
        )
    taken = {one.name for one in parameters if one.kind in by_name}
    takes_all = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters)
    passed = [argument for argument in given if argument != "environments"]  # which TRL passes only where there are any
    unknown = [repr(column) for column in (*passed, *columns) if column not in taken]
    if unknown and not takes_all:
        raise ValueError(
            f"reward {name!r} does not take {unknown[0]}, and is called with {', '.join(passed)} and every column of "
            f"{what}: let it take **columns."
        )
