"""How far gains over the reference spread over seeds, and how many seeds would see them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from scipy import stats

from tailgrad.evaluation.tables import aligned
from tailgrad.grid.gather import Method
from tailgrad.grid.trainings import BASE

POWER = 0.8
LEVEL = 0.05
MOST_SEEDS = 1000
SMALL_GAIN = 0.1
"""A gain that everyone may want to see or rule out, in units of the reward."""
_TINY, _LARGE = 1e-300, 1e3  # SciPy's power is NaN for a difference of far more deviations


def seeds_needed(deviation: float, difference: float) -> int | None:
    """Seeds that a paired t test at 5%, two-sided, needs to see a mean difference with 80% power.

    Args:
        deviation: Standard deviation over seeds of the difference, prompts averaged.
        difference: The difference to be seen.

    Returns:
        At least 2; None where even 1,000 are too few, or the deviation is not known.

    Example:
        >>> seeds_needed(0.1, 0.2), seeds_needed(0.1, 0.0)
        (5, None)
    """
    size = min(abs(difference) / max(deviation, _TINY), _LARGE)
    seeds = np.arange(2, MOST_SEEDS + 1)
    threshold = stats.t.isf(LEVEL / 2, seeds - 1)
    power = stats.nct.sf(threshold, seeds - 1, size * np.sqrt(seeds))
    enough = seeds[power >= POWER]
    return int(enough[0]) if len(enough) else None


def seed_differences(method: Method, reference: Method, budget: int) -> np.ndarray:
    """V_N after the last step less the reference's: one mean over prompts a seed.

    Args:
        method: A method with the same seeds as the reference.
        reference: The reference.
        budget: N.

    Returns:
        One difference a seed; a prompt that is unknown in any seed of either is left out.
    """
    ours, theirs = (one.v_n(one.steps[-1], [budget])[:, :, 0] for one in (method, reference))
    differences = ours - theirs
    known = ~np.isnan(differences).any(axis=0)
    means: np.ndarray = differences[:, known].mean(axis=1) if known.any() else np.full(len(ours), math.nan)
    return means


def power_table(methods: Mapping[str, Method], *, budget: int, reference: str) -> str:
    """Give, for each method, the spread of its gain over seeds and the seeds that would see it, as Markdown.

    Args:
        methods: Methods by name, the reference among them.
        budget: N.
        reference: Name of the reference.

    Returns:
        A table, or a sentence where there are fewer than two seeds.
    """
    rows = [["method", "difference", "sd over seeds", "seeds for 80% power", f"seeds to see {SMALL_GAIN:g}"]]
    for name, method in methods.items():
        if name in (BASE, reference) or len(method.rows) < 2:
            continue
        differences = seed_differences(method, methods[reference], budget)
        mean, deviation = float(differences.mean()), float(differences.std(ddof=1))
        needed = [seeds_needed(deviation, size) or f"over {MOST_SEEDS}" for size in (mean, SMALL_GAIN)]
        rows.append([name, f"{mean:+.3f}", f"{deviation:.3f}", *map(str, needed)])
    if len(rows) == 1:
        return "No estimate of power: it needs two seeds of two methods."
    return f"V_{budget} less that of {reference}: spread over seeds, and power\n\n{aligned(rows)}"
