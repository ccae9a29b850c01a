"""What a function is, by content: its source, and the values that it carries."""

from __future__ import annotations

import dis
import functools
import hashlib
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from enum import Enum
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from tailgrad.identity import file_sha256, sha256_of

_FIXED = (bool, int, float, str, bytes, frozenset, PurePath, re.Pattern, Enum, functools.partial)
"""Types of values that cannot be state."""


def function_sha256(function: Callable[..., Any]) -> str | None:
    """Return the hash of a function: its name, the source of its module and the values that it carries.

    Those values are the arguments of a `functools.partial` and the attributes of an object: of JSON types, sets, bytes,
    paths, patterns, members of enums, arrays, tensors, dataclasses and functions; of all else, the weights of a model
    among it, the type. A function that was made by another one, and a lambda, are also known by their line, their
    defaults, and what they have from around them: numbers, strings, tuples of these, functions and others that cannot
    change, but not what they count up there, nor lists and the like, which may be state. What the module imports is not
    looked at. An object that knows better has an attribute `content_sha256`, which is None where nobody can know.

    Args:
        function: A function, a method, a partial, an object that can be called, or a class.

    Returns:
        64 hexadecimal digits, None where there is no source.
    """
    if getattr(function, "content_sha256", "") is None:
        return None
    source = _source_sha256(_code_of(function))
    if source is not None and inspect.isclass(function):
        return sha256_of([function.__qualname__, source])
    known = hasattr(function, "content_sha256") or source is not None
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
    if (parts := _parts(value)) is not None:
        return _described(parts, around)
    code = _code_of(value)
    if not callable(value) or inspect.isclass(value):
        return f"{code.__module__}.{code.__qualname__}"
    own = getattr(value, "content_sha256", None)
    return own or {
        "name": code.__qualname__,
        "source": _source_sha256(code),
        "values": _described(_values(value), around),
        **({"made": _described(_made_with(code), around)} if _is_made(code) else {}),
    }


def _parts(value: Any) -> Any:
    """What a value that is no function consists of; None where only its type is known."""
    if isinstance(value, bytes):
        return [hashlib.sha256(value).hexdigest()]
    if isinstance(value, PurePath):
        return [str(value)]
    if isinstance(value, re.Pattern):
        return [value.pattern, value.flags]
    if isinstance(value, np.ma.MaskedArray):
        return [np.asarray(value.data), np.ma.getmaskarray(value)]
    if (numbers := _numbers(value)) is not None:
        return [str(value.dtype), list(value.shape), hashlib.sha256(numbers.data).hexdigest()]
    if isinstance(value, Enum) and not callable(value):
        return [type(value).__qualname__, value.name, value.value]
    if is_dataclass(value) and not callable(value):
        return {"name": type(value).__qualname__, "values": _values(value)}
    return None


def _numbers(value: Any) -> np.ndarray | None:
    """An array, or the bytes of a plain tensor; None for all else, of which no more than the type is known."""
    torch = sys.modules.get("torch")
    if torch is not None and type(value) is torch.Tensor:
        odd = value.requires_grad or value.is_meta or value.is_nested or value.is_quantized
        plain = value.layout is torch.strided and not odd
        whole = value.detach().resolve_conj().resolve_neg().cpu().contiguous() if plain else None
        return None if whole is None else whole.reshape(-1).view(torch.uint8).numpy()
    is_array = isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject
    return np.array(value).reshape(-1).view(np.uint8) if is_array else None


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
    return value if _is_fixed(value) else type(value).__qualname__


def _is_fixed(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_fixed, value))
    return isinstance(value, _FIXED) or inspect.isroutine(value)


def _values(function: Any) -> Any:
    """What a function or an object carries; not the weights of a model, of which there are too many to look at."""
    if isinstance(function, functools.partial):
        return [function.func, function.args, function.keywords]
    carrier = function.__self__ if inspect.ismethod(function) else function
    own = {name: getattr(carrier, name) for name in _slots(type(carrier)) if hasattr(carrier, name)}
    own |= dict(getattr(carrier, "__dict__", {}))
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(carrier, torch.nn.Module):
        return {name: value for name, value in own.items() if name not in ("_parameters", "_buffers")}
    return own


def _slots(kind: type) -> list[str]:
    """The attributes of an object that stand in slots, as Python calls them: `__name` has its class before it."""
    names = []
    for owner in kind.__mro__:
        given = owner.__dict__.get("__slots__", ())
        for name in (given,) if isinstance(given, str) else given:
            is_private = name.startswith("__") and not name.endswith("__")
            names.append(f"_{owner.__name__.lstrip('_')}{name}" if is_private else name)
    return [name for name in names if name not in ("__dict__", "__weakref__")]


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
