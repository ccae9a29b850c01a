"""From gathered rewards to advantages: sum over reward functions, scale, and what is worth logging."""

from __future__ import annotations

import math
from typing import Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tailgrad.tails import tail_forecast, tail_statistics
from tailgrad.tails.forecasts import mean_best_of_subsets

SCALINGS: Final = ("none", "group", "batch")
"""How advantages may be scaled; see `scale_advantages`."""


def sum_rewards(
    rewards_per_func: Float[Tensor, "B F"], weights: Float[Tensor, " F"], num_generations: int
) -> Float[Tensor, "P M"]:
    """Sum the reward functions with their weights, as TRL does, and group the rollouts.

    A rollout that no function scored is NaN; one that some scored gets the weighted sum of those. A function of weight
    0 is only logged: where it alone scored, TRL has a reward of 0, and here there is none.

    Args:
        rewards_per_func: One column per reward function, rows of a group adjacent; NaN where not scored.
        weights: One weight per reward function.
        num_generations: M, the rollouts of a group; divides B.

    Returns:
        Rewards `[P, M]`, P = B / M.

    Examples:
        >>> nan = float("nan")
        >>> sum_rewards(torch.tensor([[1.0, 2.0], [nan, 4.0], [nan, nan], [0.0, 0.0]]), torch.tensor([1.0, 0.5]), 2)
        tensor([[2., 2.],
                [nan, 0.]])
    """
    weights = weights.to(rewards_per_func.device)
    rewards = (rewards_per_func * weights.unsqueeze(0)).nansum(dim=1)
    counted = weights != 0 if bool(weights.any()) else torch.ones_like(weights, dtype=torch.bool)
    rewards[torch.isnan(rewards_per_func[:, counted]).all(dim=1)] = math.nan
    return rewards.view(-1, num_generations)


def differ_by_rounding(
    rewards_per_func: Float[Tensor, "B F"], weights: Float[Tensor, " F"], num_generations: int
) -> Bool[Tensor, "P 1"]:
    """Tell which groups' rewards differ, but by no more than rounding may have made.

    In float32 0.3 + 0.4 is not 0.7, and 0.3 + 0.4 - 0.7 is not 0. Each of F weighted terms is rounded when it is
    stored and when it is weighted, and each of F - 1 sums once: two sums that should be equal lie within (F + 1) eps of
    the largest sum of the terms' sizes.

    Args:
        rewards_per_func: As for `sum_rewards`.
        weights: As for `sum_rewards`.
        num_generations: As for `sum_rewards`.

    Returns:
        One truth value for each group.

    Examples:
        >>> parts = torch.tensor([[0.3, 0.4, -0.7], [0.0, 0.0, 0.0], [0.3, 0.4, -0.7], [0.3, 0.4, -0.6]])
        >>> differ_by_rounding(parts, torch.ones(3), 2)
        tensor([[ True],
                [False]])
    """
    rewards = sum_rewards(rewards_per_func, weights, num_generations)
    spread = rewards.nan_to_num(nan=-math.inf).amax(dim=1) - rewards.nan_to_num(nan=math.inf).amin(dim=1)
    sizes = sum_rewards(rewards_per_func.abs(), weights.abs(), num_generations).nan_to_num(nan=0.0).amax(dim=1)
    rounding = (len(weights) + 1) * torch.finfo(rewards.dtype).eps * sizes
    return ((spread > 0) & (spread <= rounding)).unsqueeze(1)


def scale_advantages(
    advantages: Float[Tensor, "P M"],
    scaling: str,
    rounding: Bool[Tensor, "P 1"],
    *,
    as_those: Float[Tensor, "P M"] | None = None,
) -> Float[Tensor, "P M"]:
    """Scale advantages to root mean square one: not at all, in each group, or in the whole batch.

    An optimiser like Adam hides the scale of the advantages, and the KL weight does not. So to compare estimators at
    one KL weight, scale all of them alike. Groups that are all zero (no signal) stay so. Groups whose rewards differ by
    rounding alone get zeros, because rounding scaled up would be as loud as a signal.

    Args:
        advantages: Advantages `[P, M]`. NaN fills up a group that has fewer rollouts, and does not count.
        scaling: `"none"`, `"group"` (each group by its own root mean square) or `"batch"` (all by that of the batch).
        rounding: Which groups' rewards differ by rounding alone, from `differ_by_rounding`.
        as_those: Other advantages of the same rollouts. `advantages` are then multiplied by the factor that scales
            these.

    Returns:
        Advantages `[P, M]`.

    Raises:
        ValueError: The scaling is none of the three.

    Examples:
        >>> advantages = torch.tensor([[3.0, -3.0], [0.0, 0.0], [1e-8, -1e-8]])
        >>> scale_advantages(advantages, "group", torch.tensor([[False], [False], [True]]))
        tensor([[ 1., -1.],
                [ 0.,  0.],
                [ 0.,  0.]])
    """
    if scaling not in SCALINGS:
        raise ValueError(f"advantage_scaling = {scaling!r} is unknown; choose one of {', '.join(SCALINGS)}.")
    if scaling == "none":
        return advantages
    zeros = rounding & ~torch.isnan(advantages)
    advantages = advantages.masked_fill(zeros, 0.0)
    squares = (advantages if as_those is None else as_those.masked_fill(zeros, 0.0)).double().square()
    mean_square = squares.nanmean(dim=1, keepdim=True) if scaling == "group" else squares.nanmean()
    return (advantages / mean_square.sqrt()).where(mean_square > 0, 0.0).to(advantages.dtype)


def advantage_metrics(
    rewards: Float[Tensor, "P M"],
    advantages: Float[Tensor, "P M"],
    *,
    deploy_n: int | float,
    smallest_group: int,
    tail_fraction: float = 0.25,
    tail: str = "gaussian",
) -> dict[str, float]:
    """What to watch at every step beside the mean reward.

    Args:
        rewards: Rewards `[P, M]`, NaN where unscored.
        advantages: The advantages that train the policy, `[P, M]`.
        deploy_n: N of the forecast.
        smallest_group: The fewest scored rollouts that the estimator can use.
        tail_fraction: alpha of the tail's spread and of the forecast, which take two rollouts or more.
        tail: The shape of the tail that is forecast with.

    Returns:
        - `tail/advantage_scale`: root mean square of the advantages;
        - `tail/groups_without_signal`: share of the groups whose advantages are all 0;
        - `tail/groups_too_small`: share of the groups with too few scored rollouts, which get zeros;
        - `tail/unscored`: share of the rollouts;
        - `tail/spread`: mean sigma_hat of the groups' tails, in units of the reward;
        - `tail/best_of_k`: mean of the exact V_k, k the smaller of N and M: the best that the groups really hold. Over
          the groups with k scored rollouts; NaN where there is none;
        - `tail/forecast_best_of_N`: mean forecast of V_N.

        The spread and the forecast are NaN where no group has two scored rollouts in its tail.

    Raises:
        ValueError: `deploy_n` lies outside [1, 1e9], `tail_fraction` outside (0, 1], or the shape is unknown.

    Examples:
        >>> rewards = torch.tensor([[0.0, 1.0, 5.0, 2.0]])
        >>> metrics = advantage_metrics(rewards, rewards - 2, deploy_n=64, smallest_group=2, tail_fraction=0.5)
        >>> metrics["tail/groups_without_signal"], metrics["tail/spread"], metrics["tail/best_of_4"]
        (0.0, 1.5, 5.0)
    """
    tail_fraction = max(tail_fraction, min(1.0, 2 / rewards.shape[1]))
    spread = tail_statistics(rewards, tail_fraction=tail_fraction).std
    if rewards.shape[1] > 1:
        forecast = tail_forecast(rewards, deploy_n=deploy_n, tail_fraction=tail_fraction, tail=tail)
    else:  # an evaluation may draw one rollout per prompt
        forecast = torch.full_like(spread, math.nan)
    known = min(rewards.shape[1], math.floor(deploy_n))
    unscored = torch.isnan(rewards).double()
    too_small = (rewards.shape[1] - unscored.sum(dim=1)) < smallest_group
    return {
        "tail/advantage_scale": advantages.double().square().mean().sqrt().item(),
        "tail/groups_without_signal": (advantages == 0).all(dim=1).double().mean().item(),
        "tail/groups_too_small": too_small.double().mean().item(),
        "tail/unscored": unscored.mean().item(),
        "tail/spread": spread.nanmean().item(),
        f"tail/best_of_{known}": mean_best_of_subsets(rewards.double(), (known,)).nanmean().item(),
        f"tail/forecast_best_of_{deploy_n:g}": forecast.nanmean().item(),
    }
