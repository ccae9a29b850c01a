"""What a reward returns, checked: never a wrong number, and an answer in time."""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
import re
from typing import Any

import torch

from tailgrad.models.breaker import ServerDownError
from tailgrad.models.server import RefusedError
from tailgrad.rewards.remote import RemoteReward
from tailgrad.rewards.reward import Reward, is_async, reward_name
from tailgrad.rewards.timeout import RewardTimeoutError, in_thread, wait

_FLOAT32_MAX = torch.finfo(torch.float32).max


class _Checks:
    """A reward with a name and a limit of time, and the checks of what it returns."""

    def __init__(self, reward: Reward, timeout: float | None = None) -> None:
        if timeout is not None and not 0 < timeout < math.inf:
            raise ValueError(f"reward_timeout is {timeout}; it must be a number of seconds above 0.")
        self.reward = reward
        self.timeout = None if isinstance(reward, RemoteReward) else timeout  # which is that of its requests
        self.__name__ = reward_name(reward)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.__name__})"

    def _call(self, /, **rollouts: Any) -> Any:
        values = self.reward(**rollouts)
        return asyncio.run(_finish(values)) if inspect.isawaitable(values) else values

    def _named(self, error: Exception, given: dict[str, Any]) -> Exception:
        """The error of a reward, by its name, and what to do; `given` is what it was called with."""
        if isinstance(error, RewardTimeoutError):
            return RewardTimeoutError(
                f"reward {self.__name__!r} has not scored {len(given['completions'])} rollouts within "
                f"{self.timeout:g} seconds (--reward_timeout). What was finished before stays; make the reward faster, "
                "or give it more time."
            )
        remedy = "Return None for a rollout that cannot be scored."
        refused = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if isinstance(error, TypeError) and refused and refused[1] in given:
            remedy = "Take **columns: every reward is called with prompts, completions and the data's columns."
        return RuntimeError(f"reward {self.__name__!r} raised {type(error).__name__}: {error}. {remedy}")

    def _checked(self, values: Any, count: int) -> list[float | None]:
        return [self._number(value, i) for i, value in enumerate(self._sequence(values, count))]

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


class CheckedReward(_Checks):
    """A reward whose results are checked: never a wrong number.

    Calls `reward` with the same arguments and returns a list with one float or None (unscored) per rollout.
    NaN counts as None. An async reward is run to its end.

    Args:
        reward: The reward to check.
        timeout: Most seconds of a call; None is no limit.

    Raises:
        ValueError: The timeout is not above 0.
    """

    def __call__(self, /, *, prompts: list[Any], completions: list[Any], **columns: Any) -> list[float | None]:
        """Score rollouts.

        Args:
            prompts: One prompt per rollout.
            completions: One response per rollout.
            columns: One value per rollout of every other column, and what TRL passes.

        Returns:
            One float, or None where unscored, per rollout.

        Raises:
            RuntimeError: The reward raised; the error is chained.
            ServerDownError: The server of a remote reward failed too often.
            RewardTimeoutError: The reward took longer than the timeout.
            ValueError: The reward returned another number of values, or a value that is not a finite number.
        """
        given = {"prompts": prompts, "completions": completions, **columns}
        call = functools.partial(self._call, **given)
        try:
            values = call() if self.timeout is None else wait(in_thread(call), self.timeout)
        except (ServerDownError, RefusedError):
            raise  # in words already, with the address
        except Exception as error:
            raise self._named(error, given) from error
        return self._checked(values, len(completions))


class AsyncCheckedReward(_Checks):
    """The same as `CheckedReward` of an async reward, for a host that runs async rewards side by side, as TRL does.

    With a timeout the reward runs in a thread and an event loop of its own, so that one that blocks the loop is
    stopped too.
    """

    async def __call__(self, /, *, prompts: list[Any], completions: list[Any], **columns: Any) -> list[float | None]:
        """Score rollouts; see `CheckedReward`."""
        given = {"prompts": prompts, "completions": completions, **columns}
        try:
            if self.timeout is None:
                values = await self.reward(**given)
            else:
                answer = asyncio.wrap_future(in_thread(functools.partial(self._call, **given)))
                if not (await asyncio.wait([answer], timeout=self.timeout))[0]:
                    raise RewardTimeoutError
                values = answer.result()
        except Exception as error:
            raise self._named(error, given) from error
        return self._checked(values, len(completions))


async def _finish(values: Any) -> Any:
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


def checked(reward: Reward, timeout: float | None = None) -> CheckedReward:
    """Wrap a reward so that its results are checked; see `CheckedReward`.

    Args:
        reward: Any reward callable.
        timeout: Most seconds of a call; None is no limit.

    Returns:
        A callable with the same name whose results are finite floats, or None where unscored.

    Examples:
        >>> def length(*, completions, **columns):
        ...     return [float("nan") if not text else len(text) for text in completions]
        >>> checked(length)(prompts=["a", "a"], completions=["abc", ""])
        [3.0, None]
    """
    if isinstance(reward, CheckedReward) and timeout in (None, reward.timeout):
        return reward
    return CheckedReward(reward.reward if isinstance(reward, CheckedReward) else reward, timeout)


def checked_for_trl(reward: Reward, timeout: float | None = None) -> CheckedReward | AsyncCheckedReward:
    """Wrap a reward for TRL's trainers: as `checked`, but an async one stays async, so that TRL runs them side by side.

    Args:
        reward: Any reward callable.
        timeout: Most seconds of a call; None is no limit.

    Returns:
        As `checked`, or an async callable.
    """
    return AsyncCheckedReward(reward, timeout) if is_async(reward) else checked(reward, timeout)
