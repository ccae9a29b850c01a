"""What decides a training, written into its checkpoints and compared when one is resumed."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from datasets import Dataset

from tailgrad.estimators import ESTIMATORS, parse_estimator, spell_estimator
from tailgrad.function_identity import function_sha256
from tailgrad.identity import model_sha256
from tailgrad.rewards.checks import AsyncCheckedReward, CheckedReward
from tailgrad.rewards.reward import reward_name
from tailgrad.rollouts.data_sets import content_sha256
from tailgrad.training.record import rollouts_per_step

logger = logging.getLogger(__name__)

RUN_RECORD: Final = "tailgrad_run.json"
"""Written into every checkpoint: what decides the run."""

_FREE_PREFIXES: Final = (
    "log_",
    "logging_",
    "save_",
    "hub_",
    "push_",
    "trackio_",
    "dataloader_",
    "ddp_",
    "vllm_server_",
    "do_",
)
_FREE: Final = {
    *("output_dir", "run_name", "project", "report_to", "disable_tqdm", "num_completions_to_print", "debug"),
    *("resume_from_checkpoint", "restore_callback_states_from_checkpoint", "enable_jit_checkpoint"),
    *("local_rank", "use_cpu", "torch_empty_cache_steps", "skip_memory_metrics", "vllm_gpu_memory_utilization"),
    *("activation_checkpointing", "activation_checkpointing_kwargs"),
    *("gradient_checkpointing", "gradient_checkpointing_kwargs", "include_num_input_tokens_seen"),
    "reward_timeout",
}
"""Options that may change when a training is resumed: what is logged and saved, and where it runs."""

_SAID: Final = {
    *("per_device_train_batch_size", "gradient_accumulation_steps", "steps_per_generation"),
    *("max_steps", "num_train_epochs"),
    *(
        "eval_strategy",
        "eval_steps",
        "eval_delay",
        "eval_on_start",
        "num_generations_eval",
        "per_device_eval_batch_size",
    ),
}
"""Options that a resumed training may change, though it then ends in other weights than one that was not interrupted:
the rollouts of a step are divided otherwise (their number decides a run), which rounds otherwise; the learning rate
falls along another schedule; an evaluation draws from the same random numbers."""

_GONE: Final[dict[str, dict[str, Any]]] = {
    "tea": {"ddof": 0},
    "prefix_tea": {"ddof": 0, "prefix_sizes": None, "cyclic_shifts": True, "center": False},
    "qae": {"eps": 1e-4},
    "bon_rl": {"binary": None},
    "cat_bon": {"normalize": True},
}
"""Options that estimators had in 0.1, with their defaults: a training with any other value is none of today's."""
_OF_ANY_ADAPTER: Final = ("base_model_name_or_path", "peft_version")
"""What an adapter's options say of its surroundings; the policy is compared by its content."""

_OF_OLD: Final = {"rollouts_a_step": "rollouts_per_step"}
"""What the record's keys were called in 0.1."""


def run_record(
    args: Any,
    *,
    model: str,
    rewards: list[Any],
    dataset: Any,
    adapter: Mapping[str, Any] | None,
    quantization: Mapping[str, Any] | None = None,
    called: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return all that decides a training.

    Args:
        args: The configuration.
        model: Folder or hub name of the policy it starts from.
        rewards: The reward functions, models or names of models.
        dataset: The prompts.
        adapter: The options of a PEFT adapter, None without one.
        quantization: The options of the policy's quantization, None without one.
        called: By name what a training calls beside its rewards: a function or a class, several in a list or by name,
            or None.

    Returns:
        A dictionary of JSON types: "data", "model", "rewards" and "called" by content, "adapter", "quantization",
        "processes", "rollouts_per_step" and "options".
    """
    options = {
        name: value
        for name, value in args.to_dict().items()
        if name not in _FREE and not name.startswith(_FREE_PREFIXES)
    }
    is_table = isinstance(dataset, Dataset) and "prompt" in dataset.column_names
    record = {
        "data": content_sha256(dataset) if is_table else None,
        "model": _model(model),
        "rewards": [_identity_of(reward) for reward in rewards],
        "called": {name: _identities_of(value) for name, value in (called or {}).items()},
        "adapter": _without(adapter, *_OF_ANY_ADAPTER),
        "quantization": _without(quantization),
        "processes": args.world_size,
        "rollouts_per_step": rollouts_per_step(args),
        "options": options | {"estimator": spell_estimator(*parse_estimator(args.estimator))},
    }
    found: dict[str, Any] = json.loads(json.dumps(record, default=_plain))
    return found


def check_same_run(checkpoint: Path, now: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of another run; say what else has changed.

    Args:
        checkpoint: The checkpoint to resume.
        now: The record of the training that resumes it.

    Raises:
        ValueError: Data, model, rewards or options that decide the run are not those of the checkpoint.
    """
    path = checkpoint / RUN_RECORD
    if not path.is_file():
        logger.warning("%s does not say what decided its run: give the same data and options.", checkpoint)
        return
    another, changed = differences(json.loads(path.read_text()), now)
    if another:
        raise ValueError(
            f"{checkpoint} is of another run: {'; '.join(another)}. Give what it was made with, or start anew in "
            f"another --output_dir; to keep its weights, give --model_name_or_path {checkpoint}."
        )
    if changed:
        logger.warning(
            "The training goes on with other options, and will not end as one that was not interrupted: %s.",
            "; ".join(changed),
        )


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Compare the record of a checkpoint with that of the training that resumes it.

    Args:
        then: The checkpoint's.
        now: This training's.

    Returns:
        What makes it another run, and what may change though it changes the end; one phrase each.

    Examples:
        >>> then = {"data": "a", "options": {"learning_rate": 1e-6, "max_steps": 10}}
        >>> differences(then, {"data": "b", "options": {"learning_rate": 2e-6, "max_steps": 20}})
        (['other data', 'learning_rate was 1e-06, is 2e-06'], ['max_steps was 10, is 20'])
    """
    then = {_OF_OLD.get(key, key): value for key, value in then.items()}
    named = {"data": "other data", "model": "another policy to start from", "rewards": "other rewards"}
    another = [words for key, words in named.items() if _differ(then, now, key)]
    for key in ("called", "adapter", "quantization"):
        another += _parts_that_differ(key, then, now)
    plain = [key for key in ("processes", "rollouts_per_step") if _differ(then, now, key)]
    another += [f"{key} was {then[key]}, is {now[key]}" for key in plain]
    old, new = _spelled(then.get("options", {})), now.get("options", {})
    changed = {name: f"{name} was {old[name]}, is {new[name]}" for name in new if _differ(old, new, name)}
    another += [words for name, words in changed.items() if name not in _SAID]
    return another, [words for name, words in changed.items() if name in _SAID]


def _spelled(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with the estimator in a word; 0.1 wrote its options beside it, those left alone as None."""
    name, _, given = str(options.get("estimator")).partition(":")
    gone = _GONE.get(name, {})
    if given or name not in ESTIMATORS:
        plain = {spell_estimator("", {option: value}).removeprefix(":") for option, value in gone.items()}
        kept = ",".join(word for word in given.split(",") if word not in plain)
        return dict(options) | {"estimator": f"{name}:{kept}" if kept else name}
    own = {option: options.get(option) for option in ESTIMATORS[name].options if option != "deploy_n"}
    beside = {option: options.get(option) for option in gone}
    own |= {option: value for option, value in beside.items() if value not in (None, gone[option])}
    if name == "max_at_k" and own["baseline"] is None:
        own["baseline"] = "subset"  # the default of 0.1
    return dict(options) | {"estimator": spell_estimator(name, own)}


def _differ(then: Mapping[str, Any], now: Mapping[str, Any], key: str) -> bool:
    """Whether both know `key`, and not the same of it; a new version's new option says nothing of an old run."""
    known = key in then and key in now and not (key == "data" and None in (then[key], now[key]))
    return known and bool(then[key] != now[key])


def _parts_that_differ(key: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs of a thing that has parts; a part that one of the two does not know says nothing."""
    if not _differ(then, now, key):
        return []
    old, new = then[key], now[key]
    if key == "called":
        return [f"another {name}" for name in new if _differ(old, new, name)]
    if old is None or new is None:
        return [f"{key} was {old}, is {new}"]
    old = _without(old, *_OF_ANY_ADAPTER) or {}  # before these were left out
    return [f"{key} had {name} {old[name]}, has {new[name]}" for name in new if _differ(old, new, name)]


def _without(options: Mapping[str, Any] | None, *names: str) -> dict[str, Any] | None:
    """Options but for some; None where there are none."""
    return {name: value for name, value in (options or {}).items() if name not in names} or None


def _identities_of(called: Any) -> Any:
    """What is called, by content; None for nothing."""
    if isinstance(called, list | tuple):
        return [_identities_of(one) for one in called]
    if isinstance(called, Mapping):
        return {str(name): _identities_of(one) for name, one in called.items()}
    return None if called is None else _identity_of(called)


def _identity_of(reward: Any) -> str:
    if isinstance(reward, CheckedReward | AsyncCheckedReward):
        reward = reward.reward
    if isinstance(reward, str):
        return _model(reward)
    if isinstance(reward, torch.nn.Module):
        return _model(str(getattr(getattr(reward, "config", None), "_name_or_path", type(reward).__name__)))
    return function_sha256(reward) or getattr(reward, "reading_sha256", None) or reward_name(reward)


def _model(name: str) -> str:
    """A model's content, or its name where it is of the hub; one that was never saved has none."""
    return (model_sha256(name) if name else None) or name


def _plain(value: Any) -> Any:
    """A value that JSON does not know: a set sorted, bytes as their hash, anything else as text."""
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else re.sub(" at 0x[0-9a-f]+", "", str(value))
