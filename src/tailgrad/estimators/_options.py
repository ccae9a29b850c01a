"""The kind of value that an option takes, by its annotation: written as text, or given in Python."""

from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin


def read(text: str, annotation: Any) -> Any:
    """A value that is written on a command line: a whole number, a number, true, false or a word; lists with +."""
    if any(get_origin(kind) is Sequence for kind in _kinds(annotation)):
        return [_as_number(_read_one(item.strip())) for item in text.split("+")]
    value = _read_one(text)
    return _as_number(value) if annotation is float else value


def written(value: Any) -> str:
    """A value as `read` takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Iterable) and not isinstance(value, str):
        return "+".join(written(item) for item in value)
    short = f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
    return short.replace("e+", "e") if isinstance(value, float) else short  # a plus parts the items of a list


def _as_number(value: Any) -> Any:
    """The value as a float where it is a number."""
    return float(value) if fits(value, float) else value


def _read_one(text: str) -> Any:
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            pass
    return {"true": True, "false": False}.get(text.lower(), text)


def fits(value: Any, annotation: Any) -> bool:
    """Whether the value is of the annotation's kind; a word out of several is checked by the estimator."""
    return any(_is(value, kind) for kind in _kinds(annotation))


def _is(value: Any, kind: Any) -> bool:
    if get_origin(kind) is Sequence:
        return (
            isinstance(value, Iterable) and not isinstance(value, str) and all(_is(v, *get_args(kind)) for v in value)
        )
    if get_origin(kind) is Literal:
        return isinstance(value, str)
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    return isinstance(value, kind) if isinstance(kind, type) else True


def described(annotation: Any) -> str:
    """The annotation in words, for an error."""
    names: dict[str, None] = {}
    for kind in _kinds(annotation):
        if get_origin(kind) is Sequence:
            names["list of numbers, written as 0.5+4"] = None
        elif kind is not NoneType:
            own = {float: ("int", "float")}.get(kind, ("str",) if get_origin(kind) is Literal else (kind.__name__,))
            names.update(dict.fromkeys(own))
    return " or ".join(names)


def _kinds(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
