"""Replay estimators on groups drawn from a pool of rewards: what each does to location and spread of the rewards."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from tailgrad.estimators import bind, find_estimator, parse_estimator, scale_advantages, with_budget
from tailgrad.fidelity import population_influence

DRAWS: Final = 16
"""How many times all responses of the pool are dealt into groups, at each m."""

_NO_SPREAD: Final = 1e-9
"""Share of the mean fourth power that is rounding: rewards of two values have no spread apart from their mean."""


class Replay(NamedTuple):
    """What C estimators, each at one m, do at P prompts; a gradient has one part along location, one along spread.

    Products are between independent halves of the pool, so noise has no part in them on average; what is left of it is
    of the order of 1 / n.
    """

    square: Float[np.ndarray, "C P 2"]
    """Square of each part of the expected gradient."""
    along: Float[np.ndarray, "C P 2"]
    """Each part times that of the gradient of V_N."""
    noise: Float[np.ndarray, "C P"]
    """E sum A_i^2 / m^2: variance of a group's gradient in a direction that has nothing to do with the reward."""
    truth: Float[np.ndarray, "P 2"]
    """Square of each part of the gradient of V_N."""


def scores(rewards: Float[np.ndarray, "P n"]) -> Float[np.ndarray, "P 2 n"]:
    """How the log-probability of each response changes when the policy moves its prompt's rewards.

    With z the rewards of a prompt less their mean, over their standard deviation: location is z, and spread is z^2 less
    what location explains of it; each has mean 0 and mean square 1. For Gaussian rewards these are the scores of the
    mean and of the logarithm of the standard deviation.

    Args:
        rewards: Rewards of a pool, none unscored.

    Returns:
        Location and spread; 0 where all rewards are equal, and spread 0 where there are two values of them.

    Examples:
        >>> location, spread = scores(np.array([[-2.0, -1.0, 1.0, 2.0]]))[0].round(2)
        >>> location, spread
        (array([-1.26, -0.63,  0.63,  1.26]), array([ 1., -1., -1.,  1.]))
    """
    deviations = rewards - rewards.mean(axis=1, keepdims=True)
    location = _standardised(deviations, np.ptp(rewards, axis=1, keepdims=True) > 0)
    squares = location**2 - (location**2).mean(axis=1, keepdims=True)
    rest = squares - location * (squares * location).mean(axis=1, keepdims=True)
    fourth = (location**4).mean(axis=1, keepdims=True)
    spread = _standardised(rest, (rest**2).mean(axis=1, keepdims=True) > _NO_SPREAD * fourth)
    return np.stack([location, spread], axis=1)


def _standardised(values: Float[np.ndarray, "P n"], known: np.ndarray) -> Float[np.ndarray, "P n"]:
    size = np.sqrt((values**2).mean(axis=1, keepdims=True))
    return np.divide(values, size, out=np.zeros_like(values), where=known & (size > 0))


def replay(
    rewards: Float[np.ndarray, "P n"],
    groups: Sequence[tuple[str, int]],
    *,
    deploy_n: int,
    scaling: str | None = None,
    seed: int = 0,
) -> Replay:
    """Deal a pool into groups of m, and let estimators give them advantages as a training would.

    All estimators at one m see the same groups. Each group is of one half of a prompt's responses.

    Args:
        rewards: Rewards of n responses to each of P prompts, none unscored; n even.
        groups: Estimators with options, as `parse_estimator` reads them, each with an m that it takes, at most n / 2.
        deploy_n: N, at most n / 2.
        scaling: How all advantages are scaled, as `scale_advantages` reads it; None is the default of each estimator.
        seed: Seed of the groups.

    Returns:
        Products of gradients per prompt, in the order of `groups`.

    Raises:
        ValueError: An estimator refuses the rewards, or its options.

    Examples:
        >>> rewards = np.random.default_rng(0).normal(size=(16, 512))  # Gaussian: (15 / 16)^2
        >>> replay(rewards, [("dr_grpo", 16)], deploy_n=64).square[0, :, 0].mean().round(1)
        np.float64(0.9)
    """
    prompts, half = len(rewards), rewards.shape[1] // 2
    halves = rewards.reshape(prompts, 2, half)
    directions = scores(halves.reshape(-1, half)).reshape(prompts, 2, 2, half)  # of each half by itself
    influence = np.stack([population_influence(halves[:, h], deploy_n) for h in (0, 1)], axis=1)
    truth = np.einsum("phi,phki->phk", influence, directions) / half
    functions = [(_advantages(text, deploy_n, scaling), m) for text, m in groups]
    parts, noise = np.zeros((len(groups), prompts, 2, 2)), np.zeros((len(groups), prompts))
    for m in sorted({m for _, m in groups}):
        rng = np.random.default_rng([seed, m])  # no generator that rewards may have been drawn by
        places = [place for place, (_, size) in enumerate(functions) if size == m]
        for _ in range(DRAWS):
            order = rng.random(halves.shape).argsort(axis=2)[:, :, : half // m * m]
            dealt = np.take_along_axis(halves, order, axis=2).reshape(prompts, -1, m)
            along = np.take_along_axis(directions, order[:, :, None], axis=3)
            for place in places:
                advantages = functions[place][0](dealt).reshape(order.shape)
                parts[place] += np.einsum("phi,phki->phk", advantages, along) / (DRAWS * order.shape[2])
                noise[place] += (advantages**2).mean(axis=(1, 2)) / (DRAWS * m)
    return Replay(_between_halves(parts, parts), _between_halves(parts, truth), noise, _between_halves(truth, truth))


def _between_halves(
    first: Float[np.ndarray, "*C P 2 2"], second: Float[np.ndarray, "*D P 2 2"]
) -> Float[np.ndarray, "*C P 2"]:
    """Products of the parts of one half with those of the other, mean of both ways."""
    return np.asarray((first * second[..., ::-1, :]).mean(axis=-2))


def _advantages(text: str, deploy_n: int, scaling: str | None = None) -> Callable[[np.ndarray], np.ndarray]:
    """The advantages that a training makes of groups [P, G, m], scaled as asked, or as it scales them by default."""
    name, options = parse_estimator(text)
    row, estimate = find_estimator(name), bind(name, **with_budget(name, options, deploy_n))

    def advantages(groups: np.ndarray) -> np.ndarray:
        rewards = torch.from_numpy(groups)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="deploy_n = .* is not larger than", category=UserWarning)
            if row.over_batch:  # one call per step, all prompts together, as in training
                found = torch.cat([estimate(step) for step in rewards.unbind(dim=1)])
                found = found.reshape(groups.shape[1], groups.shape[0], -1).swapaxes(0, 1)
            else:
                found = estimate(rewards.flatten(0, 1))
        found = found.reshape(-1, groups.shape[2])
        none_by_rounding = torch.zeros((len(found), 1), dtype=torch.bool)
        return np.asarray(scale_advantages(found, scaling or row.scaling, none_by_rounding).numpy())

    return advantages
