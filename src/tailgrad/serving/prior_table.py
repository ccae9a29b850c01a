"""The prior of a server, out of a rollout table that must be of its reward."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from tailgrad.curves import Rollouts
from tailgrad.curves.settings import differences, edited_rewards, settings_of
from tailgrad.rollouts import read_rollouts
from tailgrad.serving.priors import LevelPrior, SpreadPrior, prior_of


def read_prior(
    path: str, reward: Mapping[str, Any], policy: str, shaping: Mapping[str, Any] | None
) -> tuple[SpreadPrior | LevelPrior, dict[str, Any]]:
    """Return what a rollout table tells of prompts like those that will come.

    Args:
        path: The table, of other prompts.
        reward: The reward that will score, as a rollout table's metadata says it.
        policy: The name of the policy that will sample.
        shaping: What shapes its responses, by transformers' names; None if not known.

    Returns:
        The prior, and what the log says of it; there `unchecked` is what the table does not tell, or tells otherwise.

    Raises:
        FileNotFoundError: There is no such table.
        ValueError: It cannot be read, has too few rewards, or is of another reward.
    """
    table = read_rollouts(path)
    _check_reward(table, path, reward)
    prior = prior_of(torch.as_tensor(table.rewards, dtype=torch.float64))
    about = {"table": path, "prompts": len(table.rewards), "spread": round(prior.spread, 6)}
    if isinstance(prior, LevelPrior):
        about["levels"] = list(prior.levels)
    return prior, about | {"unchecked": [*_unchecked(table, reward, policy), *_sampled_otherwise(table, shaping)]}


def _check_reward(table: Rollouts, path: str, reward: Mapping[str, Any]) -> None:
    picked_by = table.metadata.get("selection_reward", "another reward")
    if table.selection_rewards is not None:
        raise ValueError(
            f"prior_table {path!r} is scored by {table.metadata.get('reward')!r}, and its best responses are picked by "
            f"{picked_by!r}: give a table of `tailgrad sample`, or of `tailgrad score --selection reward`."
        )
    found = differences(_of_reward(reward), _of_reward(table.metadata)) if "reward" in table.metadata else []
    if found:
        name, ours, theirs = found[0]
        raise ValueError(
            f"prior_table {path!r} is of another reward: {name} is {theirs!r} there and {ours!r} here. Score it anew "
            "with `tailgrad score --selection reward`, or give another table."
        )


def _of_reward(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return settings_of({name: value for name, value in metadata.items() if name.startswith("reward")})


def _unchecked(table: Rollouts, reward: Mapping[str, Any], policy: str) -> list[str]:
    notes = []
    if "reward" not in table.metadata:
        notes.append("the table does not say its reward")
    elif edited_rewards(_of_reward(reward), _of_reward(table.metadata)):
        notes.append("the reward's files are not those of the table")
    if (sampled_by := table.metadata.get("model")) != policy:
        notes.append(f"the table's policy is {sampled_by!r}" if sampled_by else "the table does not say its policy")
    return notes


def _sampled_otherwise(table: Rollouts, shaping: Mapping[str, Any] | None) -> list[str]:
    if shaping is None:
        return ["the policy does not say what shapes its responses"]
    theirs = {name: value for name, value in table.metadata.get("sampling", {}).items() if name != "n"}
    if not theirs:
        return ["the table does not say what shaped its responses"]
    return [f"{name} is {other} there and {ours} here" for name, ours, other in differences(shaping, theirs)]
