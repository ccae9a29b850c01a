"""Rewards and advantages per token, `[B, T]`, as verl and SkyRL keep them."""

from __future__ import annotations

from jaxtyping import Float, Shaped
from torch import Tensor

from tailgrad.estimators.ragged import GroupIds
from tailgrad.integrations.groups import GroupEstimator


def token_level_advantages(
    estimator: GroupEstimator,
    token_level_rewards: Float[Tensor, "B T"],
    response_mask: Shaped[Tensor, "B T"],
    index: GroupIds | None,
) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B T"]]:
    """Give every token of a response the advantage of the response.

    The reward of a response is the sum over its tokens. A response without a token to train on (its mask is all zero:
    rejected, or cut off) gets zeros and is left out of its group.

    Args:
        estimator: The estimator.
        token_level_rewards: Rewards.
        response_mask: 1 for each token that is trained on, else 0.
        index: The prompt of each response, in any order.

    Returns:
        Advantages, and again as the returns, which only a critic would need.

    Raises:
        ValueError: There is no `index`, or as the estimator.

    Examples:
        >>> import torch
        >>> rewards, mask = torch.tensor([[0.0, 4.0], [0.0, 0.0], [2.0, 0.0]]), torch.tensor([[1, 1], [0, 0], [1, 0]])
        >>> token_level_advantages(GroupEstimator("rloo"), rewards, mask, ["a", "a", "a"])[0]
        tensor([[ 2.,  2.],
                [ 0.,  0.],
                [-2., -0.]])
    """
    if index is None:
        raise ValueError(
            f"{estimator.name} compares the responses to one prompt, and this batch does not say which are."
        )
    flat = estimator(token_level_rewards.sum(dim=-1), index, response_mask.bool().any(dim=1))
    advantages = flat.to(token_level_rewards.dtype).unsqueeze(1) * response_mask
    return advantages, advantages
