"""F-GRPO: GRPO's advantage, smaller on prompts that succeed often; 0/1 rewards."""

import math

import torch

from tailgrad.estimators._groups import check_binary, output_dtype
from tailgrad.estimators.grpo import grpo
from tailgrad.types import Advantages, Rewards, check_rewards


def f_grpo(rewards: Rewards, *, gamma: float = 1.0, validate: bool = True) -> Advantages:
    """GRPO's advantage times a power of the share of failures in the group; rewards 0 or 1.

    Formula: A_i = (1 - rbar)^gamma (r_i - rbar) / (std + 1e-4), std with ddof = 1.

    Scale: none; this is not an unbiased gradient of anything. GRPO weighs a prompt by 1 / std, which is the same at
    success rates p and 1 - p. The factor gives less weight to prompts that succeed often. It assumes 0/1 rewards. A
    group of equal rewards, or with one scored rollout, gets zeros.

    Args:
        rewards: Rewards `[P, M]`, M >= 2, each 0 or 1; NaN where a rollout could not be scored.
        gamma: Power of the factor, not negative. 0 is GRPO; a larger power puts more weight on rare successes. The
            default, 1, is our choice.
        validate: Check the rewards first, which waits for the device.

    Returns:
        Advantages `[P, M]` without unit.

    Raises:
        TypeError: If `rewards` is not a real tensor.
        ValueError: If the rewards are not `[P, M]` with M >= 2, one is neither 0 nor 1, or `gamma` is negative or
            infinite.

    Examples:
        >>> f_grpo(torch.tensor([[0.0, 1.0, 0.0, 0.0]]))
        tensor([[-0.3749,  1.1248, -0.3749, -0.3749]])

    Reference:
        Plyusov et al., "F-GRPO: Don't let your policy learn the obvious and forget the rare", arXiv 2602.06717.
    """
    if validate:
        check_rewards(rewards)
        check_binary(rewards, "f_grpo")
    if not 0 <= gamma < math.inf:
        raise ValueError(f"gamma = {gamma} must not be negative, nor infinite; 0 is GRPO, 1 the default")
    values = rewards.to(torch.float64)
    failures = 1 - torch.nanmean(values, dim=1, keepdim=True).nan_to_num(nan=0.0)
    # grpo has left out the unscored rollouts and set the scale of the group already
    return (grpo(values, validate=False) * failures.detach() ** gamma).to(output_dtype(rewards))
