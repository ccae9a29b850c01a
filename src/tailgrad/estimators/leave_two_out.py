"""Leave-two-out (MaxPO): what an estimator gives a rollout, against what it gives the others in its absence."""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from tailgrad.estimators._groups import finish, num_scored, tables_at_once
from tailgrad.estimators.registry import EstimatorRow, row_of
from tailgrad.types import Advantages, Rewards, check_rewards


def leave_two_out(estimate: Callable[..., Tensor]) -> EstimatorRow:
    """An estimator with the leave-two-out baseline, which centres it and adds no bias.

    Formula: with u^(-j) the advantages that the estimator gives to the m - 1 rollouts other than j,

        A_i = 1 / (m - 1) sum over j != i of (u_i^(-j) - u_j^(-i)).

    The first term is what rollout i gets in groups of m - 1; the second is what the others get in the group without i.
    The pairs cancel, so the advantages of a group sum to 0. If the estimator is on the mean scale, so is this: the
    first terms are the mean of m estimates from groups of m - 1, and the second do not depend on response i.

    Scale: that of the estimator. It is unbiased for what the estimator is unbiased for; a biased estimator keeps the
    bias that it has at m - 1 rollouts. It turns rewards as advantages (u_i = r_i) into `rloo`, and `max_at_k` with any
    baseline into `max_at_k` with `loo`. It costs m times what the estimator costs. It assumes what the estimator
    assumes. No signal: the group gets zeros where the estimator gives 0 to every group without one rollout, and where
    fewer than three are scored.

    Args:
        estimate: A function from rewards `[P, M]` to advantages `[P, M]`, such as `bind` returns. Its options may not
            hold a number per prompt, because it is called with a table of `[P * M, M - 1]` (one that looks at the whole
            batch with M tables `[P, M - 1]`). Bind `validate=False` for a
            call that does not wait for the device.

    Returns:
        An estimator from rewards `[P, M]`, M >= 3, NaN where unscored, to advantages `[P, M]` in the units of those of
        `estimate`; with `validate=False` it does not check the rewards first.

    Raises:
        TypeError: By the function, if the rewards are not a real tensor.
        ValueError: By the function, if the rewards are not `[P, M]` with M >= 3 or hold an infinity; and what the
            estimator raises for groups of M - 1.

    Examples:
        >>> from tailgrad.estimators import bind
        >>> leave_two_out(bind("max_at_k", k=2, baseline="none"))(torch.tensor([[0.0, 1.0, 5.0, 3.0]]))
        tensor([[-2.6667, -2.6667,  5.3333,  0.0000]])

    Reference:
        MaxPO, arXiv 2606.06080.
    """

    def estimate_leaving_two_out(rewards: Rewards, *, validate: bool = True) -> Advantages:
        if validate:
            check_rewards(rewards)
        rollouts = rewards.shape[1]
        if rollouts < 3:
            raise ValueError(f"leave_two_out needs at least 3 rollouts per group, got {rollouts}: use more rollouts")
        at_once = len(rewards) if row.over_batch else tables_at_once(rewards, rollouts**2)
        parts = torch.split(rewards, max(1, at_once))
        advantages = torch.cat([_leaving_two_out(part, estimate, row.over_batch) for part in parts])
        # A group of n - 1 of M - 1 comes out times (M - 1) / (n - 1), so the sum over n - 1 pairs is divided by M - 1.
        advantages = advantages / (rollouts - 1)
        return finish(advantages.where(num_scored(rewards) >= smallest, 0.0), rewards)

    row, options = row_of(estimate)
    smallest = max(3, row.smallest_group(**options) + 1)
    return replace(row, function=estimate_leaving_two_out, smallest_group=lambda **others: smallest)


def _leaving_two_out(rewards: Rewards, estimate: Callable[..., Tensor], over_batch: bool) -> Float[Tensor, "P M"]:
    """Sum over all pairs of what one rollout gets in the absence of the other, less what the other gets.

    An estimator that looks at the whole batch sees each prompt once at a time: in one table with the others of the same
    prompt it would count their rollouts several times.
    """
    prompts, rollouts = rewards.shape
    rest = torch.arange(rollouts - 1, device=rewards.device).expand(rollouts, -1)
    rest = rest + (rest >= torch.arange(rollouts, device=rewards.device)[:, None])  # row j: all but j
    groups = rewards.to(torch.float64)[:, rest].masked_fill(torch.isnan(rewards)[:, :, None], torch.nan)
    if over_batch:
        of_rest = torch.stack([estimate(groups[:, left_out]) for left_out in range(rollouts)], dim=1)
    else:
        of_rest = estimate(groups.flatten(0, 1)).view(prompts, rollouts, rollouts - 1)
    of_all = of_rest.new_zeros(prompts, rollouts, rollouts).scatter(2, rest.expand_as(of_rest), of_rest)
    return difference_of_pairs(of_all, rewards)


def difference_of_pairs(influence: Float[Tensor, "P M M"], rewards: Rewards) -> Float[Tensor, "P M"]:
    """Sum over scored j of `influence[:, j, i]` minus that of `influence[:, i, j]`; the first index is left out."""
    unscored = torch.isnan(rewards)
    left_out = influence.masked_fill(unscored[:, :, None] | unscored[:, None, :], 0.0)
    return left_out.sum(dim=1) - left_out.sum(dim=2) + 0.0  # no -0.0
