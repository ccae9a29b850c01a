"""Forecasts of V_N, the expected largest reward of N rollouts, from groups much smaller than N."""

from jaxtyping import Float
from torch import Tensor

from tailgrad.tails.constants import extrapolation_coefficient
from tailgrad.tails.statistics import tail_statistics
from tailgrad.types import Rewards, check_rewards


def gaussian_tail_forecast(
    rewards: Rewards, *, deploy_n: int | float | Tensor, tail_fraction: float = 0.25, ddof: int = 0
) -> Float[Tensor, " P"]:
    """Forecast V_N of each prompt by extrapolating the upper tail of its group as a Gaussian tail.

    V_N ~= mu_hat + ctilde_N sigma_hat, with the mean and the standard deviation of the k = ceil(alpha n)
    largest rewards. The influence of one rollout on this forecast is its TEA advantage: plan with the
    forecast, train with its influence (`tailgrad.estimators.tea`).

    Args:
        rewards: Rewards `[P, M]`; NaN where a rollout could not be scored.
        deploy_n: N, how many rollouts the best is taken of at deployment; a number or a tensor `[P]`.
        tail_fraction: alpha in (0, 1], the share of the group in the tail; the upper 2 alpha of the rewards
            are assumed Gaussian.
        ddof: 0 divides the sum of squares by k (the default), 1 by k - 1.

    Returns:
        One float64 forecast a prompt, in the units of the rewards; NaN where fewer than two scored rollouts
        fall in the tail.

    Raises:
        TypeError: If `rewards` is not a real tensor or `deploy_n` not a number.
        ValueError: If an argument is out of range; see `tail_statistics` and `extrapolation_coefficient`.

    Example:
        >>> import torch
        >>> rewards = torch.tensor([[0.0, 1.0, 5.0, 3.0]])
        >>> gaussian_tail_forecast(rewards, deploy_n=64, tail_fraction=0.5).round(decimals=6)
        tensor([6.5644], dtype=torch.float64)

    Reference:
        arXiv 2602.01485 (tail forecasts), 2605.10716 (TEA).
    """
    check_rewards(rewards)
    tail = tail_statistics(rewards, tail_fraction=tail_fraction, ddof=ddof)
    if isinstance(deploy_n, Tensor):
        deploy_n = deploy_n.to(rewards.device)
    return tail.mean + extrapolation_coefficient(deploy_n, tail_fraction) * tail.std
