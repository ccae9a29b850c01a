"""How many training seeds see a difference, and how far differences spread over seeds."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from scipy import stats

from tailgrad.statistics.intervals import mean_squares

POWER = 0.8
LEVEL = 0.05
MOST_SEEDS = 1000
_TINY, _LARGE = 1e-300, 1e3  # SciPy's power is NaN for a difference of far more deviations


def seeds_needed(deviation: float, difference: float) -> int | None:
    """Seeds that a paired t test at 5%, two-sided, needs to see a mean difference with 80% power.

    Args:
        deviation: Standard deviation over seeds of the difference, prompts averaged.
        difference: The difference to be seen.

    Returns:
        At least 2; None where even 1,000 are too few, or the deviation is not known.

    Examples:
        >>> seeds_needed(0.1, 0.2), seeds_needed(0.1, 0.0)
        (5, None)
    """
    size = min(abs(difference) / max(deviation, _TINY), _LARGE)
    seeds = np.arange(2, MOST_SEEDS + 1)
    threshold = stats.t.isf(LEVEL / 2, seeds - 1)
    power = stats.nct.sf(threshold, seeds - 1, size * np.sqrt(seeds))
    enough = seeds[power >= POWER]
    return int(enough[0]) if len(enough) else None


def seed_deviation(differences: Float[np.ndarray, "S P"]) -> float:
    """Standard deviation over seeds of the mean over prompts, and at least what the noise of the prompts makes.

    Without this bound, seeds that agree by chance would look as if they always agreed.

    Args:
        differences: One per seed and prompt.

    Returns:
        The larger of the standard deviation of the means and of what the residuals of the two-way layout explain; NaN
        without prompts, or with fewer than two seeds.
    """
    num_seeds, num_prompts = differences.shape
    if num_seeds < 2 or not num_prompts:
        return math.nan
    of_seeds, _, of_residual = (float(part[0]) for part in mean_squares(differences[:, :, None]))
    return math.sqrt(max(of_seeds, of_residual) / num_prompts)
