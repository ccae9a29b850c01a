"""What the rewards of an answer's samples foretell: their tail, and the best of more of them."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tailgrad.serving.best import Best
from tailgrad.serving.expected_gain import expected_gain
from tailgrad.serving.priors import LevelPrior, SpreadPrior
from tailgrad.serving.stopping import StoppingRule
from tailgrad.serving.tail_fit import tail_estimate, tail_share
from tailgrad.serving.tail_stopping import TailStopping
from tailgrad.tails.statistics import tail_size

_AHEAD = 4
"""A forecast goes up to this many times the samples that were drawn."""
_POINTS = 12


def outlook(best: Best, rule: StoppingRule) -> dict[str, Any]:
    """Return what an answer tells of the tail of its samples' rewards, as JSON takes it.

    Args:
        best: The best of them.
        rule: What ended the sampling. Its prior, if it has one, is used.

    Returns:
        `tail`: the normal distribution whose top is fitted to the top of the rewards: `location`, `scale`, and
        `threshold`, the reward at which that top begins. None where rewards have no tail: fewer than three, few
        values, or a top of equal ones.
        `expected_best`: pairs of a number of samples and the expected best of so many, from those drawn to four times
        as many; empty where too little is known.
        `next_batch`: what the rule weighed last: `samples`, their `expected_gain` and their `price`, in the units of
        the rewards. None where it weighed nothing, as a fixed N, or where no more may be drawn.
    """
    scores = [math.nan if one.reward is None else one.reward for one in best.candidates]
    rewards = torch.tensor([*scores, *[math.nan] * best.failed], dtype=torch.float64)
    adaptive = rule if isinstance(rule, TailStopping) else None
    return {
        "tail": _tail(rewards),
        "expected_best": _expected_best(rewards, None if adaptive is None else adaptive.prior),
        "next_batch": None if adaptive is None else _next_batch(rewards, adaptive),
    }


def _tail(rewards: Float[Tensor, " M"]) -> dict[str, float] | None:
    scored = rewards[~torch.isnan(rewards)]
    count = len(scored)
    if count < 3 or 2 * len(scored.unique()) <= count:
        return None
    fit = tail_estimate(scored[None], "gaussian")
    if not fit.spread > 0:  # the top is one value
        return None
    size = tail_size(count, tail_share(count, "gaussian"))
    location, scale = float(fit.centre - fit.below * fit.spread), float(fit.spread)
    return {"location": location, "scale": scale, "threshold": float(scored.topk(size).values[-1])}


def _expected_best(rewards: Float[Tensor, " M"], prior: SpreadPrior | LevelPrior | None) -> list[tuple[int, float]]:
    drawn = len(rewards)
    best = float(rewards.nan_to_num(nan=-math.inf).max())
    ahead = {round(drawn * _AHEAD ** (step / _POINTS)) - drawn for step in range(1, _POINTS + 1)} - {0}
    gains = {k: float(expected_gain(rewards[None], draws=k, prior=prior)) for k in sorted(ahead)}
    if not all(map(math.isfinite, gains.values())):
        return []
    return [(drawn, best), *((drawn + k, best + gain) for k, gain in gains.items())]


def _next_batch(rewards: Float[Tensor, " M"], rule: TailStopping) -> dict[str, float] | None:
    weighed = rule.weigh(rewards)
    if weighed is None or not all(map(math.isfinite, weighed)):
        return None
    return weighed._asdict()
