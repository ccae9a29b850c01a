"""Entropic advantage (TTT-Discover): an exponential utility whose beta adapts to each group."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tailgrad.estimators._groups import finish, num_scored, relative_rewards
from tailgrad.types import Advantages, Rewards, check_rewards

_DIVERGENCE = math.log(2)
_HALVINGS, _NEWTON_STEPS = 10, 4
"""The bracket of log beta is at most 41 wide; halved to 0.04, four steps bring the divergence to 1e-13 of ln 2."""
_WEIGHTLESS = -1e150
"""Reward of an unscored rollout where the group's lie in [-1, 0]: its weight is 0, also times its square."""


def smallest_entropic_group() -> int:
    """Of two rollouts the divergence is below ln 2 at every beta."""
    return 3


def entropic(rewards: Rewards, *, validate: bool = True) -> Advantages:
    """Exponential weight of each rollout over the mean weight of the others, at a beta that fits the group.

    Formula: with q_i proportional to exp(beta r_i) and beta such that KL(q || uniform) = ln 2 over the group,

        A_i = exp(beta r_i) / (mean of exp(beta r_j) over j != i) - 1.

    So q is as far from uniform as a uniform choice among half of the group. Where half of the rollouts or more share
    the largest reward, no beta reaches ln 2. A is then the limit for beta to infinity: with t of m rollouts at the top,
    (m - t) / (t - 1) for these and -1 for the others. The paper's code stops at a beta of about 1e6 there; ours does
    not depend on the scale of the rewards.

    Scale: none; the advantages do not change with the scale of the rewards. With a fixed beta they would be beta times
    the gradient of the utility log E[exp(beta R)] / beta, biased at finite m. They grow with the reward. Only the
    largest reward has a large advantage, and no advantage is below -1. (All this is before the factor M/n of a group of
    which n rollouts are scored.) It assumes nothing about the rewards. A group of equal rewards, or with fewer than
    three scored rollouts, gets zeros.

    Args:
        rewards: Rewards `[P, M]`, M >= 3; NaN where a rollout could not be scored.
        validate: Check the rewards first, which waits for the device.

    Returns:
        Advantages `[P, M]` without unit.

    Raises:
        TypeError: If `rewards` is not a real tensor.
        ValueError: If `rewards` is not `[P, M]` with M >= 3, or holds an infinity.

    Examples:
        >>> import torch
        >>> entropic(torch.tensor([[0.0, 1.0, 5.0, 5.0]]))
        tensor([[-1., -1.,  2.,  2.]])

    Reference:
        TTT-Discover, arXiv 2601.16175.
    """
    if validate:
        check_rewards(rewards)
    if rewards.shape[1] < smallest_entropic_group():
        raise ValueError(f"entropic needs at least 3 rollouts per group, got {rewards.shape[1]}: use more rollouts")
    relative = relative_rewards(rewards)
    n = num_scored(rewards)
    spread = -relative.nan_to_num(nan=0.0).amin(dim=1, keepdim=True)
    unit = (relative / spread.where(spread > 0, 1.0)).nan_to_num(nan=_WEIGHTLESS)
    best = unit == 0
    reachable = n > 2 * best.sum(dim=1, keepdim=True)
    weight = torch.where(reachable, (_adapted_beta(unit, best, n) * unit).exp(), best.to(torch.float64))
    others = (weight.sum(dim=1, keepdim=True) - weight) / (n - 1)
    return finish((weight / others - 1).where(n >= smallest_entropic_group(), 0.0), rewards)


def _adapted_beta(
    unit: Float[Tensor, "P M"], best: Bool[Tensor, "P M"], n: Float[Tensor, "P 1"]
) -> Float[Tensor, "P 1"]:
    """The beta with KL(q || uniform) = ln 2, for rewards in [-1, 0]; without meaning where there is none.

    With K(beta) the divergence, dK / dlog beta = beta^2 times the variance under q: K rises. It is at most beta^2 / 8,
    as the variance is at most 1 / 4, and where beta times the gap below the best is 60 all weight is on the best.
    """
    gap = -unit.masked_fill(best, -1.0).amax(dim=1, keepdim=True)
    low, high = torch.full_like(gap, math.log(8 * _DIVERGENCE) / 2), (60 / gap).log()
    log_beta, squares = (low + high) / 2, unit * unit
    for step in range(_HALVINGS + _NEWTON_STEPS):
        beta = log_beta.exp()
        weight = (beta * unit).exp()
        total = weight.sum(dim=1, keepdim=True)
        mean = (weight * unit).sum(dim=1, keepdim=True) / total
        too_far = beta * mean - (total / n).log() - _DIVERGENCE
        low, high = torch.where(too_far > 0, low, log_beta), torch.where(too_far > 0, log_beta, high)
        if step < _HALVINGS:
            log_beta = (low + high) / 2
        else:
            variance = (weight * squares).sum(dim=1, keepdim=True) / total - mean * mean
            log_beta = torch.clamp(log_beta - too_far / (beta * beta * variance), low, high)
    return log_beta.exp()
