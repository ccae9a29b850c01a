"""What travels through the library: tables of rewards and advantages, and the functions between them."""

from typing import Any, Protocol, TypeAlias

import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor

__all__ = [
    "LARGEST_REWARD",
    "Advantages",
    "Estimator",
    "Forecast",
    "Ratios",
    "Rewards",
    "check_rewards",
    "check_sizes",
]

Rewards: TypeAlias = Real[Tensor, "P M"] | Bool[Tensor, "P M"]
"""Rewards of P prompts with M rollouts each; NaN marks a rollout that could not be scored."""

Advantages: TypeAlias = Float[Tensor, "P M"]
"""Advantages of the same rollouts on the mean scale; 0 for a rollout that could not be scored."""

Ratios: TypeAlias = Float[Tensor, "P M"]
"""pi(y) / mu(y) of the same rollouts: their probability under the policy that is trained over that under the one that
drew them. Any number for a rollout that could not be scored."""


LARGEST_REWARD = 1e100
"""Rewards above this size are refused: float64 holds their squares, and sums of many of these."""


class Estimator(Protocol):
    """Turns rewards into advantages; hyperparameters are keyword-only."""

    def __call__(self, rewards: Rewards, /, *args: Any, **options: Any) -> Advantages:
        """Return the advantages `[P, M]` of the rollouts with rewards `[P, M]`."""
        ...


class Forecast(Protocol):
    """Turns rewards into a forecast of V_N, the expected largest reward of `deploy_n` rollouts."""

    def __call__(self, rewards: Rewards, /, *args: Any, **options: Any) -> Float[Tensor, " P"]:
        """Return one forecast per prompt."""
        ...


def check_rewards(rewards: Tensor) -> None:
    """Refuse anything but a table of rewards `[P, M]` with M >= 2, without infinities and without sizes above 1e100.

    Reads the values, so it waits for the device. Every estimator calls it unless `validate=False`.

    Args:
        rewards: What was given as the rewards.

    Raises:
        TypeError: If it is not a tensor of real numbers.
        ValueError: If it is not of shape `[P, M]` with M >= 2, or holds an infinity or a size above 1e100.

    Examples:
        >>> check_rewards(torch.tensor([[0.0, 1.0], [float("inf"), 2.0]]))
        Traceback (most recent call last):
            ...
        ValueError: rewards[1, 0] is inf (prompt 1, rollout 0): rewards must be finite and at most 1e+100 in size, or \
NaN where a rollout could not be scored
    """
    if not isinstance(rewards, Tensor):
        raise TypeError(f"rewards must be a torch tensor of shape [P, M], got {type(rewards).__name__}")
    if rewards.is_complex():
        raise TypeError(f"rewards must be real numbers, got {rewards.dtype}")
    if rewards.ndim != 2:
        raise ValueError(
            f"rewards must have shape [P, M] (prompts, rollouts), got {tuple(rewards.shape)}; "
            "reshape a flat table with rewards.view(-1, M)"
        )
    if rewards.shape[1] < 2:
        raise ValueError(
            f"a group needs at least 2 rollouts, got rewards of shape {tuple(rewards.shape)}; "
            "generate more rollouts per prompt"
        )
    check_sizes(rewards)


def check_sizes(rewards: Tensor) -> None:
    """Refuse infinities and rewards above 1e100 in size, in a table or in a flat batch; waits for the device.

    Args:
        rewards: Rewards of any shape.

    Raises:
        ValueError: If one is infinite or too large; the message names its place.

    Examples:
        >>> check_sizes(torch.tensor([0.0, 1.0, float("nan")]))
    """
    too_large = rewards.to(torch.float64).abs() > LARGEST_REWARD
    if too_large.any():
        place = too_large.nonzero()[0].tolist()
        names = f" (prompt {place[0]}, rollout {place[1]})" if len(place) == 2 else ""
        raise ValueError(
            f"rewards{place} is {rewards[tuple(place)].item()}{names}: rewards must be finite and at most "
            f"{LARGEST_REWARD:g} in size, or NaN where a rollout could not be scored"
        )
