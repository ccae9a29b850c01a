"""Forecasts of V_N, the expected largest reward of N rollouts, from the rewards of a group."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tailgrad.tails.leave_one_out import leave_one_out_error
from tailgrad.tails.shapes import tail_shape
from tailgrad.types import Rewards, check_rewards

_CHUNK = 2**18
"""Entries of the groups that `standard_error` works on at once."""


def tail_forecast(
    rewards: Rewards, *, deploy_n: int | float | Tensor, tail_fraction: float = 0.25, tail: str = "gaussian"
) -> Float[Tensor, " P"]:
    """Forecast V_N of each prompt: extrapolate the upper tail of its group with an assumed shape.

    The influence of one rollout on this forecast is its advantage in `tailgrad.estimators.tea` with the same options.
    So you plan with the forecast and train with its influence. `gaussian_tail_forecast` and `exponential_tail_forecast`
    are this function with one shape each, and say what the shape assumes.

    Args:
        rewards: Rewards `[P, M]`; NaN where a rollout could not be scored.
        deploy_n: N, the responses per prompt at deployment; a number or a tensor `[P]`.
        tail_fraction: alpha in (0, 1], the share of the group in the tail.
        tail: A key of `TAIL_SHAPES`.

    Returns:
        One float64 forecast per prompt, in the units of the rewards; NaN where fewer than two scored rollouts
        fall in the tail.

    Raises:
        TypeError: If `rewards` is not a real tensor or `deploy_n` not a number.
        ValueError: If an argument is out of range, or the shape unknown.

    Examples:
        >>> tail_forecast(torch.tensor([[0.0, 1.0, 5.0, 3.0]]), deploy_n=4, tail_fraction=0.5, tail="exponential")
        tensor([5.], dtype=torch.float64)

    Reference:
        arXiv 2602.01485 (tail forecasts).
    """
    check_rewards(rewards)
    shape = tail_shape(tail)
    if isinstance(deploy_n, Tensor):
        deploy_n = deploy_n.to(rewards.device)
    coefficient = shape.coefficient(deploy_n, tail_fraction, validate=True)
    return shape.forecast(shape.fit(rewards, tail_fraction=tail_fraction), coefficient)


def gaussian_tail_forecast(
    rewards: Rewards, *, deploy_n: int | float | Tensor, tail_fraction: float = 0.25
) -> Float[Tensor, " P"]:
    """Forecast V_N of each prompt by extrapolating the upper tail of its group as a Gaussian tail.

    V_N ~= mu_hat + ctilde_N sigma_hat, with the mean and the standard deviation of the k = ceil(alpha n) largest
    rewards. The influence of one rollout on this forecast is its TEA advantage. So you plan with the forecast and train
    with its influence (`tailgrad.estimators.tea`).

    Args:
        rewards: Rewards `[P, M]`; NaN where a rollout could not be scored.
        deploy_n: N, the responses per prompt at deployment; a number or a tensor `[P]`.
        tail_fraction: alpha in (0, 1], the share of the group in the tail; the upper 2 alpha of the rewards
            are assumed Gaussian.

    Returns:
        One float64 forecast per prompt, in the units of the rewards; NaN where fewer than two scored rollouts
        fall in the tail.

    Raises:
        TypeError: If `rewards` is not a real tensor or `deploy_n` not a number.
        ValueError: If an argument is out of range; see `tail_statistics` and `extrapolation_coefficient`.

    Examples:
        >>> rewards = torch.tensor([[0.0, 1.0, 5.0, 3.0]])
        >>> gaussian_tail_forecast(rewards, deploy_n=64, tail_fraction=0.5).round(decimals=6)
        tensor([6.5644], dtype=torch.float64)

    Reference:
        arXiv 2602.01485 (tail forecasts), 2605.10716 (TEA).
    """
    return tail_forecast(rewards, deploy_n=deploy_n, tail_fraction=tail_fraction, tail="gaussian")


def exponential_tail_forecast(
    rewards: Rewards, *, deploy_n: int | float | Tensor, tail_fraction: float = 0.25
) -> Float[Tensor, " P"]:
    """Forecast V_N of each prompt by extrapolating the upper tail of its group as an exponential tail.

    With the k = ceil(alpha n) largest of n rewards, r_hat the smallest of them, s_hat the sum of their excesses over
    it divided by k - 1, and the harmonic numbers H,

        V_N ~= r_hat + s_hat (H_N - H_n + H_{k-1}),

    which is unbiased for every n and N if the rewards are exponential, with any location and scale. An exponential tail
    is heavier than a Gaussian one: this forecast grows like log N, and `gaussian_tail_forecast` like sqrt(2 log N). The
    influence of one rollout on it is its advantage in `tailgrad.estimators.tea` with `tail="exponential"`.

    Args:
        rewards: Rewards `[P, M]`; NaN where a rollout could not be scored.
        deploy_n: N, the responses per prompt at deployment; a number or a tensor `[P]`.
        tail_fraction: alpha in (0, 1], the share of the group in the tail.

    Returns:
        One float64 forecast per prompt, in the units of the rewards; NaN where fewer than two scored rollouts
        fall in the tail.

    Raises:
        TypeError: If `rewards` is not a real tensor or `deploy_n` not a number.
        ValueError: If an argument is out of range; see `tail_statistics` and `expected_max_normal`.

    Examples:
        >>> exponential_tail_forecast(torch.tensor([[0.0, 1.0, 5.0, 3.0]]), deploy_n=4, tail_fraction=0.5)
        tensor([5.], dtype=torch.float64)

    Reference:
        arXiv 2602.01485 (tail forecasts).
    """
    return tail_forecast(rewards, deploy_n=deploy_n, tail_fraction=tail_fraction, tail="exponential")


def max_at_k_forecast(rewards: Rewards, *, deploy_n: int) -> Float[Tensor, " P"]:
    """V_N of each prompt for N up to the size of its group: the mean, over all N-subsets, of the largest reward.

    With the n scored rewards in increasing order,

        V_N = sum over i = N .. n of C(i - 1, N - 1) / C(n, N) r_(i),

    the U-statistic of the maximum. It is unbiased, with no randomness of its own. N = 1 is the mean, and N = n the
    largest reward. The influence of deleting a rollout is its `max_at_k` advantage with `baseline="loo"`.

    Args:
        rewards: Rewards `[P, M]`; NaN where a rollout could not be scored.
        deploy_n: N, a whole number from 1 to M.

    Returns:
        One float64 value per prompt, in the units of the rewards; NaN where fewer than N rollouts are scored.

    Raises:
        TypeError: If `rewards` is not a real tensor or `deploy_n` not an int.
        ValueError: If the rewards are malformed or `deploy_n` is not between 1 and M.

    Examples:
        >>> max_at_k_forecast(torch.tensor([[3.0, 1.0, 2.0]]), deploy_n=2)  # pairs: 3, 3, 2
        tensor([2.6667], dtype=torch.float64)

    Reference:
        PKPO, arXiv 2505.15201.
    """
    check_rewards(rewards)
    if isinstance(deploy_n, bool) or not isinstance(deploy_n, int):
        raise TypeError(f"deploy_n must be an int, got {deploy_n!r}: subsets have whole sizes")
    rollouts = rewards.shape[1]
    if not 1 <= deploy_n <= rollouts:
        raise ValueError(
            f"deploy_n = {deploy_n} must lie between 1 and the {rollouts} rollouts of a group: a larger N is "
            "extrapolation, which tail_forecast does"
        )
    return mean_best_of_subsets(rewards.to(torch.float64), (deploy_n,)).squeeze(1)


def mean_best_of_subsets(
    rewards: Float[Tensor, "P M"], sizes: Sequence[int], *, selection: Float[Tensor, "P M"] | None = None
) -> Float[Tensor, "P K"]:
    """Mean, over all k-subsets of each group's scored rewards, of the best one's; NaN where fewer than k are scored.

    The j-th largest of n is the best of a share of the k-subsets: k / n for the largest, and from there on
    (n - j + 1 - k) / (n - j + 1) of the share of the one before. With `selection` the best is the one that is largest
    there, of those that are not NaN there, and equally large ones are picked equally often. NaN then also where one
    without a reward is the best of some k-subset. Computed relative to the largest reward, so equal rewards give
    exactly themselves.

    Args:
        rewards: Rewards `[P, M]`; NaN where a rollout could not be scored.
        sizes: Values of k, each at least 1.
        selection: Rewards `[P, M]` that pick the best, in the place of the rewards themselves.

    Returns:
        One column per k, `[P, K]`, in float64.

    Examples:
        >>> mean_best_of_subsets(torch.tensor([[3.0, 1.0, 2.0]], dtype=torch.float64), [1, 3])
        tensor([[2., 3.]], dtype=torch.float64)
    """
    chosen_by = rewards if selection is None else selection
    pickable = ~torch.isnan(chosen_by)
    n = pickable.sum(dim=1, keepdim=True).to(torch.float64)
    order = chosen_by.masked_fill(~pickable, -math.inf).sort(dim=1, descending=True)
    best = rewards.masked_fill(~pickable | torch.isnan(rewards), -math.inf).amax(dim=1, keepdim=True)
    descending = (rewards - best).where(pickable, 0.0).gather(1, order.indices)
    if selection is not None:
        descending = _mean_of_equals(order.values, descending)
    place = torch.arange(rewards.shape[1], device=rewards.device)
    smaller = n - place[1:]
    values = []
    for k in sizes:
        ratio = (smaller + 1 - k).clamp(min=0) / smaller.clamp(min=1)
        shares = torch.cat([k / n, ratio], dim=1).cumprod(dim=1)
        best_of_some = descending.where(place <= n - k, 0.0)  # a share of 0 times NaN would be NaN
        values.append((shares * best_of_some).sum(dim=1, keepdim=True).where(n >= k, math.nan))
    return best + torch.cat(values, dim=1)


def _mean_of_equals(keys: Float[Tensor, "P M"], values: Float[Tensor, "P M"]) -> Float[Tensor, "P M"]:
    """Each value replaced by the mean over the columns with the same key; the keys are sorted."""
    first = torch.zeros(len(keys), 1, dtype=torch.bool, device=keys.device)
    run = torch.cat([first, keys[:, 1:] != keys[:, :-1]], dim=1).cumsum(dim=1)
    sums, counts = (torch.zeros_like(values).scatter_add(1, run, part) for part in (values, torch.ones_like(values)))
    return (sums / counts.clamp(min=1)).gather(1, run)


def standard_error(forecast: Callable[..., Tensor], rewards: Rewards, **options: Any) -> Float[Tensor, " P"]:
    """Standard error of each prompt's forecast by the jackknife: from the forecasts that leave one rollout out.

    With f_i the forecast without rollout i of n, sqrt((n - 1) / n sum_i (f_i - mean f)^2). It measures how much the
    forecast would vary from group to group. It does not measure how wrong the assumed shape of the tail is. For normal
    rewards and m = 32 it is right on average for `max_at_k_forecast`. It is 7% too large for `gaussian_tail_forecast`,
    and 43% for `exponential_tail_forecast`, which leans on one order statistic.

    For each prompt it forecasts n groups of n - 1, a few at a time. Memory is linear in the rewards, time in P n^2. For
    32 prompts with 4,096 rollouts this takes a minute of one core with `max_at_k_forecast`, and ten seconds with the
    tail forecasts.

    Args:
        forecast: `tail_forecast`, `max_at_k_forecast`, or any function from rewards `[P, M]` to values `[P]` that
            leaves out NaN.
        rewards: Rewards `[P, M]`; NaN where a rollout could not be scored.
        **options: The forecast's keyword arguments; a tensor `deploy_n` must hold one value only.

    Returns:
        One float64 standard error per prompt, in the units of the rewards; NaN where leaving one out leaves too few.

    Raises:
        ValueError: As the forecast.

    Examples:
        >>> rewards = torch.tensor([[0.0, 1.0, 2.0, 5.0]])
        >>> standard_error(max_at_k_forecast, rewards, deploy_n=1)  # of the mean: std / sqrt(4)
        tensor([1.0801], dtype=torch.float64)
    """
    check_rewards(rewards)
    values = rewards.to(torch.float64)
    scored = ~torch.isnan(values)
    # One group for each rollout that is left out, a few at a time: memory stays linear in the rewards.
    forecasts = torch.empty_like(values)
    every = torch.arange(values.numel(), device=values.device)
    rows = max(1, _CHUNK // values.shape[1])
    for left_out, found in zip(*(torch.split(all_, rows) for all_ in (every, forecasts.view(-1))), strict=True):
        found.copy_(forecast(_without(values, left_out), **options))
    return leave_one_out_error(forecasts, scored)


def _without(values: Float[Tensor, "P M"], left_out: Int[Tensor, " L"]) -> Float[Tensor, "L M"]:
    """The groups that leave out one rollout each, numbered through the table."""
    rollouts = values.shape[1]
    return values[left_out // rollouts].scatter(1, (left_out % rollouts).unsqueeze(1), math.nan)
