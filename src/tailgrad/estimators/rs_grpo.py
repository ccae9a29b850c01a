"""RS-GRPO: the risk-seeking advantage of an exponential utility."""

import math
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from tailgrad.estimators._groups import centred, finish, relative_rewards
from tailgrad.types import Advantages, Rewards, check_rewards

Units = Literal["reward", "spread"]


def rs_grpo(rewards: Rewards, *, risk_beta: float, units: Units = "reward", validate: bool = True) -> Advantages:
    """Influence of each rollout on the exponential utility of the group.

    Formula: A_i = (1 / beta) (exp(beta r_i) / mean_j exp(beta r_j) - 1), the influence of rollout i on
    (1 / beta) log mean exp(beta r). The group's largest reward is subtracted first, which changes nothing.

    Scale: mean scale. It is the gradient of (1 / beta) log E[exp(beta R)] with the group's mean in the place of the
    expectation, so it is biased at finite m. beta > 0 seeks risk, and with it the upper tail; beta < 0 avoids it; beta
    -> 0 is `dr_grpo`. It assumes nothing about the rewards, but beta has their inverse unit, so it must fit their
    spread. With `units="spread"` it always does: beta = risk_beta / sd, with the standard deviation of the group (the
    squares divided by m). A then scales with the rewards. A group of equal rewards, or with one scored rollout, gets
    zeros.

    Args:
        rewards: Rewards `[P, M]`, M >= 2; NaN where a rollout could not be scored.
        risk_beta: beta, in the units below; finite and not 0.
        units: "reward" (the default, and the paper's), 1 / reward; or "spread", 1 / standard deviation of the group.
        validate: Check the rewards first, which waits for the device.

    Returns:
        Advantages `[P, M]` in the units of the rewards.

    Raises:
        TypeError: If `rewards` is not a real tensor.
        ValueError: If `rewards` is not `[P, M]` with M >= 2 or holds an infinity, `risk_beta` is 0 or not
            finite, or the units are unknown.

    Examples:
        >>> rs_grpo(torch.tensor([[0.0, 1.0, 0.0, 0.0]]), risk_beta=2.0)
        tensor([[-0.3075,  0.9225, -0.3075, -0.3075]])

    Reference:
        RS-GRPO, arXiv 2509.24261.
    """
    if not math.isfinite(risk_beta) or risk_beta == 0:
        raise ValueError(f"risk_beta = {risk_beta} must be finite and not 0; dr_grpo is the limit at 0")
    if units not in get_args(Units):
        raise ValueError(f"unknown units {units!r}: choose one of {', '.join(get_args(Units))}")
    if validate:
        check_rewards(rewards)
    relative = relative_rewards(rewards)
    unit = _spread(relative) if units == "spread" else 1.0
    exponent = risk_beta * (relative / unit)
    exponent = exponent - exponent.nan_to_num(nan=-math.inf).amax(dim=1, keepdim=True)  # beta < 0: the smallest reward
    utility = exponent.expm1()  # exp less 1, so that no digit is lost where beta times the spread is small
    advantages = centred(utility) / (torch.nanmean(utility, dim=1, keepdim=True) + 1) / risk_beta
    return finish(advantages * unit, rewards)


def _spread(relative: Float[Tensor, "P M"]) -> Float[Tensor, "P 1"]:
    """Standard deviation of the scored rewards, and 1 where there is none: what it divides is 0 there."""
    spread = torch.nanmean(centred(relative) ** 2, dim=1, keepdim=True).sqrt()
    return spread.where(spread > 0, 1.0)
