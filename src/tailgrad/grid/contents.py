"""Names in a grid stand for contents: refuse to mix results whose policies or prompts only share the name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from tailgrad.grid.config import GridConfig
from tailgrad.grid.results import Row
from tailgrad.grid.trainings import Training
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


def policy_sha256(config: GridConfig, name: str) -> str:
    """Hash of a starting policy; of one of the hub its name there."""
    return _identity(config.locate(config.policies[name]))


def _identity(model: str) -> str:
    return model_sha256(model) or model


def _policy_hashes(config: GridConfig, name: str) -> set[str]:
    """What a row may call a starting policy: its identity, or in rows of old the hash of its weights' only file."""
    weights = Path(config.locate(config.policies[name])) / "model.safetensors"
    return {policy_sha256(config, name), *([file_sha256(weights)] if weights.is_file() else [])}


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
        ValueError: The table was sampled with other prompts, or with another starting policy.
    """
    metadata = read_metadata(table)
    start = metadata["reference_files"] or metadata["reference"]
    found = {"other prompts": metadata["dataset"]["sha256"], "another starting policy": start}
    now = {"other prompts": prompts_sha256, "another starting policy": _identity(policy)}
    for name, value in now.items():
        if found[name] != value:
            raise ValueError(
                f"{str(table)!r} was sampled with {name} ({found[name]} there, {value} now). "
                "Delete it, or give this grid another `work`."
            )


def check_trained(config: GridConfig, training: Training, model: str, reward: str | None = None) -> None:
    """Refuse a policy in `work` that was trained from, or on, something else than what has its name now.

    Args:
        config: The grid.
        training: The training.
        model: One of its checkpoints.
        reward: Hash of the reward of today; None where it is not known, or not looked at.

    Raises:
        ValueError: It began from another policy, or saw other prompts or another reward.
    """
    from tailgrad.training.same_run import RUN_RECORD

    record = Path(model) / RUN_RECORD
    then: dict[str, Any] = json.loads(record.read_text()) if record.is_file() else {}
    held_out = config.train.get("test_split_size") is not None  # what is left to train on has another hash
    of: dict[str, tuple[Any, Callable[[], str | None]]] = {
        "from another starting policy": (then.get("model"), lambda: policy_sha256(config, training.policy)),
        "on other prompts": (None if held_out else then.get("data"), lambda: train_sha256(config, training.prompts)),
        "on another reward": ((then.get("rewards") or [None])[0], lambda: reward),
    }
    for what, (theirs, now) in of.items():
        ours = None if theirs is None else now()
        if ours is not None and theirs != ours:
            raise ValueError(
                f"the policy in {model!r} was trained {what} of that name ({_shown(theirs)} there, {_shown(ours)} "
                "now). Delete the folder above it and the tables of its responses, and start the grid again."
            )


def _shown(identity: str) -> str:
    """A hash as far as a person compares it; a name as it is."""
    return f"sha256 {identity[:12]}" if re.fullmatch("[0-9a-f]{64}", identity) else repr(identity)


def _same(config: GridConfig, what: str, theirs: str | None, ours: set[str]) -> None:
    if theirs is not None and theirs not in ours:
        raise ValueError(
            f"results {str(config.results)!r} were made with another {what} of that name ({_shown(theirs)} there, "
            f"{_shown(min(ours))} now). Give the new one another name, or start another results table."
        )
