"""Forecasts of V_N by their plain names, to be compared: ours, and simpler ones that assume more."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from scipy.special import ndtri
from torch import Tensor

from tailgrad.tails.constants import check_budget
from tailgrad.tails.forecasts import exponential_tail_forecast, gaussian_tail_forecast, mean_best_of_subsets
from tailgrad.tails.pareto import pareto_tail_forecast
from tailgrad.types import Rewards, check_rewards


def mean_and_std_forecast(rewards: Rewards, *, deploy_n: int | float) -> Float[Tensor, " P"]:
    """Forecast V_N of each prompt as mean + Phi^-1(1 - 1/N) standard deviation of all its rewards.

    A normal distribution's quantile at 1 - 1/N. It lies below the expected largest of N, even for normal rewards.

    Args:
        rewards: Rewards `[P, M]`; NaN where a rollout could not be scored.
        deploy_n: N; of N = 1 the forecast is minus infinity, as that quantile is.

    Returns:
        One float64 forecast per prompt, in the units of the rewards; NaN where nothing is scored.

    Raises:
        TypeError: If `rewards` is not a real tensor or `deploy_n` not a number.
        ValueError: If an argument is out of range.

    Examples:
        >>> mean_and_std_forecast(torch.tensor([[-1.0, 1.0]]), deploy_n=64).round(decimals=4)
        tensor([2.1539], dtype=torch.float64)

    Reference:
        arXiv 2602.01485 (Scaling-Law-Guided search).
    """
    check_rewards(rewards)
    check_budget(deploy_n, "deploy_n", validate=True)
    values = rewards.to(torch.float64)
    mean = values.nanmean(dim=1, keepdim=True)
    std = (values - mean).square().nanmean(dim=1).sqrt()
    return mean.squeeze(1) + float(ndtri(1 - 1 / deploy_n)) * std


def location_scale_forecast(rewards: Rewards, *, deploy_n: int) -> Float[Tensor, " P"]:
    """Forecast V_N of each prompt as if all prompts had one distribution but for its location and scale.

    Rewards are standardised by their prompt's mean and mean difference, and pooled. V_N is then that of the pool, put
    back: mean + mean difference times the expected largest of N of the pool. It extrapolates nothing as long as N is
    not above the number of responses of all prompts together, and is wrong where prompts differ in more.

    Args:
        rewards: Rewards `[P, M]` of prompts that share a shape; NaN where a rollout could not be scored.
        deploy_n: N, a whole number.

    Returns:
        One float64 forecast per prompt, in the units of the rewards; NaN for all where the pool holds fewer than N, and
        the reward itself where a prompt's are equal.

    Raises:
        TypeError: If `rewards` is not a real tensor or `deploy_n` not a number.
        ValueError: If an argument is out of range.

    Examples:
        >>> rewards = torch.tensor([[0.0, 1.0], [10.0, 30.0]])
        >>> location_scale_forecast(rewards, deploy_n=4)
        tensor([ 1., 30.], dtype=torch.float64)
    """
    check_rewards(rewards)
    check_budget(deploy_n, "deploy_n", validate=True)
    values = rewards.to(torch.float64)
    scored = ~torch.isnan(values)
    n = scored.sum(dim=1, keepdim=True)
    mean = values.nanmean(dim=1, keepdim=True)
    ascending = (values - mean).sort(dim=1).values  # NaN come last
    rank = 2 * torch.arange(1, values.shape[1] + 1, device=values.device) - n - 1
    difference = (rank * ascending).nansum(dim=1, keepdim=True) / (n * (n - 1)).clamp(min=1)
    spread = (difference > 0).squeeze(1)
    pool = ((values - mean) / difference)[spread]
    pool = pool[~torch.isnan(pool)].unsqueeze(0)
    largest = mean_best_of_subsets(pool, (deploy_n,)) if deploy_n <= pool.shape[1] else math.nan
    return (mean + (difference * largest).where(difference > 0, 0.0)).squeeze(1)


FORECASTS: dict[str, Callable[..., Tensor]] = {
    "pareto": pareto_tail_forecast,
    "gaussian": gaussian_tail_forecast,
    "exponential": exponential_tail_forecast,
    "location_scale": location_scale_forecast,
    "mean_and_std": mean_and_std_forecast,
}
"""Every forecast of V_N beyond the rollouts that are there, by its plain name, from `rewards` and `deploy_n`."""
