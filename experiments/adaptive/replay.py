"""Rules replayed on pools: each prompt's responses in many random orders, and what each rule draws and finds."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from tailgrad.serving.expected_gain import expected_gain, spread_of
from tailgrad.serving.priors import LevelPrior, SpreadPrior, prior_of

PRIOR_RESPONSES = 16
"""Responses of each prompt of the other half that a prior is learned from."""

AHEAD = 3
"""Samples that a prompt can get in one round of our allocation."""

Prior = SpreadPrior | LevelPrior | None


class Outcome(NamedTuple):
    """What a rule draws and finds at each value of its knob, per prompt, on average over the orders."""

    samples: np.ndarray
    """`[P, K]`."""
    reward: np.ndarray
    """`[P, K]`."""


def orders_of(pool: np.ndarray, orders: int, seed: int) -> np.ndarray:
    """`[R, P, M]`: random orders of each prompt's responses."""
    places = np.random.default_rng(seed).random((orders, *pool.shape)).argsort(axis=2)
    return np.take_along_axis(np.broadcast_to(pool, places.shape), places, axis=2)


def uniform(drawn: np.ndarray, budgets: Sequence[int]) -> Outcome:
    """The same number of samples for every prompt."""
    best = np.maximum.accumulate(drawn, axis=2)[..., np.asarray(budgets) - 1].mean(axis=0)
    return Outcome(np.broadcast_to(np.asarray(budgets, dtype=float), best.shape), best)


def stopping(drawn: np.ndarray, index: np.ndarray, prices: np.ndarray, *, first: int, most: int) -> Outcome:
    """A rule that stops at the first n from `first` on whose index is at most the price, and at `most`.

    Args:
        drawn: `[R, P, M]`.
        index: `[R, P, M]`; entry n - 1 sees the first n rewards alone. Infinite where the rule does not ask.
        prices: Values of the knob, one column of the outcome each.
        first: The first n at which it may stop.
        most: The last n.
    """
    asked = index[..., :most].copy()
    asked[..., : first - 1], asked[..., most - 1] = np.inf, -np.inf
    lowest = np.minimum.accumulate(asked, axis=2)
    best = np.maximum.accumulate(drawn, axis=2)
    samples, reward = [], []
    for price in prices:
        stop = (lowest > price).sum(axis=2)
        samples.append((stop + 1).mean(axis=0))
        reward.append(np.take_along_axis(best, stop[..., None], axis=2)[..., 0].mean(axis=0))
    return Outcome(np.stack(samples, axis=1), np.stack(reward, axis=1))


def halves(prompts: int) -> list[np.ndarray]:
    """Every other prompt, and the others."""
    return [np.arange(prompts) % 2 == half for half in (0, 1)]


def priors_of(pool: np.ndarray, seed: int) -> list[Prior]:
    """For each half of the prompts a prior from 16 responses of each prompt of the other half."""
    rng = np.random.default_rng(seed)
    some = np.take_along_axis(pool, rng.random(pool.shape).argsort(axis=1)[:, :PRIOR_RESPONSES], axis=1)
    return [prior_of(torch.from_numpy(some[~half])) for half in halves(len(pool))]


def gain_index(
    drawn: np.ndarray,
    *,
    batch: int,
    first: int,
    most: int,
    priors: Sequence[Prior],
    top: float = math.inf,
    growth: float = 0.0,
) -> np.ndarray:
    """Our index: the expected gain of the next batch, per sample, where a batch ends; batches as `TailStopping` has."""
    orders, prompts, _ = drawn.shape
    index = np.full(drawn.shape, np.inf)
    for half, prior in zip(halves(prompts), priors, strict=True):
        n = first
        while n < most:
            draws = min(max(batch, int(growth * n)), most - n)
            rewards = torch.from_numpy(np.ascontiguousarray(drawn[:, half, :n]).reshape(-1, n))
            gain = expected_gain(rewards, draws=draws, prior=prior, top=top)
            gain = gain / spread_of(rewards, prior=prior)
            index[:, half, n - 1] = gain.reshape(orders, -1).numpy() / draws
            n += draws
    return index


def allocated(drawn: np.ndarray, budgets: Sequence[int], *, first: int) -> Outcome:
    """Our allocation, with no prior but the prompts of the batch themselves, learned anew as often as samples double.

    In each round there are as many samples as prompts; they go to the largest increments of the expected gain.
    """
    orders, prompts, pool = drawn.shape
    counts = np.full((orders, prompts), first)
    found, learned = {}, 0
    for total in range(first, max(budgets) + 1):
        if total in budgets:
            found[total] = counts.copy()
        seen = np.arange(counts.max()) < counts[..., None]
        rewards = torch.from_numpy(np.where(seen, drawn[..., : counts.max()], np.nan))
        if total >= 2 * learned:
            priors, learned = [_own_prior(of_order) for of_order in rewards], total
        gains = [
            [expected_gain(of_order, draws=k, prior=prior).numpy() for k in range(1, AHEAD + 1)]
            for of_order, prior in zip(rewards, priors, strict=True)
        ]
        increments = np.diff(np.array(gains), axis=1, prepend=0).transpose(0, 2, 1)
        increments[counts[..., None] + np.arange(AHEAD) >= pool] = -1
        counts = counts + largest(increments, prompts)
    return _outcome(drawn, [found[total] for total in budgets])


def _own_prior(rewards: torch.Tensor) -> Prior:
    try:
        return prior_of(rewards)
    except ValueError:
        return None


def two_stage(
    drawn: np.ndarray, budgets: Sequence[int], share: float, gains: Callable[[np.ndarray, int], np.ndarray]
) -> Outcome:
    """A share of the samples evenly, the others at once by the increments that the peer foresees."""
    orders, prompts, pool = drawn.shape
    counts = []
    for budget in budgets:
        first = max(2, round(share * budget))
        foreseen = gains(drawn[..., :first].reshape(-1, first), pool - first).reshape(orders, prompts, -1)
        counts.append(first + largest(foreseen, (budget - first) * prompts))
    return _outcome(drawn, counts)


def largest(increments: np.ndarray, samples: int) -> np.ndarray:
    """How many of each prompt's increments `[R, P, J]` are among the largest of their order."""
    if not samples:
        return np.zeros(increments.shape[:2], dtype=int)
    flat = increments.reshape(len(increments), -1)
    chosen = np.zeros_like(flat, dtype=int)
    np.put_along_axis(chosen, np.argpartition(-flat, samples - 1, axis=1)[:, :samples], 1, axis=1)
    return chosen.reshape(increments.shape).sum(axis=2)


def _outcome(drawn: np.ndarray, counts: Sequence[np.ndarray]) -> Outcome:
    best = np.maximum.accumulate(drawn, axis=2)
    reward = [np.take_along_axis(best, one[..., None] - 1, axis=2)[..., 0].mean(axis=0) for one in counts]
    return Outcome(np.stack([one.mean(axis=0) for one in counts], axis=1), np.stack(reward, axis=1))


def at_samples(outcome: Outcome, weights: np.ndarray, samples: float) -> np.ndarray:
    """Mean reward of each resampling of the prompts (`weights`, `[B, P]`) at a mean number of samples."""
    return _crossing(weights @ outcome.samples, weights @ outcome.reward, np.full(len(weights), samples))


def needed(outcome: Outcome, weights: np.ndarray, reward: np.ndarray) -> np.ndarray:
    """Mean samples at which each resampling of the prompts reaches a mean reward."""
    return _crossing(weights @ outcome.reward, weights @ outcome.samples, reward)


def _crossing(of: np.ndarray, values: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """`values` where `of` reaches the target, row by row; NaN outside."""
    rows = []
    for one, value, target in zip(of, values, targets, strict=True):
        order = np.argsort(one)
        near = 1e-9 * abs(target)  # the ends themselves count as reached
        inside = one.min() - near <= target <= one.max() + near
        rows.append(np.interp(target, one[order], value[order]) if inside else np.nan)
    return np.array(rows)
