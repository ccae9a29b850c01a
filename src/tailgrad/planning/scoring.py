"""From products of gradients per prompt to what a step of so many prompts is worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float, Real

from tailgrad.planning.replay import Replay
from tailgrad.statistics.jackknife import means_without_each


@dataclass(frozen=True)
class PolicyTraits:
    """What rewards alone do not tell of a policy.

    Attributes:
        noise_directions: D. The noise of a step is as that of D directions, each as easily moved as the location of a
            prompt's rewards.
        spread_weight: w, from 0 to 1: how easily the policy changes the spread of a prompt's rewards, compared with
            their location.
        source: Where the two come from.
    """

    noise_directions: float
    spread_weight: float
    source: str


COMMITTED: Final = PolicyTraits(600.0, 0.1, "the fidelity reports of the project's experiments")
"""Of the four rewards of experiments/quickstart and experiments/small-instruct: the median D, and a w with which the
steps that were measured there come in nearly the right order (docs/plan.md)."""


class Measures(NamedTuple):
    """Numbers of C estimators, of R sets of prompts; NaN where a root has no sense."""

    direction: Float[np.ndarray, "C R"]
    """Cosine of the expected gradient with that of V_N."""
    signal_to_noise: Float[np.ndarray, "C R"]
    """Squared norm of the expected gradient over that of the noise of a step."""
    value: Float[np.ndarray, "C R"]
    """Expected cosine of a step with the gradient of V_N: root mean square, with the sign of the direction."""


def measures(replay: Replay, traits: PolicyTraits, prompts_per_step: Real[np.ndarray, " C"]) -> Measures:
    """Score estimators at a policy.

    With inner products <f, g> = mean over prompts of (location parts + w spread parts), a the expected gradient, psi
    that of V_N and s the noise, a step of B prompts has

        direction <a, psi> / (|a| |psi|),   signal to noise |a|^2 B / (D s),
        value <a, psi> / (|psi| sqrt(|a|^2 + D s / B)).

    Args:
        replay: From the function of this name.
        traits: D and w.
        prompts_per_step: B of each estimator.

    Returns:
        The numbers of all prompts, and without each (none with one prompt).
    """
    return _measures(replay, traits, prompts_per_step, _mean_and_without_each)


def measures_per_prompt(replay: Replay, traits: PolicyTraits, prompts_per_step: Real[np.ndarray, " C"]) -> Measures:
    """Score estimators at each prompt by itself: as `measures`, were all prompts of a step like this one.

    Args:
        replay: From the function of this name.
        traits: D and w.
        prompts_per_step: B of each estimator.

    Returns:
        The numbers of each prompt.
    """
    return _measures(replay, traits, prompts_per_step, lambda values: values)


def _measures(
    replay: Replay,
    traits: PolicyTraits,
    prompts_per_step: Real[np.ndarray, " C"],
    mean: Callable[[np.ndarray], np.ndarray],
) -> Measures:
    """The measures of means over prompts, R of them, that `mean` makes of `[..., P]`."""
    square, along, truth = (
        mean(products[..., 0] + traits.spread_weight * products[..., 1])
        for products in (replay.square, replay.along, replay.truth)
    )
    truth = _positive(truth)
    noise = traits.noise_directions * mean(replay.noise) / prompts_per_step[:, None]
    return Measures(
        along / np.sqrt(_positive(square) * truth),
        square / _positive(noise),
        along / np.sqrt(_positive(square + noise) * truth),
    )


def _mean_and_without_each(values: Float[np.ndarray, "*C P"]) -> Float[np.ndarray, "*C R"]:
    """The mean over all prompts, then those without each; with one prompt the mean alone."""
    every = values.mean(axis=-1, keepdims=True)
    return np.concatenate([every, means_without_each(values)], axis=-1) if values.shape[-1] > 1 else every


def _positive(values: np.ndarray) -> np.ndarray:
    return np.where(values > 0, values, np.nan)
