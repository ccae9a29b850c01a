"""What something is, by content: neither names, nor folders, nor times of change, but all that decides a number."""

from __future__ import annotations

import hashlib
import json
import time
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import Any

from tailgrad.files import expanded

_ADAPTER_CONFIG, _BASE = "adapter_config.json", "base_model_name_or_path"
_DECIDE = (
    *("*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json"),
    *("config.json", "generation_config.json", _ADAPTER_CONFIG, "*processor_config.json", "*.py"),
    *("tokenizer*", "vocab*", "merges*", "*.model", "*.tiktoken", "tekken*.json"),
    *("special_tokens_map.json", "added_tokens.json"),
    *("chat_template*", "additional_chat_templates/*.jinja"),
)
"""Files of a saved model that decide a number: weights, configs, code, tokenizer and chat templates."""

_TRAINER_STATE = ("training_args.bin", "optimizer*.bin", "scheduler*.bin")
"""What a trainer keeps beside the weights under names that look like them."""

_SAVED_BY = (
    *("_name_or_path", "name_or_path", "is_local", "local_files_only"),
    *("transformers_version", "peft_version"),
)
"""Keys of a config that say from where, whether offline, and by what it was saved."""

_SETTLED = 2e9
"""Nanoseconds after which a file's time of change tells the next change from this one."""


def sha256_of(value: Any) -> str:
    """Return the hash of a value of JSON types; the order of a dictionary's keys does not matter.

    Args:
        value: Dictionaries, lists, strings, numbers, booleans and None.

    Returns:
        64 hexadecimal digits.

    Examples:
        >>> sha256_of({"a": 1, "b": [2.5]}) == sha256_of({"b": [2.5], "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def file_sha256(path: str | Path) -> str:
    """Return the hash of a file's content; a file that has not changed is read once in a process.

    Args:
        path: The file.

    Returns:
        64 hexadecimal digits.
    """
    resolved = expanded(path).resolve()
    stat = resolved.stat()
    changed = (stat.st_mtime_ns, stat.st_ctime_ns)
    if time.time_ns() - max(changed) < _SETTLED:
        return _content_sha256.__wrapped__(resolved)
    return _content_sha256(resolved, stat.st_ino, stat.st_size, *changed)


@lru_cache(maxsize=4096)
def _content_sha256(path: Path, *state: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_sha256(name: str | Path) -> str | None:
    """Return the hash of a local model: of all that decides a number, and of nothing else.

    That is weights, `config.json`, `generation_config.json`, code, tokenizer and chat templates; of an adapter also its
    base model, where that is local. A README, records and state of a training, times of change and the folder's name
    have no part in it.

    Args:
        name: Local folder or hub name.

    Returns:
        64 hexadecimal digits, None for a hub name.
    """
    folder = expanded(name)
    if not folder.is_dir():
        return None
    files = _files(folder)
    adapter = _as_peft_means(_json_of(folder / _ADAPTER_CONFIG) or {})
    base = adapter.get(_BASE)
    if base and expanded(base).is_dir():
        files[_ADAPTER_CONFIG] = _config_sha256(adapter | {_BASE: _files(expanded(base))})
    return sha256_of(files)


def _files(folder: Path) -> dict[str, str]:
    """The hash of each file of a model that decides a number, by its place in the folder."""
    files = {path for pattern in _DECIDE for path in folder.glob(pattern) if path.is_file()}
    kept = [path for path in files if not any(fnmatch(path.name, state) for state in _TRAINER_STATE)]
    return {path.relative_to(folder).as_posix(): _file_of_model_sha256(path) for path in kept}


def _file_of_model_sha256(path: Path) -> str:
    config = _json_of(path) if path.name.endswith("config.json") else None
    if config is None:
        return file_sha256(path)
    return _config_sha256(_as_peft_means(config) if path.name == _ADAPTER_CONFIG else config)


def _as_peft_means(adapter: dict[str, Any]) -> dict[str, Any]:
    """An adapter's config with its lists of names sorted: for PEFT they are sets, written in any order."""
    lists = {
        name: sorted(value)
        for name, value in adapter.items()
        if isinstance(value, list) and all(isinstance(one, str) for one in value)
    }
    return adapter | lists


def _config_sha256(config: dict[str, Any]) -> str:
    return sha256_of({name: value for name, value in config.items() if name not in _SAVED_BY})


def _json_of(path: Path) -> dict[str, Any] | None:
    """What stands in a JSON file; None where there is nothing sound: whoever loads the model says so."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
