"""How far gains over the reference spread over seeds, and how many seeds would see them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from scipy import stats

from tailgrad.display.cells import aligned
from tailgrad.grid.gather import Method
from tailgrad.grid.trainings import BASE
from tailgrad.statistics.power import MOST_SEEDS, seed_deviation, seeds_needed

LIMITS = 0.1
"""Probability outside each limit of a standard deviation."""
SMALL_GAIN = 0.1
"""A gain that everyone may want to see or rule out, in units of the reward."""


def seed_differences(method: Method, reference: Method, budget: int) -> Float[np.ndarray, "S P"]:
    """V_N after the last step less the reference's.

    Args:
        method: A method with the same seeds as the reference.
        reference: The reference.
        budget: N.

    Returns:
        One difference per seed and prompt; a prompt that is unknown in any seed of either is left out.
    """
    ours, theirs = (one.v_n(one.steps[-1], [budget])[:, :, 0] for one in (method, reference))
    differences = ours - theirs
    known: np.ndarray = differences[:, ~np.isnan(differences).any(axis=0)]
    return known


def power_table(methods: Mapping[str, Method], *, budget: int, reference: str) -> str:
    """Give, for each method, the spread of its gain over seeds and the seeds that would see a small one, as Markdown.

    Args:
        methods: Methods by name, the reference among them.
        budget: N.
        reference: Name of the reference.

    Returns:
        A table, or a sentence where there are fewer than two seeds.
    """
    rows = [["method", "difference", "sd over seeds", f"seeds to see {SMALL_GAIN:g}"]]
    for name, method in methods.items():
        if name in (BASE, reference) or len(method.rows) < 2:
            continue
        differences = seed_differences(method, methods[reference], budget)
        rows.append([name, *_cells(differences, prompts=len(method.rows[0][-1]["v_n"]))])
    if len(rows) == 1:
        return "No estimate of power: it needs two seeds of two methods."
    return (
        f"V_{budget} less that of {reference}, on these prompts: spread over seeds, and seeds that see a difference of "
        f"{SMALL_GAIN:g} with 80% power (with the 80% limits of the spread)\n\n{aligned(rows)}"
    )


def _cells(differences: Float[np.ndarray, "S P"], prompts: int) -> list[str]:
    """Difference, spread and seeds; unknown where fewer than half of the prompts tell it."""
    if 2 * differences.shape[1] < prompts:
        return ["unknown"] * 3
    deviation, degrees = seed_deviation(differences), len(differences) - 1
    limits = [deviation * (degrees / stats.chi2.isf(tail, degrees)) ** 0.5 for tail in (LIMITS, 1 - LIMITS)]
    needed, low, high = (_seeds_text(one) for one in (deviation, *limits))
    return [f"{differences.mean():+.3f}", f"{deviation:.3f}", f"{needed} ({low} to {high})"]


def _seeds_text(deviation: float) -> str:
    return str(seeds_needed(deviation, SMALL_GAIN) or f"over {MOST_SEEDS}")
