"""OrderGrad: the unbiased gradient of an order statistic of k rollouts, k < m."""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import gammaln

from tailgrad.estimators._binomials import check_k
from tailgrad.estimators._groups import finish, num_scored, relative_rewards, sorted_gaps
from tailgrad.tails.statistics import tail_size
from tailgrad.types import Advantages, Rewards, check_rewards


def smallest_order_group(*, k: int, top: int | None = None, quantile: float | None = None) -> int:
    """The fewest scored rollouts: one besides k of them."""
    _ranks_from_the_top(k, top, quantile)
    return k + 1


def order_grad(
    rewards: Rewards, *, k: int, top: int | None = None, quantile: float | None = None, validate: bool = True
) -> Advantages:
    """Influence of each rollout on the mean of an order statistic over all k-subsets.

    Formula: with L(S) a statistic of the sorted rewards of a set S of k rollouts,

        A_i = k (mean of L over k-subsets that hold i  -  mean of L over k-subsets that do not),

        top = j       L is the mean of the j largest of the k: from V_k (j = 1) to the mean (j = k);
        quantile = q  L is the ceil(q k)-th smallest of the k: q = 0.5 a median, q = 1 the largest.

    The paper allows any weights of the k order statistics; these two are the plain ones that point upwards. The paper's
    advantage lacks the factor k, which its gradient has.

    Scale: mean scale. It is the gradient of E[L(R_1, ..., R_k)] without bias, whatever the rewards. `top=1` and
    `quantile=1` are `max_at_k` with its baseline `loo`; `top=k` is `rloo`. With j above 1 it has less noise than
    `max_at_k` of the same k, and aims lower. The advantages of a group sum to 0. It assumes nothing about the rewards.
    No signal: the group gets zeros where the rewards are equal, or where k or fewer rollouts are scored.

    Args:
        rewards: Rewards `[P, M]`, M >= 2; NaN where a rollout could not be scored.
        k: How many rollouts the statistic is taken of, 1 <= k <= M - 1.
        top: j, from 1 to k; or
        quantile: q in (0, 1]. Exactly one of the two.
        validate: Check the rewards first, which waits for the device.

    Returns:
        Advantages `[P, M]` in the units of the rewards.

    Raises:
        TypeError: If `rewards` is not a real tensor or k not an int.
        ValueError: If `rewards` is not `[P, M]` with M >= 2 or holds an infinity, k, `top` or `quantile` is out of
            range, or not exactly one of these two is given.

    Examples:
        >>> order_grad(torch.tensor([[0.0, 1.0, 5.0, 3.0]]), k=3, top=2)
        tensor([[-3., -3.,  5.,  1.]])

    Reference:
        OrderGrad, arXiv 2606.06096.
    """
    if validate:
        check_rewards(rewards)
    first, last = _ranks_from_the_top(k, top, quantile)
    rollouts = rewards.shape[1]
    if k >= rollouts:
        raise ValueError(
            f"k = {k} needs at least {k + 1} rollouts per group, got {rollouts}: use a smaller k or more rollouts"
        )
    relative = relative_rewards(rewards)
    gaps, order = sorted_gaps(relative)
    chosen = num_scored(rewards).long().squeeze(1)
    won, lost = (
        torch.from_numpy(table).to(rewards.device, non_blocking=True)[chosen]
        for table in gap_weights(rollouts, k, first, last)
    )
    values = (gaps * (won + lost)).cumsum(dim=1) - (gaps * lost).sum(dim=1, keepdim=True)
    return finish(relative.scatter(1, order, values), rewards)


def _ranks_from_the_top(k: int, top: int | None, quantile: float | None) -> tuple[int, int]:
    """The first and the last of the k order statistics whose mean is taken; 1 is the largest."""
    check_k(k)
    if (top is None) == (quantile is None):
        raise ValueError(
            f"order_grad needs exactly one of top and quantile, got top = {top} and quantile = {quantile}: give "
            "top = j for the mean of the j largest of k, or quantile = q for the ceil(q k)-th smallest"
        )
    if top is not None:
        if not 1 <= top <= k:
            raise ValueError(f"top = {top} must lie between 1 and k = {k}")
        return 1, top
    if quantile is None or not 0 < quantile <= 1:
        raise ValueError(f"quantile = {quantile} must lie in (0, 1]")
    place = k + 1 - max(1, tail_size(k, quantile))
    return place, place


@lru_cache(maxsize=64)
def gap_weights(rollouts: int, k: int, first: int, last: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What the gaps between sorted rewards weigh in an advantage, for every number n of scored rollouts up to m.

    A gap with g rollouts below it counts in the h-th largest of a set where at least h of the set lie above. Take a
    rollout away from a set and another one in: the sets differ in that where h - 1 of the k - 1 that stay lie above the
    gap, and the two lie on both sides of it. Over a gap below the rollout lies g times in n - 1 the other one below it;
    over one above the rollout n - g times in n - 1 above it. Both leave n - 2 for those that stay, g - 1 below the gap.

    Args:
        rollouts: m.
        k: Size of the sets.
        first: The mean is taken of the order statistics from this rank, 1 the largest,
        last: to this one.

    Returns:
        Two arrays `[m + 1, m]`, n by g: k times the weight of a gap below the rollout, and of one above it; 0 where
        n <= k.

    Examples:
        >>> below, above = gap_weights(4, 3, 1, 1)
        >>> below[4].tolist(), above[4].round(2).tolist()
        ([0.0, 0.0, 0.0, 3.0], [0.0, 0.0, 0.0, 1.0])
    """
    n, g = np.arange(rollouts + 1)[:, None], np.arange(rollouts)[None, :]
    stay = _share_with(n, g, k - 1, last - 1) - _share_with(n, g, k - 1, first - 2)
    weight = np.where((n > k) & (g >= 1) & (g < n), k / (last - first + 1) / np.maximum(n - 1, 1) * stay, 0.0)
    return weight * g, weight * (n - g)


def _share_with(n: NDArray[np.int64], g: NDArray[np.int64], size: int, most: int) -> NDArray[np.float64]:
    """Share of the sets of `size` of n - 2 rollouts, g - 1 below a gap, with at most `most` above it.

    There the one that is ranked `most` + 1 in the set lies below the gap: a sum over its place, at most g - 1.
    """
    if most < 0 or most >= size:
        return np.full((n.size, g.size), float(most >= 0))
    log_factorial = gammaln(np.arange(n.size + 1) + 1)
    of_place = _log_choose(log_factorial, n - 1 - g, most) + _log_choose(log_factorial, g - 2, size - 1 - most)
    inside = (n - 2 >= size) & (g < n)
    shares = np.exp(of_place - _log_choose(log_factorial, n - 2, size), where=inside, out=np.zeros(inside.shape))
    return shares.cumsum(axis=1)


def _log_choose(log_factorial: NDArray[np.float64], n: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Logarithm of the number of k-subsets; -1e300 where there is none, so that differences stay numbers."""
    possible = np.maximum(n, k)
    return np.where(n >= k, log_factorial[possible] - log_factorial[k] - log_factorial[possible - k], -1e300)
