"""Rewards whose V_N is known: draws, and V_N by quadrature over the largest of N uniform numbers."""

from collections.abc import Callable
from functools import cache

import numpy as np
from scipy import stats

_GRID = np.linspace(-9.0, 12.0, 200_001)
_ABOVE = -np.log(np.maximum(0.9 * stats.norm.sf(_GRID) + 0.1 * stats.norm.sf((_GRID - 3) / 0.5), 1e-300))


def _mixture(tail: np.ndarray) -> np.ndarray:
    """Upper quantiles of a normal distribution with a tenth of its mass at N(3, 0.5^2)."""
    return np.interp(-np.log(tail), _ABOVE, _GRID)


DISTRIBUTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "gaussian": stats.norm.isf,
    "exponential": stats.expon.isf,
    "uniform": lambda tail: 1 - tail,
    "Student t, 5": stats.t(5).isf,
    "Student t, 3": stats.t(3).isf,
    "mixture": _mixture,
    "lognormal, 1/2": stats.lognorm(0.5).isf,
    "beta(2, 5)": stats.beta(2, 5).isf,
}
"""The reward that a share `tail` of the responses exceeds; prompts differ in location and scale."""

THREE = "three shapes"
SEVERAL = ("gaussian", "exponential", "uniform")
"""With `THREE` each prompt has one of these, in turn."""


def kind_of(name: str, prompt: int) -> str:
    """The distribution of one prompt's rewards, but for location and scale."""
    return SEVERAL[prompt % len(SEVERAL)] if name == THREE else name


@cache
def expected_largest(name: str, n: int) -> float:
    """E of the largest of n: the integral over e > 0 of exp(-e) times the reward at tail 1 - exp(-e / n)."""
    nodes = np.exp(np.linspace(np.log(1e-14), np.log(60.0), 40_001))
    weights = np.diff(np.concatenate([[0.0], -np.expm1(-nodes)]))
    middle = np.concatenate([[nodes[0] / 2], np.sqrt(nodes[1:] * nodes[:-1])])
    return float(weights @ DISTRIBUTIONS[name](-np.expm1(-middle / n)))


def draw(
    name: str, prompts: int, responses: int, rng: np.random.Generator
) -> tuple[np.ndarray, Callable[[int], np.ndarray]]:
    """Rewards `[P, n]` of prompts with locations N(0, 1) and scales exp(N(0, 0.3^2)), and V_N of each of them."""
    location, scale = rng.standard_normal(prompts), np.exp(0.3 * rng.standard_normal(prompts))
    kinds = [kind_of(name, prompt) for prompt in range(prompts)]
    uniform = rng.random((prompts, responses))
    rewards = np.stack([DISTRIBUTIONS[kind](row) for kind, row in zip(kinds, uniform, strict=True)])

    def truth(n: int) -> np.ndarray:
        return location + scale * np.array([expected_largest(kind, n) for kind in kinds])

    return location[:, None] + scale[:, None] * rewards, truth
