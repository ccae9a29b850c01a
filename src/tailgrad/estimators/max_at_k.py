"""max@k (PKPO): the unbiased gradient of the best of k rollouts, k <= m."""

import math
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from tailgrad.estimators._binomials import binomial_ratio, check_k
from tailgrad.estimators._groups import finish, needs, num_scored, relative_rewards
from tailgrad.estimators._ratios import check_ratios, ratios_of_scored
from tailgrad.types import Advantages, Ratios, Rewards, check_rewards

Baseline = Literal["subset", "loo", "none"]


def smallest_subset_group(*, k: int, baseline: Baseline = "subset") -> int:
    """The fewest scored rollouts for which the baseline is defined."""
    check_k(k)
    if baseline not in get_args(Baseline):
        raise ValueError(f"unknown baseline {baseline!r}: choose one of {', '.join(get_args(Baseline))}")
    return k + 1 if baseline == "loo" or (baseline == "subset" and k == 1) else k


@needs(smallest_subset_group)
def max_at_k(
    rewards: Rewards,
    ratios: Ratios | None = None,
    *,
    k: int,
    baseline: Baseline = "subset",
    validate: bool = True,
) -> Advantages:
    """Influence of each rollout on the U-statistic of the best of k.

    Formula, times m for the mean scale (the paper writes sums), rho_k(r) the mean of max_S r over all
    k-subsets S, r_-i the group without rollout i:

        none    s_i = C(m, k)^-1 sum over S containing i of max_S r
        loo     s_i - (k / m) rho_k(r_-i), which needs k <= m - 1; k = 1 is RLOO
        subset  C(m, k)^-1 sum over S containing i of (max_S r - max_{S minus i} r)
                = s_i - (k / m) rho_{k-1}(r_-i), never negative; at k = 1 it is `loo`

    At k = m the default is the largest reward minus the second largest, for the largest alone. With `ratios`, what
    rollout i adds to a subset is multiplied by q_S, the product of the ratios of the other k - 1, as if the policy now
    had drawn these; the baseline stays as it is:

        A_i + C(m, k)^-1 sum over S containing i of (q_S - 1) (max_S r - max_{S minus i} r)

    Scale: mean scale. All three are unbiased for the gradient of V_k = E[max of k rollouts]; `subset` has the
    least variance in practice. The paper prints k / (m - 1) in the `loo` baseline, which is not invariant to
    a shift of the rewards; k / m is. Assumes nothing of the rewards. No signal: with `subset` and `loo` equal
    rewards give zeros; a group with fewer scored rollouts than the baseline needs gives zeros.

    Args:
        rewards: Rewards `[P, M]`, M >= 2; NaN where a rollout could not be scored.
        ratios: pi(y) / mu(y) of rollouts that an older policy mu drew, `[P, M]`. Times its own ratio, which the loss
            has, the expected gradient is then exactly that of V_k at pi. The products grow noisy with k and with the
            spread of the ratios; divided by their mean over the group they are quieter and biased by about 1/m.
        k: Size of the subsets, 1 <= k <= M (`loo`, and `subset` at k = 1: k <= M - 1).
        baseline: "subset", "loo" or "none".
        validate: Check the rewards first, which waits for the device.

    Returns:
        Advantages `[P, M]` in the units of the rewards.

    Raises:
        TypeError: If `rewards` is not a real tensor or k not an int.
        ValueError: If `rewards` is not `[P, M]` with M >= 2 or holds an infinity, k is out of range, or the
            baseline is unknown.

    Example:
        >>> max_at_k(torch.tensor([[0.0, 1.0, 5.0, 3.0]]), k=4)
        tensor([[0., 0., 8., 0.]])

    Reference:
        PKPO, arXiv 2505.15201; max@k, arXiv 2510.23393.
    """
    if validate:
        check_rewards(rewards)
        check_ratios(ratios, rewards)
    needed = smallest_subset_group(k=k, baseline=baseline)
    if needed > rewards.shape[1]:
        raise ValueError(
            f"k = {k} with baseline = {baseline!r} needs at least {needed} rollouts a group, got "
            f"{rewards.shape[1]}: use a smaller k or more rollouts"
        )
    differences = baseline == "subset" and k > 1  # of sorted rewards, which an offset does not change
    given = rewards.to(torch.float64) if differences else relative_rewards(rewards)
    n = num_scored(rewards)
    ascending, order = given.nan_to_num(nan=math.inf).sort(dim=1)  # unscored: last
    ascending = ascending.nan_to_num(posinf=0.0)
    if differences:
        values = _subset_differences(ascending, n, k)  # already 0 where n < k
    elif baseline == "none":
        largest = rewards.to(torch.float64).nan_to_num(nan=-math.inf).amax(dim=1, keepdim=True)
        values = (k * (_best_with_own(ascending, n, k) + largest)).where(n >= needed, 0.0)
    else:
        values = (k * (_best_with_own(ascending, n, k) - _best_of_others(ascending, n, k))).where(n >= needed, 0.0)
    if ratios is not None:
        ranked = ratios_of_scored(ratios, rewards).gather(1, order)
        values = values + _subset_corrections(ascending, ranked, n, k)
    return finish(given.scatter(1, order, values), rewards)


def _subset_differences(ascending: Float[Tensor, "P M"], n: Float[Tensor, "P 1"], k: int) -> Float[Tensor, "P M"]:
    """Mean, times n, over k-subsets of what rollout i adds, as a sum over gaps of the sorted rewards.

    The i-th smallest adds the gap between ranks j and j + 1 (j < i) in the subsets whose other k - 1 members
    all have rank <= j: C(j, k - 1) of C(n, k). All terms are >= 0, so nothing cancels.
    """
    gaps = ascending.diff(dim=1, prepend=ascending[:, :1])
    below = _ranks(ascending) - 1
    return (n * gaps * binomial_ratio(below, k - 1, n, k)).cumsum(dim=1)


def _subset_corrections(
    ascending: Float[Tensor, "P M"], ratios: Float[Tensor, "P M"], n: Float[Tensor, "P 1"], k: int
) -> Float[Tensor, "P M"]:
    """`_subset_differences` with the products of the others' ratios, less that with products of ones."""
    gaps = ascending.diff(dim=1, prepend=ascending[:, :1])
    products = _products_below(ratios, n, k) - _products_below(torch.ones_like(ratios), n, k)
    return (k * gaps * products).cumsum(dim=1)


def _products_below(ratios: Float[Tensor, "P M"], n: Float[Tensor, "P 1"], k: int) -> Float[Tensor, "P M"]:
    """Sum over (k - 1)-subsets of the ranks below each rank of the product of their ratios, over C(n - 1, k - 1).

    Subsets of q are those of q - 1 below one more, the highest: an elementary symmetric polynomial of all prefixes at
    once is a cumulative sum of the one before, and nothing cancels.
    """
    products = torch.ones_like(ratios)
    for q in range(1, k):
        products = torch.nn.functional.pad((ratios * products)[:, :-1].cumsum(dim=1), (1, 0))
        products = products * q / (n - q).clamp(min=1)
    return products


def _best_with_own(ascending: Float[Tensor, "P M"], n: Float[Tensor, "P 1"], k: int) -> Float[Tensor, "P M"]:
    """Mean of max(r_i, best of k - 1 others): own rank i is the best, or a rank j > i is."""
    rank = _ranks(ascending)
    own = binomial_ratio(rank - 1, k - 1, n - 1, k - 1) * ascending
    if k == 1:
        return own
    above = binomial_ratio(rank - 2, k - 2, n - 1, k - 1) * ascending
    return own + above.sum(dim=1, keepdim=True) - above.cumsum(dim=1)


def _best_of_others(ascending: Float[Tensor, "P M"], n: Float[Tensor, "P 1"], k: int) -> Float[Tensor, "P M"]:
    """rho_k without rollout i: the best has rank j < i, or j > i and then rank j - 1 among the others."""
    rank = _ranks(ascending)
    below = (binomial_ratio(rank - 1, k - 1, n - 1, k) * ascending).cumsum(dim=1)
    above = binomial_ratio(rank - 2, k - 1, n - 1, k) * ascending
    own = binomial_ratio(rank - 1, k - 1, n - 1, k) * ascending
    return below - own + above.sum(dim=1, keepdim=True) - above.cumsum(dim=1)


def _ranks(values: Float[Tensor, "P M"]) -> Float[Tensor, " M"]:
    return torch.arange(1, values.shape[1] + 1, dtype=torch.float64, device=values.device)
