"""slime: `--custom-reward-post-process-path tailgrad.integrations.slime.post_process_rewards`.

The estimator and its options stand under `tailgrad` in the YAML file of `--custom-config-path`. slime's own estimator
`grpo` then hands the advantage of a response to each of its tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from tailgrad.integrations.groups import GroupEstimator

OPTIONS = ("estimator", "deploy_n", "advantage_scaling")
"""What may stand under `tailgrad`."""


def post_process_rewards(args: Any, samples: Sequence[Any]) -> tuple[list[float], list[float]]:
    """Turn the rewards of a step into advantages.

    Args:
        args: slime's arguments.
        samples: All samples of the step, groups by their `group_index`. One that is removed or has no token to train on
            gets 0 and is left out of its group.

    Returns:
        The rewards, and the advantages in their place.

    Raises:
        ValueError: An option is unknown, missing or of another kind, or as the estimator.
    """
    rewards = [sample.get_reward_value(args) for sample in samples]
    trained = [not sample.remove_sample and _has_tokens(sample) for sample in samples]
    values = torch.tensor([float("nan") if reward is None else float(reward) for reward in rewards])
    groups = [sample.group_index for sample in samples]
    advantages = estimator_of(args)(values, groups, torch.tensor(trained, dtype=torch.bool))
    return rewards, advantages.tolist()


def _has_tokens(sample: Any) -> bool:
    """Whether a sample has a token to train on; without a mask all of its response counts."""
    return any(sample.loss_mask) if sample.loss_mask is not None else sample.response_length > 0


def estimator_of(args: Any) -> GroupEstimator:
    """The estimator that slime's arguments name under `tailgrad`.

    Args:
        args: slime's arguments.

    Returns:
        The estimator.

    Raises:
        ValueError: None is named, or an option is unknown, missing or of another kind.
    """
    given = getattr(args, "tailgrad", None)
    if not isinstance(given, dict) or "estimator" not in given or not given.keys() <= set(OPTIONS):
        raise ValueError(
            f"the file of --custom-config-path must have `tailgrad:` with `estimator: NAME` and, if need be, the other "
            f"options out of {', '.join(OPTIONS)}; it has {given!r}"
        )
    return GroupEstimator.read(**given)
