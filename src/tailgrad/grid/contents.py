"""Names in a grid stand for contents: refuse to mix results whose policies or prompts only share the name."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from tailgrad.grid.config import GridConfig
from tailgrad.grid.results import Row
from tailgrad.identity import file_sha256, model_sha256
from tailgrad.rollouts.prompts import Prompts, load_prompts
from tailgrad.rollouts.table import read_metadata

_DATA_OPTIONS = {"split": "dataset_split", "config": "dataset_config", "prompt_column": "prompt_column"}
_TRAIN_OPTIONS = _DATA_OPTIONS | {"split": "dataset_train_split"}


def prompts_of(config: GridConfig, name: str, split: str, limit: int | None) -> Prompts:
    """The prompts of one part of a prompt set, as `tailgrad sample` reads them."""
    named = {ours: config.sample[theirs] for ours, theirs in _DATA_OPTIONS.items() if theirs in config.sample}
    return load_prompts(config.locate(config.prompts[name][split]), limit=limit, **named)


def train_sha256(config: GridConfig, name: str) -> str:
    """Hash of the prompts that a prompt set trains on, before any are held out."""
    named = {ours: config.train[theirs] for ours, theirs in _TRAIN_OPTIONS.items() if theirs in config.train}
    return load_prompts(config.locate(config.prompts[name]["train"]), **({"split": "train"} | named)).sha256


def policy_sha256(config: GridConfig, name: str) -> str | None:
    """Hash of a starting policy; None for one of the hub."""
    return model_sha256(config.locate(config.policies[name]))


def _policy_hashes(config: GridConfig, name: str) -> set[str]:
    """What a row may call a starting policy: its hash, or in rows of old that of its weights' only file."""
    weights = Path(config.locate(config.policies[name])) / "model.safetensors"
    hashes = (policy_sha256(config, name), file_sha256(weights) if weights.is_file() else None)
    return {value for value in hashes if value is not None}


def check_contents(config: GridConfig, rows: Iterable[Row]) -> None:
    """Refuse to add to results that were made with other policies or prompts of the same names.

    Args:
        config: The grid.
        rows: Its results so far; rows of other policies and prompt sets are passed over.

    Raises:
        ValueError: A policy's weights or a prompt set's contents are not those of a row.
    """
    policy = cache(lambda name: _policy_hashes(config, name))
    prompts = cache(lambda *part: prompts_of(config, *part).sha256)
    train = cache(lambda name: train_sha256(config, name))
    for row in rows:
        if row["policy"] in config.policies:
            _same(config, f"policy {row['policy']!r}", row["policy_sha256"], policy(row["policy"]))
        if row["prompts"] in config.prompts:
            ours = prompts(row["prompts"], row["split"], row["limit"])
            _same(config, f"{row['split']} prompts of {row['prompts']!r}", row["prompts_sha256"], {ours})
            if row["train_sha256"] is not None:
                _same(config, f"train prompts of {row['prompts']!r}", row["train_sha256"], {train(row["prompts"])})


def reward_sha256(table: Path) -> str | None:
    """Hash of the reward that scored a rollout table; None where the table does not know it."""
    hashes: list[str | None] = read_metadata(table).get("reward_files") or [None]
    return hashes[0]


def check_table(table: Path, *, prompts_sha256: str, policy: str) -> None:
    """Refuse a finished rollout table in `work` that was sampled with other contents.

    Args:
        table: The rollout table.
        prompts_sha256: Hash of the prompts now.
        policy: The starting policy, which `tailgrad sample` takes as the reference policy.

    Raises:
        ValueError: The table was sampled with other prompts, or before the starting policy's files changed.
    """
    metadata = read_metadata(table)
    found = {"other prompts": metadata["dataset"]["sha256"], "another starting policy": metadata["reference_files"]}
    now = {"other prompts": prompts_sha256, "another starting policy": model_sha256(policy)}
    for name, value in now.items():
        if found[name] != value:
            raise ValueError(
                f"{str(table)!r} was sampled with {name} ({found[name]} there, {value} now). "
                "Delete it, or give this grid another `work`."
            )


def check_reward(model: str, table: Path) -> None:
    """Refuse a policy in `work` that was trained on another function than the one of that name that scored its table.

    Args:
        model: A checkpoint of the training.
        table: The rollout table of its responses, scored by the reward trained on.

    Raises:
        ValueError: The function's source was another one when the policy was trained.
    """
    from tailgrad.training.same_run import RUN_RECORD

    record, ours = Path(model) / RUN_RECORD, reward_sha256(table)
    trained_on = json.loads(record.read_text())["rewards"][0] if record.is_file() else None
    if ours is not None and trained_on is not None and trained_on != ours:
        raise ValueError(
            f"the policy in {model!r} was trained on another reward of that name (sha256 {trained_on[:12]} there, "
            f"{ours[:12]} in {str(table)!r}). Delete the folder above it and the table, and start the grid again."
        )


def _same(config: GridConfig, what: str, theirs: str | None, ours: set[str]) -> None:
    if theirs is not None and ours and theirs not in ours:
        raise ValueError(
            f"results {str(config.results)!r} were made with another {what} of that name (sha256 {theirs[:12]} there, "
            f"{min(ours)[:12]} now). Give the new one another name, or start another results table."
        )
