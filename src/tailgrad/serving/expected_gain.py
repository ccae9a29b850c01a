"""What the next responses of a prompt are expected to add to the best reward so far."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import gammaincinv, ndtr
from torch import Tensor

from tailgrad.serving.priors import LevelPrior, SpreadPrior
from tailgrad.serving.tail_fit import TailEstimate, tail_estimate
from tailgrad.types import Rewards, check_rewards

_GRID = np.linspace(-12.0, 40.0, 10401)
_SHARES, _SHARE_WEIGHTS = np.polynomial.legendre.leggauss(24)
_SHARES, _SHARE_WEIGHTS = (_SHARES + 1) / 2, _SHARE_WEIGHTS / 2
_NORMALS, _NORMAL_WEIGHTS = np.polynomial.hermite_e.hermegauss(7)
_NORMAL_WEIGHTS = _NORMAL_WEIGHTS / _NORMAL_WEIGHTS.sum()
_DISTRIBUTIONS = {"gaussian": ndtr, "exponential": lambda x: -np.expm1(-np.maximum(x, 0.0))}
"""Of each shape of a tail, with location 0 and spread 1."""


def expected_gain(
    rewards: Rewards,
    *,
    draws: int,
    tail: str = "gaussian",
    prior: SpreadPrior | LevelPrior | None = None,
    top: float = math.inf,
) -> Float[Tensor, " P"]:
    """Expected gain of each prompt's next responses: E max(best so far, k more) - best so far.

    The k more come from the tail that is fitted to the rewards so far, where neither its spread nor its location is
    taken as known: the gain is averaged over what the rewards, and the prior, leave open of them. A plug-in of the
    fit would be too sure after few responses.

    Rewards of few values have no tail. With a `LevelPrior` each level has its chance; a prompt most of whose rewards
    are none of the levels is weighed as without one. Without one, where the best reward has come twice and rewards are
    half as many as responses or fewer, the chance that one of k more exceeds the best of n is k / (n + k + 1), and the
    step is the last one between two values.

    Args:
        rewards: Rewards `[P, M]` so far; NaN where not drawn or not scored.
        draws: k, at least 1.
        tail: A key of `tailgrad.tails.TAIL_SHAPES`.
        prior: What other prompts tell, from `prior_of`.
        top: The largest reward that there can be, 1 of a verifier. No gain goes beyond it.

    Returns:
        One float64 gain per prompt, in the units of the rewards; infinite where too little is known: without a prior,
        before the third response.

    Raises:
        TypeError: If `rewards` is not a real tensor.
        ValueError: If an argument is out of range, or the shape unknown.

    Examples:
        >>> expected_gain(torch.tensor([[0.0, 1.0, 2.0, 3.0]]), draws=1).round(decimals=3)
        tensor([0.3040], dtype=torch.float64)
        >>> expected_gain(torch.tensor([[0.0, 1.0, 1.0, 0.0]]), draws=1, top=1.0)
        tensor([0.], dtype=torch.float64)
    """
    if rewards.ndim == 2 and rewards.shape[1] < 2:  # the first response alone
        rewards = torch.nn.functional.pad(rewards, (0, 2 - rewards.shape[1]), value=math.nan)
    check_rewards(rewards)
    if draws < 1:
        raise ValueError(f"draws = {draws} must be at least 1")
    values = rewards.detach().cpu().to(torch.float64)
    scored = (~torch.isnan(values)).sum(dim=1)
    best = values.nan_to_num(nan=-math.inf).amax(dim=1)
    if isinstance(prior, LevelPrior):
        pairs = zip(best.tolist(), scored.tolist(), strict=True)
        gain = torch.tensor([prior.gain(one, n, draws) for one, n in pairs], dtype=torch.float64)
        others = ~prior.describes(values)
        if others.any():
            gain[others] = expected_gain(values[others], draws=draws, tail=tail, top=top)
    else:
        gain = _tail_gain(tail_estimate(values, tail), best, draws, tail, prior, top)
        step, repeated = _step(values, best, prior, top)
        gain = torch.where(repeated, step * draws / (scored + draws + 1), gain)
    return gain.where(best < top, 0.0).where(scored > 0, math.inf)


def spread_of(
    rewards: Rewards, *, tail: str = "gaussian", prior: SpreadPrior | LevelPrior | None = None
) -> Float[Tensor, " P"]:
    """The unit of a price: the prior's spread, or, where it does not act, that of each prompt's own rewards.

    Args:
        rewards: Rewards `[P, M]` so far; NaN where not drawn or not scored.
        tail: A key of `tailgrad.tails.TAIL_SHAPES`.
        prior: What other prompts tell, from `prior_of`.

    Returns:
        One float64 spread per prompt, in the units of the rewards; 1 where a prompt's own are equal.

    Raises:
        ValueError: If the shape is unknown.

    Examples:
        >>> spread_of(torch.tensor([[0.0, 1.0, 2.0, 3.0], [1.0, 1.0, 1.0, 1.0]])).round(decimals=3)
        tensor([1.2910, 1.0000], dtype=torch.float64)
    """
    if isinstance(prior, SpreadPrior):
        return torch.full((len(rewards),), prior.spread, dtype=torch.float64)
    values = rewards.detach().cpu().to(torch.float64)
    spread = tail_estimate(values, tail).spread
    own = spread.where(spread > 0, 1.0)
    return own if prior is None else torch.where(prior.describes(values), prior.spread, own)


def _step(
    values: Float[Tensor, "P M"], best: Float[Tensor, " P"], prior: SpreadPrior | None, top: float
) -> tuple[Float[Tensor, " P"], Tensor]:
    """The last step between two values of each prompt's rewards, and where they are few values that repeat."""
    ascending = values.sort(dim=1).values  # NaN come last
    scored = (~torch.isnan(values)).sum(dim=1)
    different = (ascending[:, 1:] > ascending[:, :-1]).sum(dim=1) + 1
    repeated = ((values == best[:, None]).sum(dim=1) >= 2) & (different * 2 <= scored)
    lower = values.where(values < best[:, None], -math.inf).nan_to_num(nan=-math.inf).amax(dim=1)
    unknown = prior.spread if prior is not None else (top - best if top < math.inf else 0.0)
    step = torch.where(different > 1, best - lower, torch.as_tensor(unknown, dtype=torch.float64))
    return step.clamp(max=top - best) if top < math.inf else step, repeated


def _tail_gain(
    fit: TailEstimate, best: Float[Tensor, " P"], draws: int, tail: str, prior: SpreadPrior | None, top: float
) -> Float[Tensor, " P"]:
    """The gain averaged over spread and location: scaled inverse chi squared, and normal given the spread."""
    centre, below, spread, weight, location_weight = (part.numpy() for part in fit)
    squares = weight * spread**2
    if prior is not None:
        both = location_weight + prior.location_weight
        apart = centre - below * spread - prior.location
        squares = squares + prior.spread_weight * prior.spread**2
        squares = squares + prior.location_weight * location_weight / both * apart**2
        centre = (prior.location_weight * prior.location + location_weight * centre) / both
        below, location_weight, weight = below * location_weight / both, both, weight + prior.spread_weight
    known = weight > 1
    shares = 2 * gammaincinv(np.where(known, weight, 2.0)[:, None] / 2, _SHARES**4)
    spreads = np.sqrt(squares[:, None] / shares)[..., None]
    places = (centre[:, None] - below[:, None] * spreads[..., 0])[..., None]
    places = places + spreads * _NORMALS / np.sqrt(location_weight)[:, None, None]
    gain = spreads * _beyond(best.numpy()[:, None, None], places, spreads, draws, tail)
    if top < math.inf:
        gain = gain - spreads * _beyond(np.full(1, top), places, spreads, draws, tail)
    mean = (gain @ _NORMAL_WEIGHTS) @ (4 * _SHARES**3 * _SHARE_WEIGHTS)
    return torch.from_numpy(np.where(known, mean, math.inf))


def _beyond(from_: np.ndarray, places: np.ndarray, spreads: np.ndarray, draws: int, tail: str) -> np.ndarray:
    """Expected excess of the largest of k over a value, in spreads; 0 where there is no spread."""
    with np.errstate(divide="ignore", invalid="ignore"):
        standard = (from_ - places) / spreads
    standard = np.where(spreads > 0, standard, math.inf)
    return np.interp(standard, _GRID, _excess(draws, tail)) + np.maximum(_GRID[0] - standard, 0.0)


@lru_cache(maxsize=1024)
def _excess(draws: int, tail: str) -> Float[np.ndarray, " G"]:
    """E max(0, max of k - z) = integral of 1 - F^k from z on, at each z of the grid, with spread 1."""
    above = -np.expm1(draws * np.log(np.maximum(_DISTRIBUTIONS[tail](_GRID), 1e-300)))
    steps = (above[1:] + above[:-1]) / 2 * np.diff(_GRID)
    return np.append(steps[::-1].cumsum()[::-1], 0.0)
