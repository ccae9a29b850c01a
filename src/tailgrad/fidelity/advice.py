"""What a report of gradient fidelity says in words: the number that decides, and what the pool does not tell."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from tailgrad.display.cells import interval_cell
from tailgrad.estimators import ESTIMATORS
from tailgrad.fidelity.measure import Fidelity, FidelityPoint

HARDLY: Final = 0.25
"""Below this cosine the truths of the two halves hardly agree: in each, noise is more than three times the signal."""


def hardly_agree(fidelity: Fidelity, deploy_n: int) -> bool:
    """Whether the truths of the two halves of the pool have too much noise for directions and what follows from them.

    Args:
        fidelity: The numbers.
        deploy_n: N of the truths.

    Returns:
        True too where a half has no truth at all.
    """
    return not fidelity.truth_agreement[deploy_n] >= HARDLY


def times_as_many(cosine: float) -> int:
    """How many times as many responses bring the cosine between the truths of the halves to a half.

    The squared noise of a half's truth over its signal is about 1 / cosine - 1 and falls as 1 / n: asked for are as
    many responses as bring it to 1.

    Args:
        cosine: Of the truths of the two halves.

    Returns:
        A power of two from 4 to 16, as the cosine is noisy itself.

    Examples:
        >>> [times_as_many(cosine) for cosine in (0.2, 0.15, 0.07, -0.1)]
        [4, 8, 16, 16]
    """
    return 1 << math.ceil(math.log2(max(1 / max(cosine, 1 / 17) - 1, 4)))


def direction_of_the_mean(fidelity: Fidelity) -> list[str]:
    """Say what decides whether an estimator of the tail helps: the direction of the gradient of the mean reward.

    It is that of the estimator that aims at the mean, of several the one with a gradient scale, at the largest m.

    Args:
        fidelity: The numbers.

    Returns:
        A line, or nothing where no such estimator was measured.
    """
    points = [point for point in fidelity.points if point.estimator in ESTIMATORS]
    points = [point for point in points if ESTIMATORS[point.estimator].follows_mean]
    if not points:
        return []
    best = max(points, key=lambda point: (ESTIMATORS[point.estimator].has_scale, point.m))
    of_mean = {point.deploy_n: point for point in points if (point.estimator, point.m) == (best.estimator, best.m)}
    cells = {
        n: "unknown" if hardly_agree(fidelity, n) else interval_cell(point.measures["direction"], 0, 2)
        for n, point in of_mean.items()
    }
    found = ", ".join(f"{cell} at N = {n}" for n, cell in cells.items())
    return [
        f"Direction of the gradient of the mean reward: {found}. From 0.85 on GRPO is hard to beat; below 0.6 an "
        "estimator of the tail helps (docs/concepts.md)."
    ]


def advice(fidelity: Fidelity) -> list[str]:
    """Say what noise leaves unknown, and what to do about it.

    Args:
        fidelity: The numbers.

    Returns:
        At most one line per N.
    """
    told = []
    for deploy_n, cosine in fidelity.truth_agreement.items():
        at_n = [point for point in fidelity.points if point.deploy_n == deploy_n]
        unknown = [point for point in at_n if np.isnan(point.measures["direction"].mean[0])]
        if np.isnan(cosine):
            told.append(
                f"Unknown at N = {deploy_n}: in half of the pool no prompt has responses with different rewards. Take "
                "other prompts or rewards."
            )
        elif hardly_agree(fidelity, deploy_n):
            times = times_as_many(cosine)
            told.append(
                f"N = {deploy_n}: the truths of the two halves hardly agree (cosine {cosine:.2f}), so directions and "
                f"prompts per step are hardly known{_named(unknown, at_n)}. Sample at least {times * fidelity.n} "
                f"responses per prompt ({times} times as many), or more prompts."
            )
        elif unknown:
            told.append(
                f"No measurable signal at N = {deploy_n}: {_names(unknown)}. The truth is known, and of these the pool "
                "sees noise alone: take a larger m, or another estimator."
            )
    return told


def _named(unknown: list[FidelityPoint], points: list[FidelityPoint]) -> str:
    if not unknown:
        return ""
    return f" (unknown: {'all' if len(unknown) == len(points) else _names(unknown)})"


def _names(points: list[FidelityPoint]) -> str:
    """Each estimator once, with its m."""
    sizes: dict[str, list[str]] = {}
    for point in points:
        sizes.setdefault(point.estimator, []).append(str(point.m))
    return ", ".join(f"{name} (m = {', '.join(of)})" for name, of in sizes.items())
