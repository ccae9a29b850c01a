"""Batches of rollouts: the default size that fits `num_generations`, and what one that does not fit is told."""

from __future__ import annotations

import math
from collections.abc import Sequence, Sized
from typing import Any, Final

HOST_DEFAULT: Final = 8
"""Rollouts of one backward pass on one device where the user says nothing and it fits; TRL's own default."""


_SIZES: Final = (
    *("per_device_train_batch_size", "generation_batch_size"),
    *("gradient_accumulation_steps", "steps_per_generation", "num_iterations"),
)


def train_batch_size(config: Any, processes: int) -> int:
    """Return `per_device_train_batch_size`: as given, or 8 where whole groups fit into it, or else `num_generations`.

    Args:
        config: TRL's configuration before it derives anything, `per_device_train_batch_size` None where not given.
        processes: How many processes train.

    Returns:
        Rollouts of one backward pass on one device.

    Raises:
        ValueError: `num_generations` is below 2, a size or number of passes is below 1, or they cut a group in two; the
            message names the options to change and values that work.
    """
    m, given, whole = config.num_generations, config.per_device_train_batch_size, config.generation_batch_size
    if m < 2:
        raise ValueError(f"num_generations = {m} must be at least 2: advantages compare the rollouts of a group.")
    _check_sizes(config, *_SIZES)
    if whole is not None:
        sizes: Sequence[int] = (HOST_DEFAULT, m, whole // processes) if given is None else (given,)
        fitting = [size for size in sizes if size and whole % (size * processes) == 0]
        if whole % m == 0 and fitting:
            return fitting[0]
        if whole % m:
            raise ValueError(
                f"generation_batch_size = {whole} does not hold whole groups of num_generations = {m} rollouts. "
                f"Use a multiple of {m}, such as --generation_batch_size {_next_multiple(whole, m)}."
            )
        if given is None:
            raise ValueError(f"generation_batch_size = {whole} cannot be shared by {processes} processes alike.")
        step = given * processes
        raise ValueError(
            f"generation_batch_size = {whole} is no multiple of per_device_train_batch_size = {given} on {processes} "
            f"process(es). Use --generation_batch_size {_next_multiple(whole, math.lcm(step, m))}, or leave one of "
            "the two out."
        )
    passes = config.steps_per_generation or config.gradient_accumulation_steps
    if given is None:
        return HOST_DEFAULT if HOST_DEFAULT * processes * passes % m == 0 else m
    if given * processes * passes % m == 0:
        return int(given)
    name = "steps_per_generation" if config.steps_per_generation else "gradient_accumulation_steps"
    size, count = m // math.gcd(m, processes * passes), m // math.gcd(m, given * processes)
    raise ValueError(
        f"per_device_train_batch_size = {given} x {processes} process(es) x {name} = {passes} makes "
        f"{given * processes * passes} rollouts, which are no whole groups of num_generations = {m}. Use "
        f"--per_device_train_batch_size {_next_multiple(given, size)} or --{name} {_next_multiple(passes, count)}, "
        f"or leave --per_device_train_batch_size out."
    )


def eval_batch_size(config: Any, processes: int) -> int:
    """Return `per_device_eval_batch_size`: as given, or 8 where whole groups fit into it, or else one group.

    Args:
        config: TRL's configuration before it derives anything, `per_device_eval_batch_size` None where not given.
        processes: How many processes evaluate.

    Returns:
        Rollouts that one device evaluates at a time.

    Raises:
        ValueError: A size given is below 1, or there is an evaluation and it cuts a group in two.
    """
    name = "num_generations_eval" if config.num_generations_eval else "num_generations"
    m, given = getattr(config, name), config.per_device_eval_batch_size
    _check_sizes(config, "per_device_eval_batch_size", "num_generations_eval")
    if given is None:
        return HOST_DEFAULT if HOST_DEFAULT * processes % m == 0 else m
    if config.eval_strategy != "no" and given * processes % m:
        size = m // math.gcd(m, processes)
        raise ValueError(
            f"per_device_eval_batch_size = {given} x {processes} process(es) is no multiple of {name} = {m}. Use "
            f"--per_device_eval_batch_size {_next_multiple(given, size)}, or leave it out."
        )
    return int(given)


def small_evaluation(config: Any, smallest: int) -> str | None:
    """Return a warning of an evaluation with fewer rollouts per prompt than the estimator takes.

    Args:
        config: The configuration.
        smallest: The fewest that the estimator takes.
    """
    drawn = config.num_generations_eval or config.num_generations
    if config.eval_strategy == "no" or drawn >= smallest:
        return None
    return (
        f"num_generations_eval = {drawn} is below the {smallest} rollouts that estimator={config.estimator!r} needs: "
        "evaluation logs the rewards, and its advantages are 0."
    )


def counted_twice(config: Any, rows: Any, processes: int) -> str | None:
    """Return a warning where several processes fill their last batch of an evaluation with rows from its start.

    Args:
        config: The configuration, with its batch sizes.
        rows: The rows to evaluate on; of those that do not say how many they are nothing is known.
        processes: How many processes evaluate.
    """
    if config.eval_strategy == "no" or processes == 1 or not isinstance(rows, Sized):
        return None
    drawn = config.num_generations_eval or config.num_generations
    at_once = max(1, config.per_device_eval_batch_size * processes // drawn)
    missing = -len(rows) % at_once
    if not missing:
        return None
    return (
        f"The evaluation has {len(rows)} rows, and {processes} processes take {at_once} at a time: {missing} rows from "
        f"its start count twice in its metrics. Evaluate on a multiple of {at_once} rows, or change "
        "per_device_eval_batch_size."
    )


def _check_sizes(config: Any, *names: str) -> None:
    for name in names:
        given = getattr(config, name)
        if given is not None and given < 1:
            raise ValueError(f"{name} = {given} must be at least 1, or left out.")


def _next_multiple(value: int, of: int) -> int:
    return max(1, math.ceil(value / of)) * of
