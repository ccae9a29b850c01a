"""The part of a table of rewards that a plan uses: as many scored responses of each prompt, and no more than needed."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Real

LARGEST: Final = 2**18
"""Most rewards that are used; more add little, and take minutes."""


class Pool(NamedTuple):
    """What a plan is made from."""

    rewards: Float[np.ndarray, "Q k"]
    """Without NaN, an even number per prompt."""
    prompts: Int[np.ndarray, " Q"]
    """Which rows of the given rewards they are, counted from 0."""
    notes: list[str]
    """One sentence for each thing that was left out, or that the rewards do not tell."""


def usable_pool(rewards: Real[np.ndarray, "P n"], deploy_n: int, *, seed: int = 0) -> Pool:
    """Give the rewards that a plan is made from, and say what was left out.

    Args:
        rewards: Rewards of the starting policy; NaN where unscored, or where a prompt has fewer responses.
        deploy_n: N.
        seed: Which prompts are taken where there are too many.

    Returns:
        The pool.

    Raises:
        ValueError: `rewards` is not `[P, n]` or holds an infinity, N is below 2, fewer than two prompts have 2 N scored
            responses, or no prompt has different rewards.

    Examples:
        >>> pool = usable_pool(np.array([[0.0, 1.0, 2.0, 3.0, 4.0], [0.0, np.nan, 1.0, 1.0, 0.0]]), 2)
        >>> pool.rewards.shape, pool.prompts.tolist(), len(pool.notes)
        ((2, 4), [0, 1], 1)
    """
    _check(rewards, deploy_n)
    scored = np.isfinite(rewards).sum(axis=1)
    enough = np.flatnonzero(scored >= 2 * deploy_n)
    if len(enough) < 2:
        raise ValueError(_too_few(scored, deploy_n))
    notes = []
    if left := len(scored) - len(enough):
        notes.append(f"{left} of {len(scored)} prompts are left out: they have fewer than 2 N scored responses.")
    per_prompt, prompts = _shares(len(enough), int(scored[enough].min()), deploy_n)
    if prompts < len(enough):
        chosen = np.random.default_rng([seed, prompts]).choice(len(enough), prompts, replace=False)
        notes.append(f"{prompts} of {len(enough)} prompts are used, drawn at random: more change little.")
        enough = enough[np.sort(chosen)]
    if per_prompt < scored[enough].max():
        notes.append(f"The first {per_prompt:,} scored responses of each prompt are used, of up to {scored.max():,}.")
    part = np.asarray(rewards[enough], dtype=np.float64)
    first = np.argsort(np.isnan(part), axis=1, kind="stable")[:, :per_prompt]
    pool = np.take_along_axis(part, first, axis=1)
    return Pool(pool, enough, notes + _what_rewards_say(pool, deploy_n))


def _check(rewards: np.ndarray, deploy_n: int) -> None:
    if rewards.ndim != 2 or 0 in rewards.shape:
        raise ValueError(f"rewards must be a matrix [P, n] of prompts and their responses, got {rewards.shape}.")
    if np.isinf(rewards).any():
        prompt, response = np.argwhere(np.isinf(rewards))[0]
        raise ValueError(
            f"rewards[{prompt}, {response}] is {rewards[prompt, response]}: rewards must be finite, or NaN where a "
            "response could not be scored."
        )
    if deploy_n < 2:
        raise ValueError(
            f"deploy_n = {deploy_n} must be at least 2: with one response per prompt train for the mean reward, "
            "with grpo."
        )


def _too_few(scored: np.ndarray, deploy_n: int) -> str:
    if len(scored) == 1:
        return "there is one prompt, so nothing would have an interval: give two prompts at least, better 16 or more."
    most = int(np.sort(scored)[-2])
    smaller = f", or take deploy_n = {most // 2} or less" if most >= 4 else ""
    return (
        f"deploy_n = {deploy_n} needs 2 N = {2 * deploy_n} scored responses per prompt, N for each of two halves that "
        f"check each other, and fewer than two prompts have them (the second best has {most}). Sample more{smaller}."
    )


def _shares(prompts: int, scored: int, deploy_n: int) -> tuple[int, int]:
    """How many responses per prompt, an even number, and how many prompts."""
    if prompts * scored > LARGEST:
        scored = min(scored, max(LARGEST // prompts, 1024, 4 * deploy_n))
    return scored - scored % 2, min(prompts, max(2, LARGEST // scored))


def _what_rewards_say(pool: Float[np.ndarray, "Q k"], deploy_n: int) -> list[str]:
    """What equal rewards mean for a plan; refuses rewards of which nothing can be learned."""
    prompts, largest = len(pool), pool.max(axis=1)
    constant = int((pool.min(axis=1) == largest).sum())
    if constant == prompts:
        raise ValueError(
            "every prompt's responses have one and the same reward, so there is nothing to learn: take prompts that "
            "are harder or easier, or a finer reward."
        )
    notes = []
    if constant:
        notes.append(f"{constant} of {prompts} prompts have equal rewards, and no signal; they count as they are.")
    share = (pool == largest[:, None]).mean(axis=1)
    if full := int(((share * deploy_n >= 3) & (share < 1)).sum()):
        notes.append(
            f"At {full} of {prompts} prompts the best of {deploy_n} is nearly always the largest reward already: there "
            "is little to gain at this N."
        )
    if np.isin(pool, (0.0, 1.0)).all():
        notes.append(
            "Rewards are 0 and 1: estimators differ in how they weigh the prompts alone. In trainings on such rewards "
            "it depended on the task whether one was ahead of GRPO (docs/gallery.md): compare."
        )
    return notes
