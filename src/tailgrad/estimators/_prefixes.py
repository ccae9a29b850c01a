"""Which prefixes Prefix-TEA takes of a group of n rollouts, and with which weights."""

import math
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tailgrad.tails.constants import check_tail_fraction
from tailgrad.tails.statistics import largest_group, tail_size

Evaluation = Literal["in_sample", "held_out"]

_SMALLEST_TAIL = {"in_sample": 2, "held_out": 8}
"""Rollouts in the tail of the shortest prefix. Held out, a tail of two to four can have a tiny sigma_hat that
the evaluated rewards are not bounded by: a standard deviation of 1e4 at m = 16."""


def jackknife_weights(sizes: tuple[int, ...], order: int) -> NDArray[np.float64]:
    """Minimum-norm weights with sum_j w_j = 1 and sum_j w_j n_j^-l = 0 for l = 1 .. order - 1.

    Args:
        sizes: Distinct prefix sizes n_j, at least `order` of them.
        order: How many constraints hold.

    Returns:
        One weight per size.

    Examples:
        >>> jackknife_weights((8, 12, 16), 2).round(4).tolist()
        [-1.2143, 0.6429, 1.5714]
    """
    inverse = max(sizes) / np.array(sizes, dtype=np.float64)
    constraints = inverse[None, :] ** np.arange(order)[:, None]
    target = np.zeros(order)
    target[0] = 1.0
    return np.asarray(np.linalg.lstsq(constraints, target, rcond=None)[0], dtype=np.float64)


def default_prefix_sizes(
    num_rollouts: int, *, tail_fraction: float, num_prefixes: int, evaluation: Evaluation = "in_sample"
) -> tuple[int, ...]:
    """Prefix sizes with whole tail counts, evenly spaced in the count up to the largest that fits.

    Args:
        num_rollouts: m, the rollouts of the group.
        tail_fraction: alpha in (0, 1].
        num_prefixes: J; fewer sizes come back where m is small.
        evaluation: "held_out" leaves at least one rollout outside and 8 in the shortest tail.

    Returns:
        Ascending sizes; empty where not even one fits.

    Examples:
        >>> default_prefix_sizes(64, tail_fraction=0.25, num_prefixes=4)
        (16, 32, 48, 64)
    """
    longest = _longest(num_rollouts, evaluation)
    largest = tail_size(longest + 1, tail_fraction) - 1  # the largest whose group fits
    smallest = _SMALLEST_TAIL[evaluation]
    if largest < smallest:
        return ()
    counts = np.linspace(max(smallest, largest / num_prefixes), largest, num_prefixes)
    if num_prefixes == 1:
        counts = np.array([largest])
    return tuple(sorted({largest_group(math.floor(count + 0.5), tail_fraction) for count in counts}))


@lru_cache(maxsize=64)
def prefix_plan(
    num_rollouts: int,
    *,
    tail_fraction: float,
    order: int,
    num_prefixes: int,
    evaluation: Evaluation,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Sizes and weights for every number n of scored rollouts from 0 to m.

    Args:
        num_rollouts: m, the rollouts of the group.
        tail_fraction: alpha in (0, 1].
        order: How many constraints the weights satisfy.
        num_prefixes: J.
        evaluation: "in_sample" or "held_out".

    Returns:
        Two arrays `[m + 1, J]`; row n is filled up with weight 0, and is 0 throughout where fewer than
        `order` prefixes fit.

    Raises:
        ValueError: If an option is out of range or m leaves fewer than `order` prefixes.
    """
    _check_options(order, num_prefixes, evaluation)

    def sizes_for(n: int) -> tuple[int, ...]:
        return default_prefix_sizes(n, tail_fraction=tail_fraction, num_prefixes=num_prefixes, evaluation=evaluation)

    found = sizes_for(num_rollouts)
    if len(found) < order:
        smallest = smallest_prefix_group(tail_fraction=tail_fraction, order=order, evaluation=evaluation)
        raise ValueError(
            f"m = {num_rollouts} rollouts with tail_fraction = {tail_fraction} and evaluation = "
            f"{evaluation!r} leave {len(found)} prefix sizes and order = {order} needs {order}: the smallest "
            f"group that works has m = {smallest} rollouts"
        )
    sizes = np.ones((num_rollouts + 1, len(found)), dtype=np.int64)
    weights = np.zeros((num_rollouts + 1, len(found)))
    for n in range(num_rollouts + 1):
        row = sizes_for(n)
        if len(row) >= order:
            sizes[n, : len(row)] = row
            weights[n, : len(row)] = jackknife_weights(row, order)
    return sizes, weights


def smallest_prefix_group(
    *, tail_fraction: float = 0.25, order: int = 2, evaluation: Evaluation = "in_sample", **others: object
) -> int:
    """The fewest scored rollouts for which `order` prefixes fit; takes and ignores the other options."""
    check_tail_fraction(tail_fraction)
    _check_options(order, order, evaluation)
    longest = largest_group(_SMALLEST_TAIL[evaluation] + order - 1, tail_fraction)
    return longest + 1 if evaluation == "held_out" else longest


def _check_options(order: int, num_prefixes: int, evaluation: str) -> None:
    if evaluation not in get_args(Evaluation):
        raise ValueError(f"unknown evaluation {evaluation!r}: choose one of {', '.join(get_args(Evaluation))}")
    if not 1 <= order <= num_prefixes:
        raise ValueError(
            f"order = {order} must lie between 1 and the number of prefixes, {num_prefixes}: take a "
            "smaller order or more prefixes"
        )


def _longest(num_rollouts: int, evaluation: Evaluation) -> int:
    """The longest prefix; held-out evaluation leaves at least one rollout outside it."""
    return num_rollouts - 1 if evaluation == "held_out" else num_rollouts
