"""Shapes of reward: each is a monotone function of a latent Gaussian, given at 2^14 of its quantiles."""

from collections.abc import Callable

import numpy as np
import torch
from scipy import stats
from torch import Tensor

ATOMS, BINS = 2**14, 96

Quantile = Callable[[np.ndarray], np.ndarray]


def mixture(share: float, mean: float, sd: float, other_mean: float = 0.0, other_sd: float = 1.0) -> Quantile:
    """Quantiles of `share` of N(mean, sd^2) and the rest of N(other_mean, other_sd^2)."""
    grid = np.linspace(-12, 12, 200_001)
    cdf = share * stats.norm.cdf(grid, mean, sd) + (1 - share) * stats.norm.cdf(grid, other_mean, other_sd)
    return lambda u: np.interp(u, cdf, grid)


SHAPES: dict[str, Quantile] = {
    "gaussian": stats.norm.ppf,
    "uniform": lambda u: u,
    "exponential": stats.expon.ppf,
    "lognormal": lambda u: np.exp(stats.norm.ppf(u)),
    "student t3": stats.t(3).ppf,
    "left-skewed": lambda u: -stats.expon.ppf(1 - u),
    "capped at +1 sd": lambda u: np.minimum(stats.norm.ppf(u), 1.0),
    "floored at -0.3 sd": lambda u: np.maximum(stats.norm.ppf(u), -0.3),
    "4 levels": lambda u: np.clip(np.floor(stats.norm.ppf(u)), -2, 1),
    "0/1, p = .3": lambda u: (u >= 0.7).astype(float),
    "0/1, p = .05": lambda u: (u >= 0.95).astype(float),
    "10 % at +4 sd": mixture(0.1, 4.0, 0.5),
    "10 % at -4 sd": mixture(0.1, -4.0, 0.5),
    "two halves": mixture(0.5, 2.0, 0.5, -2.0, 0.5),
}
"""The reward at each rank u of the latent Gaussian; the rewards are standardised afterwards."""


def orthonormal(scores: Tensor) -> Tensor:
    """Scores `[2, ATOMS]` of the same policy, with variance one and no covariance."""
    covariance = scores @ scores.T / scores.shape[1]
    return torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), scores, upper=False)


def mixture_slope(share: float, mean: float, sd: float, other_mean: float = 0.0, other_sd: float = 1.0) -> Quantile:
    """Slope of the log density of the same mixture."""

    def slope(x: np.ndarray) -> np.ndarray:
        one = share * stats.norm.pdf(x, mean, sd)
        other = (1 - share) * stats.norm.pdf(x, other_mean, other_sd)
        return (one * (mean - x) / sd**2 + other * (other_mean - x) / other_sd**2) / (one + other)

    return slope


SLOPES: dict[str, Quantile] = {
    "gaussian": lambda x: -x,
    "lognormal": lambda x: -(1 + np.log(x)) / x,
    "student t3": lambda x: -4 * x / (3 + x * x),
    "10 % at +4 sd": mixture_slope(0.1, 4.0, 0.5),
    "10 % at -4 sd": mixture_slope(0.1, -4.0, 0.5),
    "two halves": mixture_slope(0.5, 2.0, 0.5, -2.0, 0.5),
}
"""f' / f of the shapes whose density f has a slope everywhere, at a reward before it is standardised."""


class Shape:
    """Rewards of `ATOMS` equally likely values, standardised; their latent Gaussian and their influence on V_N."""

    def __init__(self, name: str, deploy_n: int) -> None:
        """The influence is psi_N(u), N times the integral of F^(N-1) up to u, less its mean."""
        u = (np.arange(ATOMS) + 0.5) / ATOMS
        values = torch.tensor(SHAPES[name](u))
        self.rewards = (values - values.mean()) / values.std(correction=0)
        below = torch.arange(1, ATOMS, dtype=torch.float64) / ATOMS
        steps = deploy_n * below ** (deploy_n - 1) * self.rewards.diff()
        self.influence = torch.cat([torch.zeros(1), steps.cumsum(0)])
        self.influence = self.influence - self.influence.mean()
        self.latent = torch.tensor(stats.norm.ppf(u))
        self.latent_scores = torch.stack([self.latent, (self.latent**2 - 1) / 2**0.5])
        self.own_scores = None
        if name in SLOPES:
            slope = torch.tensor(SLOPES[name](values.numpy()))
            scores = torch.stack([-slope, -1 - slope * values])
            self.own_scores = orthonormal(scores - scores.mean(1, keepdim=True))
        self.bins = self._bins()

    def _bins(self) -> Tensor:
        """A number per atom: that of its reward where the reward has several atoms, else that of its latent bin."""
        _, reward, count = self.rewards.unique(return_inverse=True, return_counts=True)
        label = ((self.latent + 4) * (BINS / 8)).long().where(count[reward] == 1, BINS + reward)
        return label.unique(return_inverse=True)[1]

    def sample(self, groups: int, m: int, seed: int) -> Tensor:
        """Indices of atoms `[groups, m]`."""
        return torch.randint(ATOMS, (groups, m), generator=torch.Generator().manual_seed(seed))
