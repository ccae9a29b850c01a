"""A grid from a YAML file, in which names are taken as they are written: no, 2024 and 1e3 are names like any other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from tailgrad.files import expanded
from tailgrad.grid.config import GridConfig
from tailgrad.options import NOT_YAML

_OF_NAMES: Final = (*("results", "work", "policies", "rewards", "prompts", "estimators", "also_score", "reference"),)
"""Keys below which everything is text, whatever YAML would read it as."""
_ALLOWED: Final = {
    "string_type": "a text",
    "string_pattern_mismatch": "a text that is not empty",
    "tuple_type": "a list",
    "dict_type": "a mapping, such as {name: value}",
    "too_short": "a list or mapping that is not empty",
    "too_long": "a pair [m, N]",
    "missing": "a pair [m, N]",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "invalid-json-value": "text, a number, true or false, or a list or mapping of these",
}
"""What a value must be, by pydantic's name for the error; of numbers out of range pydantic says it well."""
_OF_OLD: Final = {
    "budgets": "m_and_n",
    "kl_weights": "betas",
    "choose_kl_weight": "choose_beta",
    "test_prompts": "test_limit",
    "prompts_a_step": "prompts_per_step",
}
"""What keys were called in version 0.1."""
_TEXT: Final = "tag:yaml.org,2002:str"
_NULL: Final = "tag:yaml.org,2002:null"
_MERGE: Final = "tag:yaml.org,2002:merge"
_DATE: Final = "tag:yaml.org,2002:timestamp"


def read_grid(path: str | Path, **changes: Any) -> GridConfig:
    """Read a grid from a YAML file.

    Args:
        path: The file; its keys are the attributes of `GridConfig`.
        **changes: Attributes in the place of the file's; one that is None leaves the file's.

    Returns:
        The grid.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a mapping, lacks a key, has an unknown one or one twice, or a value out of range.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"grid {str(path)!r}: there is no such file.")
    given = _read_yaml(path)
    known = {entry.name: entry for entry in fields(GridConfig) if entry.name != "folder"}
    for name in given:
        if name not in known:
            meant = [_OF_OLD[name]] if name in _OF_OLD else get_close_matches(str(name), known, n=1)
            hint = f"did you mean {meant[0]!r}?" if meant else f"known are {', '.join(known)}."
            raise ValueError(f"grid {str(path)!r} has the unknown key {name!r}; {hint}")
    for name, entry in known.items():
        if entry.default is MISSING and entry.default_factory is MISSING and name not in given:
            raise ValueError(f"grid {str(path)!r} lacks the key {name!r}.")
    values = {name: _frozen(value) for name, value in given.items()}
    for name in ("results", "work"):
        if not isinstance(values[name], str) or not values[name].strip():
            raise ValueError(f"{name} is {values[name]!r}; it must name a file or folder.")
        values[name] = path.parent / expanded(values[name])
    for name in ("learning_rates", "betas"):  # YAML reads 1e-3 as text
        if isinstance(values.get(name), tuple):
            values[name] = tuple(_number(value) for value in values[name])
    values |= {name: value for name, value in changes.items() if value is not None}
    try:
        return GridConfig(**values, folder=path.parent)
    except ValidationError as error:
        raise ValueError(_in_a_line(error)) from None


def _in_a_line(error: ValidationError) -> str:
    """The value that is wrong, its place in the file and what is allowed there."""
    first = max(error.errors(), key=lambda one: len(one["loc"]))  # of several kinds, the one that came furthest
    keys = [part for part in first["loc"] if not str(part).startswith(("tuple[", "dict[", "function-"))]
    where = "".join(f"[{part!r}]" if place else str(part) for place, part in enumerate(keys)).replace("['[key]']", "")
    if first["type"] == "value_error":
        return f"{where} {first['ctx']['error']}".strip()
    allowed = _ALLOWED.get(first["type"], first["msg"].removeprefix("Input should be "))
    return f"{where} is {repr(first['input'])[:60]}; it must be {allowed}."


def _read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds; no key of it, at any depth, may stand there twice."""
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        root = loader.get_single_node()
        if isinstance(root, yaml.MappingNode):
            for key, value in _entries(root):
                _take_as_written(value, names=key in _OF_NAMES, around=(root,))
        given = loader.construct_document(root) if root is not None else None
    except _UnusableError as error:
        raise ValueError(f"grid {str(path)!r} {error}") from error
    except (yaml.YAMLError, *NOT_YAML) as error:
        raise ValueError(f"grid {str(path)!r} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(given, Mapping):
        raise ValueError(f"grid {str(path)!r} is not a mapping of keys to values.")
    return dict(given)


class _UnusableError(Exception):
    """YAML that says something a grid cannot use."""


def _entries(node: yaml.MappingNode) -> list[tuple[str, yaml.Node]]:
    """The keys of a mapping, all of them made texts, with their values."""
    found: dict[str, yaml.Node] = {}
    merged = []
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise _UnusableError(f"has a list or a mapping in the place of a key (line {line}).")
        if key.tag == _MERGE:
            merged.append((key.value, value))
            continue
        if key.value in found:
            raise _UnusableError(f"has the key {key.value!r} twice (line {line}).")
        key.tag = _TEXT
        found[key.value] = value
    return [*found.items(), *merged]


def _take_as_written(node: yaml.Node, *, names: bool, around: tuple[yaml.Node, ...]) -> None:
    """Make every key below a node a text, and dates too; with `names` every value but null."""
    if any(node is other for other in around):
        raise _UnusableError(f"has a value that contains itself (line {node.start_mark.line + 1}).")
    if isinstance(node, yaml.ScalarNode) and (node.tag == _DATE or (names and node.tag != _NULL)):
        node.tag = _TEXT
    below = node.value if isinstance(node, yaml.SequenceNode) else []
    if isinstance(node, yaml.MappingNode):
        below = [value for _, value in _entries(node)]
    for child in below:
        _take_as_written(child, names=names, around=(*around, node))


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def _number(value: Any) -> Any:
    """A text that is a number as that number; anything else as it is, for the checks to name."""
    try:
        return float(value) if not isinstance(value, bool) else value
    except (TypeError, ValueError, OverflowError):
        return value
