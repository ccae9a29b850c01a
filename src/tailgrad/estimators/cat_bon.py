"""CAT: GRPO's advantage, weighted by how likely a rollout of its rank is the best of N."""

import torch
from torch import Tensor

from tailgrad.estimators._groups import num_scored, output_dtype, per_prompt, relative_rewards
from tailgrad.estimators._ranks import log_best_of_n_weight, num_smaller
from tailgrad.estimators.grpo import grpo
from tailgrad.types import Advantages, Rewards, check_rewards


def cat_bon(rewards: Rewards, *, deploy_n: int | float | Tensor, validate: bool = True) -> Advantages:
    """GRPO's advantage times the weight of the best of N at the rollout's rank.

    Formula: q_i = (#{j: r_j < r_i} + 1) / (m + 1), w_i = N q_i^(N-1), divided by its mean over the scored
    rollouts of the batch, and

        A_i = w_i (r_i - rbar) / (std + 1e-4),   std with ddof = 1.

    Scale: none. The division by std weighs each prompt, so this is not an unbiased gradient of anything. The weights
    alone are tiny (at m = 16, N = 128 the largest is 0.06), so they are divided by their mean. Where rewards are tied
    or unscored, a prompt's advantages then depend on the other prompts of the batch, by a factor that all share.
    `advantages_ragged` takes each group as a batch of its own. It assumes that the ranks of m rollouts stand for
    quantiles. A group of equal rewards, or with one scored rollout, gets zeros.

    Args:
        rewards: Rewards `[P, M]`, M >= 2; NaN where a rollout could not be scored.
        deploy_n: N, the responses per prompt at deployment; a number or a tensor `[P]`.
        validate: Check the values of the rewards and of `deploy_n` first, which waits for the device.

    Returns:
        Advantages `[P, M]` without unit.

    Raises:
        TypeError: If `rewards` is not a real tensor or `deploy_n` not a number or a tensor.
        ValueError: If the rewards are not `[P, M]` or hold an infinity, or `deploy_n` is out of range.

    Examples:
        >>> cat_bon(torch.tensor([[0.0, 1.0, 3.0]]), deploy_n=2)
        tensor([[-0.4364, -0.2182,  1.6365]])

    Reference:
        CAT, arXiv 2604.24957.
    """
    if validate:
        check_rewards(rewards)
    budget = per_prompt(deploy_n, rewards)
    relative = relative_rewards(rewards)
    scored = ~torch.isnan(relative)
    quantile = (num_smaller(relative) + 1) / (num_scored(rewards) + 1)
    log_weight = log_best_of_n_weight(quantile, budget, validate=validate)
    over_scored = log_weight.masked_fill(~scored, -torch.inf).flatten()
    log_weight = log_weight - over_scored.logsumexp(dim=0) + scored.sum().to(torch.float64).log()
    # grpo has left out the unscored rollouts and set the scale of the group already
    advantages = grpo(relative, validate=False) * log_weight.exp().detach()
    return advantages.where(scored, 0.0).to(output_dtype(rewards))
