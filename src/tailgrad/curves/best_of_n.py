"""Exact best-of-N values of a pool of rewards, without resampling the responses."""

import numbers
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Real

from tailgrad.curves.given import unmasked
from tailgrad.tails.forecasts import mean_best_of_subsets

_BLOCK = 2**19  # responses sorted at once


def budgets_up_to(n: int) -> tuple[int, ...]:
    """Give the budgets N = 1, 2, 4, ... up to n, with n itself last.

    Args:
        n: Responses per prompt, at least 1.

    Returns:
        Increasing budgets; n is included also where it is not a power of two.

    Raises:
        ValueError: If n is smaller than 1.

    Examples:
        >>> budgets_up_to(12)
        (1, 2, 4, 8, 12)
    """
    if n < 1:
        raise ValueError(f"budgets_up_to needs n >= 1 responses per prompt, got n={n}.")
    powers = [2**power for power in range(n.bit_length()) if 2**power < n]
    return (*powers, n)


def best_of_n(
    rewards: Real[np.ndarray, "P n"], budgets: Sequence[int], *, selection: np.ndarray | None = None
) -> Float[np.ndarray, "P K"]:
    """Compute V_N of every prompt exactly: the mean, over all N-subsets of its n rewards, of the maximum.

    With the rewards in increasing order r_(1) <= ... <= r_(n),

        V_N = sum over i = N .. n of C(i - 1, N - 1) / C(n, N) r_(i)

    is the U-statistic of the maximum of N: unbiased for E[max(R_1, ..., R_N)] for every N <= n,
    with no randomness of its own. N = 1 is the mean reward, N = n the largest reward.

    Args:
        rewards: Rewards of n responses to each of P prompts, in the reward's own unit; NaN is an unscored
            response, which is left out.
        budgets: The K values of N, each between 1 and n.
        selection: What the best response is picked by, `[P, n]`, if that is not the reward. The mean is then over the
            `rewards` of the responses that are largest here; responses that are equally large are picked equally often.
            NaN here is a response that cannot be picked, and is left out. NaN in `rewards` alone is a response that may
            still be picked, and what it is worth is unknown.

    Returns:
        V_N of every prompt (rows) at every budget (columns), in the unit of the reward. NaN where a prompt has fewer
        than N responses that can be picked, or where a response without a reward is the best of some N-subset.

    Raises:
        ValueError: If `rewards` is not a matrix with at least one prompt and one response, holds an infinity,
            or a budget is below 1 or above n.
        TypeError: If a budget is not an integer.

    Examples:
        >>> rewards = np.array([[3.0, 1.0, 2.0]])
        >>> best_of_n(rewards, [1, 2, 3])  # pairs: max 3, 3, 2, on average 8/3
        array([[2.        , 2.66666667, 3.        ]])
        >>> best_of_n(rewards, [1, 2, 3], selection=np.array([[0.0, 5.0, 9.0]]))  # the third before the second
        array([[2.        , 1.66666667, 2.        ]])
        >>> unknown = np.array([[3.0, np.nan, 2.0]])  # the second is picked from the first two, never from all three
        >>> best_of_n(unknown, [1, 2, 3], selection=np.array([[0.0, 5.0, 9.0]]))
        array([[nan, nan,  2.]])

    References:
        Walder and Karkhanis (2025), Pass@K Policy Optimization, arXiv:2505.15201, gives the weights.
    """
    rewards = unmasked(rewards)
    _check(rewards, budgets)
    if selection is not None:
        selection = unmasked(selection)
        if selection.shape != rewards.shape:
            raise ValueError(
                f"selection has shape {selection.shape}; it must have that of the rewards, {rewards.shape}."
            )
        _check(selection, budgets)
    sizes = [int(budget) for budget in budgets]
    block = max(1, _BLOCK // rewards.shape[1])
    blocks = [slice(start, start + block) for start in range(0, len(rewards), block)]
    values = [
        mean_best_of_subsets(
            _tensor(rewards[at]), sizes, selection=None if selection is None else _tensor(selection[at])
        )
        for at in blocks
    ]
    return torch.cat(values).numpy()


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float64))  # a copy: torch warns of arrays it may not write to


def _check(rewards: np.ndarray, budgets: Sequence[int]) -> None:
    if rewards.ndim != 2 or 0 in rewards.shape:
        raise ValueError(
            f"rewards must be a matrix [P, n] with at least one prompt and one response, got {rewards.shape}."
        )
    if np.isinf(rewards).any():
        prompt, response = np.argwhere(np.isinf(rewards))[0]
        raise ValueError(
            f"rewards must be finite, or NaN for an unscored response: response {response} of prompt "
            f"{prompt} has {rewards[prompt, response]}."
        )
    check_budgets(budgets, rewards.shape[1])


def check_budgets(budgets: Sequence[int], n: int) -> None:
    """Raise unless all budgets are integers from 1 to n.

    Args:
        budgets: Values of N.
        n: Responses per prompt.

    Raises:
        TypeError: If a budget is not an integer.
        ValueError: If there is no budget, or one is below 1 or above n.

    Examples:
        >>> check_budgets([1, 4], n=8)
    """
    if len(budgets) == 0:
        raise ValueError("budgets is empty: give at least one N.")
    for budget in budgets:
        if not isinstance(budget, numbers.Integral):
            raise TypeError(f"a budget N must be an integer, got {budget!r}.")
        if not 1 <= budget <= n:
            raise ValueError(
                f"a budget N must be between 1 and the {n} responses per prompt, got {budget}. "
                "V_N is not extrapolated here: take more responses per prompt, or a smaller N."
            )
