"""Pass@k training: the analytical advantage of groups of k with 0/1 rewards."""

import torch

from tailgrad.estimators._binomials import binomial_ratio, check_k
from tailgrad.estimators._groups import check_binary, finish, num_scored
from tailgrad.types import Advantages, Rewards, check_rewards


def smallest_pass_group(*, k: int) -> int:
    """The fewest scored rollouts that tell subsets of k apart: in a group of k, sigma is 0."""
    check_k(k)
    return k + 1


def pass_at_k(rewards: Rewards, *, k: int, validate: bool = True) -> Advantages:
    """Standardised advantage of a rollout in groups of k, averaged over all of them; rewards 0 or 1.

    Formula: with f failures in the group, Rbar = 1 - C(f, k) / C(m, k) the share of k-subsets with a success, and
    sigma = sqrt(Rbar (1 - Rbar)),

        success:  (1 - Rbar) / sigma
        failure:  (1 - Rbar - C(f - 1, k - 1) / C(m - 1, k - 1)) / sigma.

    Scale: none; the division by sigma weighs each prompt. It assumes 0/1 rewards. No signal: the group gets zeros where
    every k-subset holds a success, or none does. So k = m never gives a signal.

    Args:
        rewards: Rewards `[P, M]`, M >= 2, each 0 or 1; NaN where a rollout could not be scored.
        k: Size of the subsets, 1 <= k <= M.
        validate: Check the rewards first, which waits for the device.

    Returns:
        Advantages `[P, M]` without unit.

    Raises:
        TypeError: If `rewards` is not a real tensor or k not an int.
        ValueError: If the rewards are not `[P, M]` with M >= 2, one is neither 0 nor 1, or k is out of range.

    Examples:
        >>> pass_at_k(torch.tensor([[0.0, 1.0, 0.0, 0.0]]), k=2)
        tensor([[-0.3333,  1.0000, -0.3333, -0.3333]])

    Reference:
        Chen et al., "Pass@k training", arXiv 2508.10751.
    """
    check_k(k)
    if validate:
        check_rewards(rewards)
        check_binary(rewards, "pass_at_k")
    if k > rewards.shape[1]:
        raise ValueError(f"k = {k} must not exceed the {rewards.shape[1]} rollouts per group: needs k <= m")
    values = rewards.to(torch.float64)
    n = num_scored(rewards)
    failures = (values == 0).sum(dim=1, keepdim=True).to(torch.float64)
    all_fail = binomial_ratio(failures, k, n, k)
    others_fail = binomial_ratio(failures - 1, k - 1, n - 1, k - 1)
    sigma = (all_fail * (1 - all_fail)).sqrt()
    advantages = (all_fail - others_fail.where(values == 0, 0.0)) / sigma
    return finish(advantages.where((sigma > 0) & (n >= k), 0.0), rewards)
