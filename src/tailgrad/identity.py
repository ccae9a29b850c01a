"""What something is, by content: neither names, nor folders, nor times of change, but all that decides a number."""

from __future__ import annotations

import dis
import functools
import hashlib
import inspect
import json
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from enum import Enum
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any

import numpy as np

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

_FIXED = (bool, int, float, str, bytes, frozenset, PurePath, re.Pattern, Enum, functools.partial)
"""Types of values that cannot be state."""

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


def function_sha256(function: Callable[..., Any]) -> str | None:
    """Return the hash of a function: its name, the source of its module and the values that it carries.

    Those values are the arguments of a `functools.partial` and the attributes of an object: of JSON types, sets, bytes,
    paths, patterns, arrays, tensors, dataclasses and functions; of all else the type. A function that was made by
    another one, and a lambda, are also known by their line, their defaults, and what they have from around them:
    numbers, strings, functions and others that cannot change, but not what they count up there, nor lists and the like,
    which may be state. What the module imports is not looked at. An object that knows better has an attribute
    `content_sha256`, which is None where nobody can know.

    Args:
        function: A function, a method, a partial or an object that can be called.

    Returns:
        64 hexadecimal digits, None where there is no source.
    """
    if getattr(function, "content_sha256", "") is None:
        return None
    known = hasattr(function, "content_sha256") or _source_sha256(_code_of(function)) is not None
    return sha256_of(_described(function, ())) if known else None


def _described(value: Any, around: tuple[int, ...]) -> Any:
    """A value in JSON types; `around` are the objects that it stands in."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if id(value) in around:
        return "itself"
    around = (*around, id(value))
    if isinstance(value, list | tuple):
        return [_described(one, around) for one in value]
    if isinstance(value, set | frozenset):
        return sorted((_described(one, around) for one in value), key=sha256_of)
    if isinstance(value, Mapping):
        return {str(key): _described(one, around) for key, one in value.items()}
    if isinstance(value, bytes | PurePath | re.Pattern | Enum):
        return repr(value)
    if (numbers := _numbers(value)) is not None:
        return [str(value.dtype), list(value.shape), hashlib.sha256(numbers.tobytes()).hexdigest()]
    code = _code_of(value)
    if is_dataclass(value) and not callable(value):
        return {"name": f"{code.__module__}.{code.__qualname__}", "values": _described(_values(value), around)}
    if not callable(value) or inspect.isclass(value):
        return f"{code.__module__}.{code.__qualname__}"
    own = getattr(value, "content_sha256", None)
    return own or {
        "name": code.__qualname__,
        "source": _source_sha256(code),
        "values": _described(_values(value), around),
        **({"made": _described(_made_with(code), around)} if _is_made(code) else {}),
    }


def _numbers(value: Any) -> np.ndarray | None:
    """An array, or the bytes of a tensor that is not trained: a model's weights are too many to look at. Else None."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        plain = value.layout is torch.strided and not (value.requires_grad or value.is_meta)
        return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy() if plain else None
    is_array = isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject
    return np.asarray(value) if is_array else None


def _is_made(code: Any) -> bool:
    """Whether several functions may have this name in one file: lambdas, and what a function makes.

    The code knows where it stands also where `functools.wraps` has given the function another name.
    """
    return inspect.isfunction(code) and "<" in code.__code__.co_qualname


def _made_with(function: Any) -> list[Any]:
    """What tells a function from others of its name: its line, its defaults and what it has from around it."""
    cells = _cells(function)
    makers = [one for one in map(_content, cells.values()) if inspect.isfunction(one)]
    counted = {id(cell) for one in (function, *makers) for cell in _counted(one)}
    kept = {name: _fixed(_content(cell)) for name, cell in cells.items() if id(cell) not in counted}
    return [function.__code__.co_firstlineno, function.__defaults__, function.__kwdefaults__, kept]


def _cells(function: Any) -> dict[str, Any]:
    return dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))


def _counted(function: Any) -> list[Any]:
    """The cells that a function writes to (`nonlocal`): its state."""
    written = {step.argval for step in dis.get_instructions(function) if step.opname == "STORE_DEREF"}
    return [cell for name, cell in _cells(function).items() if name in written]


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing is in it yet
        return None


def _fixed(value: Any) -> Any:
    """A value that cannot be state; of all else its type."""
    value = value.__func__ if inspect.ismethod(value) else value  # what its object holds may be state
    known = isinstance(value, _FIXED) or inspect.isroutine(value)
    return value if known else type(value).__qualname__


def _values(function: Any) -> Any:
    """What a function carries beside its source."""
    if isinstance(function, functools.partial):
        return [function.func, function.args, function.keywords]
    carrier = function.__self__ if inspect.ismethod(function) else function
    slots = [name for kind in type(carrier).__mro__ for name in _names(kind.__dict__.get("__slots__", ()))]
    own = {name: getattr(carrier, name) for name in slots if name != "__dict__" and hasattr(carrier, name)}
    return own | dict(getattr(carrier, "__dict__", {}))


def _names(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _code_of(value: Any) -> Any:
    """The function or class whose source decides what a value does."""
    while isinstance(value, functools.partial):
        value = value.func
    if inspect.ismethod(value):
        return value.__func__
    return value if inspect.isroutine(value) or inspect.isclass(value) else type(value)


def _source_sha256(code: Any) -> str | None:
    """The hash of the module's file, or of the source alone where it was typed in; None where there is neither."""
    try:
        path = inspect.getsourcefile(code)
        return file_sha256(path) if path and Path(path).is_file() else sha256_of(inspect.getsource(code))
    except (OSError, TypeError):
        return None
