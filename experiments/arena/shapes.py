"""Shapes of a prompt's reward: a standard normal latent, bent monotonically to another distribution.

Mean 0 and standard deviation 1, so that settings differ in shape alone; 0/1 rewards are made by the worlds.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from scipy import stats

_GRID: Final = np.linspace(-8.0, 8.0, 16_001)


def _quantiles(distribution: stats.rv_continuous) -> Callable[[np.ndarray], np.ndarray]:
    """The distribution's quantile at the normal's level; from the upper end where the level is near 1."""
    return lambda z: np.where(z < 0, distribution.ppf(stats.norm.cdf(z)), distribution.isf(stats.norm.sf(z)))


SHAPES: Final[dict[str, Callable[[np.ndarray], np.ndarray]]] = {
    "gaussian": lambda z: z,
    "exponential": _quantiles(stats.expon()),
    "uniform": stats.norm.cdf,
    "student_t3": lambda z: _quantiles(stats.t(3))(np.clip(z, -5.0, 5.0)),
    "skewed_left": lambda z: -_quantiles(stats.gamma(8.0))(-z),
    "capped": lambda z: np.minimum(z, 2.5),
    "mixture": lambda z: 0.4 * z + 3.0 / (1.0 + np.exp(-8.0 * (z - 1.3))),
    "tied": np.round,
}
"""Student's t ends at its one in 3.5 million. Two bumps: `mixture`, a tenth of the mass 3 higher. Atoms: `tied`, at
whole standard deviations."""


def bend(name: str, latent: np.ndarray) -> np.ndarray:
    """The latent, bent to a shape and standardised.

    Args:
        name: A key of `SHAPES`.
        latent: Standard normal where the policy is untrained, within +-8.

    Returns:
        Values of the latent's shape, non-decreasing in it.
    """
    density = stats.norm.pdf(_GRID) / stats.norm.pdf(_GRID).sum()
    values = SHAPES[name](_GRID)
    mean = values @ density
    deviation = np.sqrt((values - mean) ** 2 @ density)
    found: np.ndarray = (SHAPES[name](np.clip(latent, -8.0, 8.0)) - mean) / deviation
    return found
