"""What the estimators share: rewards in, relative to the best of the group; advantages out."""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tailgrad.types import Advantages, Rewards

_CPU_ENTRIES, _GPU_ENTRIES = 2**17, 2**25
"""Entries of a table that is worked on at once."""


def per_prompt(deploy_n: int | float | Tensor, rewards: Rewards) -> int | float | Tensor:
    """N as it was given: one number, or a tensor `[P]` on the device of the rewards."""
    if not isinstance(deploy_n, Tensor):
        return deploy_n
    prompts = rewards.shape[0]
    if deploy_n.shape not in ((), (prompts,)):
        raise ValueError(f"deploy_n must be one number or have shape [P] = [{prompts}], got {list(deploy_n.shape)}")
    return deploy_n.to(rewards.device).expand(prompts)


def output_dtype(rewards: Rewards) -> torch.dtype:
    """The dtype of the advantages: the rewards' floating dtype, but at least float32."""
    return torch.float64 if rewards.dtype == torch.float64 else torch.float32


def tables_at_once(rewards: Rewards, entries: int) -> int:
    """How many tables of so many entries to work on at once, at least one: as many as the CPU's cache holds.

    Memory stays linear in the rewards, and tables in the cache are several times faster.
    """
    return max(1, (_CPU_ENTRIES if rewards.device.type == "cpu" else _GPU_ENTRIES) // max(1, entries))


def relative_rewards(rewards: Rewards) -> Float[Tensor, "P M"]:
    """Rewards in float64 minus the largest of the group, NaN where unscored.

    The subtraction is exact for any offset that the rewards themselves survived, so estimators built on
    differences of rewards return the same advantages, bit for bit, at every such offset.
    """
    values = rewards.to(torch.float64)
    return values - values.nan_to_num(nan=-math.inf).amax(dim=1, keepdim=True)


def sorted_gaps(relative: Float[Tensor, "P M"]) -> tuple[Float[Tensor, "P M"], Int64[Tensor, "P M"]]:
    """Gaps between the sorted rewards of each group, and the order that sorts them.

    Column j holds what lies between the ranks j and j + 1; column 0 is 0. Unscored rollouts come last, and no gap lies
    before them.
    """
    ascending, order = relative.nan_to_num(nan=math.inf).sort(dim=1)
    ascending = ascending.nan_to_num(posinf=0.0)
    return ascending.diff(dim=1, prepend=ascending[:, :1]), order


def num_scored(rewards: Rewards) -> Float[Tensor, "P 1"]:
    """How many rollouts of each group have a reward, as float64."""
    return (~torch.isnan(rewards)).sum(dim=1, keepdim=True).to(torch.float64)


def centred(values: Float[Tensor, "P M"], weights: Float[Tensor, "P M"] | None = None) -> Float[Tensor, "P M"]:
    """Values minus the mean of the scored ones of their group, or minus their mean with weights that sum to 1."""
    if weights is None:
        return values - torch.nanmean(values, dim=1, keepdim=True)
    return values - (values * weights).nansum(dim=1, keepdim=True)


def above_the_others(values: Float[Tensor, "P M"]) -> Float[Tensor, "P M"]:
    """Values minus the mean of the other scored ones of their group; 0 where there is no other."""
    n = num_scored(values)
    return centred(values) * n / (n - 1).clamp(min=1)


def finish(advantages: Float[Tensor, "P M"], rewards: Rewards) -> Advantages:
    """Scale a group of n scored rollouts by M / n, put 0 where unscored, and cast to the output dtype.

    The trainer averages over all M rollouts of a group, so the factor M / n makes that average the one over
    the n that were scored. What lies beyond the output dtype becomes its largest number, never an infinity. Advantages
    are weights of the loss: no gradient flows through them.
    """
    unscored = torch.isnan(rewards)
    rollouts = rewards.shape[1]
    factor = rollouts / (rollouts - unscored.sum(dim=1, keepdim=True)).clamp(min=1).to(advantages.dtype)
    largest = torch.finfo(output_dtype(rewards)).max
    scaled = (advantages * factor).clamp(min=-largest, max=largest)
    return scaled.masked_fill(unscored, 0.0).to(output_dtype(rewards)).detach()


def is_binary(rewards: Rewards) -> Tensor:
    """Where a reward is 0 or 1."""
    return (rewards == 0) | (rewards == 1)


def check_binary(rewards: Rewards, name: str) -> None:
    """Refuse rewards other than 0, 1 and NaN; waits for the device."""
    wrong = ~(is_binary(rewards) | torch.isnan(rewards))
    if wrong.any():
        prompt, rollout = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"{name} takes rewards 0 and 1 only, got {rewards[prompt, rollout].item()} (prompt {prompt}, rollout "
            f"{rollout}): round the rewards, or take another estimator for graded ones, such as max_at_k"
        )
