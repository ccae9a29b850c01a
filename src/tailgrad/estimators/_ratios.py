"""Rollouts of an older policy: each counts in its group by its ratio, the probability now over that when drawn."""

import torch
from jaxtyping import Float
from torch import Tensor

from tailgrad.types import Ratios, Rewards


def check_ratios(ratios: Ratios | None, rewards: Rewards) -> None:
    """Refuse ratios that are not one finite number of at least 0 for each scored rollout; waits for the device."""
    if ratios is None:
        return
    if ratios.shape != rewards.shape:
        raise ValueError(
            f"ratios must have the shape of the rewards, {tuple(rewards.shape)}, got {tuple(ratios.shape)}: one ratio "
            "pi(y) / mu(y) for each rollout"
        )
    wrong = ~(ratios.isfinite() & (ratios >= 0)) & ~torch.isnan(rewards)
    if wrong.any():
        prompt, rollout = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"ratios[{prompt}, {rollout}] is {ratios[prompt, rollout].item()} (prompt {prompt}, rollout {rollout}): "
            "ratios must be finite and at least 0; take the exponential of the difference of log-probabilities"
        )


def ratios_of_scored(ratios: Ratios, rewards: Rewards) -> Float[Tensor, "P M"]:
    """The ratios in float64, 0 for rollouts that could not be scored."""
    return ratios.to(torch.float64).masked_fill(torch.isnan(rewards), 0.0)


def group_weights(ratios: Ratios, rewards: Rewards) -> Float[Tensor, "P M"]:
    """Each rollout's share in the ratios of its group: the masses of the reward distribution of the policy now."""
    scored = ratios_of_scored(ratios, rewards)
    return scored / scored.sum(dim=1, keepdim=True)
