"""BoN-RL: REINFORCE under the distribution of the best of N."""

import torch
from torch import Tensor

from tailgrad.estimators._groups import finish, is_binary, num_scored, per_prompt, relative_rewards
from tailgrad.estimators._ranks import log_best_of_n_weight, num_not_larger, num_smaller
from tailgrad.types import Advantages, Rewards, check_rewards


def bon_rl(rewards: Rewards, *, deploy_n: int | float | Tensor, validate: bool = True) -> Advantages:
    """REINFORCE under the distribution of the best of N, with quantiles estimated from the group.

    Formula for a group whose rewards are all 0 or 1, p the share of failures:

        A_i = N p^(N-1) (r_i - (1 - p)),

    the exact gradient of pass@N with p plugged in. Other groups, with q_i the mid-rank of r_i (1 to m) over m:

        A_i = w_i (r_i - b),   w_i = N q_i^(N-1),   b = sum w r / sum w.

    This is our reading of the paper, which samples N responses per prompt in training.

    Scale: mean scale, biased at finite m. It assumes that the ranks of m rollouts stand for the quantiles of the
    policy. For N much larger than m, only the largest rewards then have any weight. A group of equal rewards, or with
    one scored rollout, gets zeros.

    Args:
        rewards: Rewards `[P, M]`, M >= 2; NaN where a rollout could not be scored.
        deploy_n: N, the responses per prompt at deployment; a number or a tensor `[P]`.
        validate: Check the values of the rewards and of `deploy_n` first, which waits for the device.

    Returns:
        Advantages `[P, M]` in the units of the rewards.

    Raises:
        TypeError: If `rewards` is not a real tensor or `deploy_n` not a number or a tensor.
        ValueError: If the rewards are not `[P, M]` or hold an infinity, or `deploy_n` is out of range.

    Examples:
        >>> bon_rl(torch.tensor([[0.0, 1.0, 0.0, 0.0]]), deploy_n=8)
        tensor([[-0.2670,  0.8009, -0.2670, -0.2670]])

    Reference:
        Chow et al., "Inference-aware fine-tuning for best-of-N sampling", arXiv 2412.15287.
    """
    if validate:
        check_rewards(rewards)
    budget = per_prompt(deploy_n, rewards)
    relative = relative_rewards(rewards)
    quantile = (num_smaller(relative) + num_not_larger(relative) + 1) / (2 * num_scored(rewards))
    log_weight = log_best_of_n_weight(quantile, budget, validate=validate)
    share = log_weight.masked_fill(torch.isnan(relative), -torch.inf).softmax(dim=1)
    baseline = (share * relative.nan_to_num(nan=0.0)).sum(dim=1, keepdim=True)
    graded = log_weight.exp() * (relative - baseline)
    values = rewards.to(torch.float64)
    success = torch.nanmean(values, dim=1, keepdim=True)
    weight = log_best_of_n_weight(1 - success, budget, validate=False).exp()
    exact = weight * (values - success)
    zero_or_one = (torch.isnan(values) | is_binary(values)).all(dim=1, keepdim=True)
    return finish(torch.where(zero_or_one, exact, graded), rewards)
