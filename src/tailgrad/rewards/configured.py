"""The rewards that a configuration names: loaded, held against the columns that they need, summed and described."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tailgrad.function_identity import function_sha256
from tailgrad.rewards.checks import CheckedReward, checked
from tailgrad.rewards.functions import WeightedSum
from tailgrad.rewards.load import load_reward
from tailgrad.rewards.options import RewardOptions
from tailgrad.rewards.remote import ServedRewardModel
from tailgrad.rewards.reward import ARGUMENTS, Reward, check_columns, reward_name
from tailgrad.rewards.reward_model import RewardModel


def load_rewards(
    config: Any, columns: Sequence[str], what: str, given: Sequence[str] = ARGUMENTS
) -> tuple[CheckedReward, dict[str, Any]]:
    """Load the reward of a config, or the weighted sum of its rewards, for data with these columns.

    Args:
        config: A `RewardOptions` with `device` and `trust_remote_code`.
        columns: What the rewards are passed beside prompts and completions.
        what: What has the columns, in errors.
        given: What they are passed besides.

    Returns:
        The reward, and what a rollout table's metadata says of it, as `described`.

    Raises:
        FileNotFoundError: A reward model does not exist.
        ValueError: The weights are not one a reward, a reward cannot be loaded, or needs a column that there is not.
    """
    rewards = rewards_of(config)
    for reward in rewards:
        check_columns(reward, columns, what, given)
    return summed(config, rewards), described(config, rewards)


def described(config: Any, rewards: list[Reward]) -> dict[str, Any]:
    """Return what a rollout table's metadata says of the rewards of a config.

    Args:
        config: Names rewards, weights and options.
        rewards: Those that it names, loaded.

    Returns:
        `reward`, `reward_weights`, `reward_options` and `reward_files`, a hash of the content of each reward, None
        where there is none.
    """
    has_reward_model = any(isinstance(reward, RewardModel | ServedRewardModel) for reward in rewards)
    options = {name: value for name, value in config.reward_options.items() if name != "url"}  # it may move
    return {
        "reward": _describe_rewards(config, rewards),
        "reward_weights": None if config.reward_weights is None else [float(one) for one in config.reward_weights],
        "reward_options": options if has_reward_model else {},
        "reward_files": [function_sha256(reward) for reward in rewards],
    }


def summed(config: RewardOptions, rewards: list[Reward]) -> CheckedReward:
    """Return the one reward of a config: its only one, or the weighted sum; each is checked and has its time.

    Args:
        config: Has the weights and the time.
        rewards: As `load_rewards` gives them.
    """
    in_time: list[Reward] = [checked(reward, config.reward_timeout) for reward in rewards]
    return checked(in_time[0] if _is_plain(config, rewards) else WeightedSum(in_time, config.reward_weights))


def rewards_of(config: Any) -> list[Reward]:
    """Load the rewards that a config names, the reward model first.

    Args:
        config: Names rewards and options.

    Returns:
        The rewards.

    Raises:
        FileNotFoundError: A reward model does not exist.
        ValueError: There is not one weight per reward, or a reward cannot be loaded.
        ServerDownError: There is no server at the URL of a reward.
    """
    specs = config.reward_list
    if config.reward_weights is not None and len(config.reward_weights) != len(specs):
        raise ValueError(
            f"{len(config.reward_weights)} reward weights given for {len(specs)} rewards; give one for each."
        )
    options: dict[str, Any] = {"device": config.device, "trust_remote_code": config.trust_remote_code}
    options["timeout"] = config.reward_timeout
    options |= config.reward_options
    return [load_reward(spec, **options) for spec in specs]


def _is_plain(config: RewardOptions, rewards: list[Reward]) -> bool:
    return len(rewards) == 1 and config.reward_weights is None


def _describe_rewards(config: RewardOptions, rewards: list[Reward]) -> str:
    """Return the rewards as the table's metadata names them: "org/model@commit", "0.5*length + 1*format"."""
    names = []
    for spec, reward in zip(config.reward_list, rewards, strict=True):
        name = spec if isinstance(spec, str) else reward_name(reward)
        revision = getattr(reward, "revision", None)
        names.append(f"{name}@{revision}" if revision else name)
    if _is_plain(config, rewards):
        return names[0]
    weights = config.reward_weights or [1.0] * len(names)
    return " + ".join(f"{weight:g}*{name}" for weight, name in zip(weights, names, strict=True))
