"""Options of a command, from the fields of a dataclass: one parser, beneath it a YAML file, and errors in a line."""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

from tailgrad.option_names import Explain, check_words, file_of, hint_for, no_more, split_equals

Config = TypeVar("Config")


NOT_YAML: Final = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What else than its own errors the library of YAML raises, such as of `!!bool maybe` and `!!timestamp soon`."""


def option(default: Any = MISSING, text: str = "", **metadata: Any) -> Any:
    """A dataclass field that is an option of a command.

    Args:
        default: Its default; without one it must be given. A list, dict or set stands for a copy of it.
        text: Its help, as in the metadata that TRL's and transformers' parsers read.
        **metadata: `group`, the heading it stands under in `--help`; `choices`; `metavar`; `positional`, true for what
            is given without a name.

    Returns:
        The field.
    """
    metadata = {"help": text, **metadata}
    if isinstance(default, list | dict | set):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata) if default is not MISSING else field(metadata=metadata)


def check_least(least: int, **given: int | None) -> None:
    """Refuse options that are too small, by their names.

    Args:
        least: What they must be, or more.
        **given: Options; None is not given.

    Raises:
        ValueError: One is smaller.
    """
    for name, value in given.items():
        if value is not None and value < least:
            raise ValueError(f"--{name} is {value}; it must be {least} or more.")


def same_option(config: type, name: str, group: str | None = None) -> Any:
    """A dataclass field that is the same option as that of another configuration, but for the heading it stands under.

    Args:
        config: The dataclass that has the option.
        name: The option.
        group: The heading.

    Returns:
        The field.
    """
    entry = next(one for one in fields(config) if one.name == name)
    how = {key: value for key, value in entry.metadata.items() if key not in ("help", "group")}
    default = entry.default if entry.default_factory is MISSING else entry.default_factory()
    return option(default, entry.metadata["help"], **how, **({} if group is None else {"group": group}))


class OptionParser(argparse.ArgumentParser, Generic[Config]):
    """The parser of one command: an option for every field of a dataclass, and `--config` for a YAML file of them.

    Args:
        command: Name of the command.
        description: What it does, for `--help`.
        config: The dataclass; its fields are made by `option`.
        takes_file: Whether the command reads a YAML file of its options: not where `--config` is one of them.
    """

    def __init__(self, command: str, description: str, config: type[Config], *, takes_file: bool = True) -> None:
        hints, groups = get_type_hints(config), dict[str | None, Any]({None: self})
        words = f"{_needed(config, hints)}[--config FILE.yaml] [options, which override the file's]"
        usage = f"tailgrad {command} {words}" if takes_file else None
        super().__init__(prog=f"tailgrad {command}", usage=usage, description=description, allow_abbrev=False)
        self.command, self.config, self.takes_file = command, config, takes_file
        for entry in _options_of(config):
            title = entry.metadata.get("group")
            if title not in groups:
                groups[title] = self.add_argument_group(title)
            _add(groups[title], entry, hints[entry.name])
        if takes_file:
            self.add_argument("--config", metavar="FILE.yaml", help="YAML file with these options, by their names")

    def read(self, words: Sequence[str]) -> Config:
        """Return the dataclass that a command line and the file it names give.

        Args:
            words: The command line, without the command's name.

        Returns:
            The dataclass.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: A word or a key of the file is no option, or a value cannot be one.
        """
        words = split_equals(words)
        check_words(words, self)
        path = file_of(words)
        if path and self.takes_file:
            for key, value in read_file(path, self).items():
                action = option_of(self, key)
                action.default, action.required = _value(path, action, value), False
        given = vars(self.parse_args(words))
        hints = get_type_hints(self.config)
        return self.config(**{one.name: _kept(given[one.name], hints[one.name]) for one in _options_of(self.config)})

    def error(self, message: str) -> Any:
        """Raise what argparse would print below the usage."""
        raise ValueError(f"{message}.")


def _options_of(config: type) -> list[Field[Any]]:
    return [entry for entry in fields(config) if "help" in entry.metadata]


def _needed(config: type, hints: Mapping[str, Any]) -> str:
    """What must be given, on the command line or in the file: first what has no name."""
    unnamed, named = "", ""
    for entry in _options_of(config):
        name = entry.metadata.get("metavar", entry.name.upper())
        name += f" [{name} ...] " if _kind(hints[entry.name])[1] else " "
        if "positional" in entry.metadata:
            unnamed += name
        elif entry.default is entry.default_factory is MISSING:
            named += f"--{entry.name} {name}"
    return unnamed + named


def _add(group: Any, entry: Field[Any], hint: Any) -> None:
    """Add the option of a field."""
    default = entry.default if entry.default_factory is MISSING else entry.default_factory()
    how: dict[str, Any] = {name: entry.metadata[name] for name in ("choices", "metavar") if name in entry.metadata}
    kind, many = _kind(hint)
    how |= {"type": _boolean, "nargs": "?", "const": True} if kind is bool else {"type": kind}
    how |= {"nargs": "+"} if many else {}
    text = entry.metadata["help"].replace("%", "%%")
    if "positional" in entry.metadata:
        text += f" (in a file: `{entry.name}`)"
    elif default is MISSING:
        how |= {"required": True}
    else:
        how |= {"default": default}
        if default not in (None, False, (), {}) and "default" not in text:
            text += f" (default {' '.join(map(str, default)) if many else default})"
    group.add_argument(entry.name if "positional" in entry.metadata else f"--{entry.name}", help=text, **how)


def _kind(hint: Any) -> tuple[Any, bool]:
    """What reads one value of a field of this type, and whether it takes several."""
    is_union = get_origin(hint) in (Union, UnionType)
    inner = [one for one in get_args(hint) if one is not NoneType] if is_union else [hint]
    several = [one for one in inner if get_origin(one) in (tuple, list, Sequence)]
    if several:
        return _kind(get_args(several[0])[0])[0], True
    if any(get_origin(one) is dict for one in inner):
        return json_object, False
    return (str if str in inner or Path in inner else inner[0]), False


def _kept(value: Any, hint: Any) -> Any:
    """Several values as a tuple: configurations do not change."""
    return tuple(value) if isinstance(value, list) and _kind(hint)[1] else value


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def json_object(text: str) -> dict[str, Any]:
    """Read an option that is a JSON object.

    Args:
        text: The option's value.

    Returns:
        The object.

    Raises:
        ArgumentTypeError: It is anything else.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON ({error}); write '{{\"name\": value}}'") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is not a JSON object; write '{{\"name\": value}}'")
    return value


def option_of(parser: argparse.ArgumentParser, key: str) -> argparse.Action:
    """The option of this name."""
    return next(action for action in parser._actions if action.dest == key)


def read_file(
    path: Path, parser: argparse.ArgumentParser, explain: Explain = no_more, texts: Collection[str] = ()
) -> dict[str, Any]:
    """Read a YAML file of a command's options.

    Args:
        path: The file.
        parser: The command's parser.
        explain: What to say of a key that is no option; None is to name the nearest one.
        texts: Options that take one text and nothing else, where the parser itself does not tell.

    Returns:
        Values by name; `env`, which TRL takes beside them, may be among them where the parser is TRL's.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a YAML mapping, a key is no option, or a value cannot be one.
    """
    import yaml

    name = f"config {str(path)!r}"
    if not path.is_file():
        raise FileNotFoundError(f"{name}: there is no such file.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, *NOT_YAML) as error:
        raise ValueError(f"{name} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{name} is not a mapping of options to values, such as `seed: 1`.")
    options = {action.dest: action for action in parser._actions if action.dest not in ("help", "config")}
    for key, value in values.items():
        if key == "env" and not isinstance(parser, OptionParser):
            continue
        if key not in options:
            more = explain(str(key))
            hint = f": {more}." if more else hint_for(str(key), options, parser.prog)
            raise ValueError(f"{name} has the key {key!r}, which is no option of `{parser.prog}`{hint}")
        _check_value(name, key, value, options[key], is_text=key in texts)
    return values


def _check_value(name: str, key: str, value: Any, option: argparse.Action, is_text: bool) -> None:
    """Refuse what the parser would hand on as it is, without the check that it makes of text."""
    words = value if isinstance(value, list) and option.type is str else [value] if option.choices or is_text else []
    for flag in (word for word in words if isinstance(word, bool)):
        raise ValueError(f"{name}: {_is_no_text(key, flag, option.choices)}")
    if isinstance(value, dict) and option.type is json_object:
        return
    if isinstance(value, list | dict) and option.nargs in (None, "?") and (is_text or option.type is not str):
        raise ValueError(f"{name}: {key} is {value!r}; it takes one value.")


def _is_no_text(key: str, value: bool, choices: Iterable[Any] | None) -> str:
    """What to say of a word that YAML has read as true or false."""
    allowed = f"; allowed are {', '.join(map(str, choices))}" if choices else ""
    return (
        f"{key} is read as {str(value).lower()}, as YAML reads yes, no, on and off{allowed}. "
        f'Put the word in quotes, such as {key}: "{"yes" if value else "no"}".'
    )


def _value(path: Path, action: argparse.Action, value: Any) -> Any:
    """A value of the file, read as the command line reads the same words."""
    if value is None and not action.required:
        return action.default
    many = action.nargs == "+"
    if action.type is json_object and isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Mapping) or (isinstance(value, list) and not (many and value)):
        takes = "one or more values" if many else "one value"
        raise ValueError(f"config {str(path)!r}: {action.dest} is {value!r}; it takes {takes}.")
    read = [_read(path, action, one) for one in (value if isinstance(value, list) else [value])]
    return read if many else read[0]


def _read(path: Path, action: argparse.Action, value: Any) -> Any:
    convert: Any = action.type
    if convert is str and isinstance(value, bool):
        raise ValueError(f"config {str(path)!r}: {_is_no_text(action.dest, value, action.choices)}")
    try:
        read = convert(str(value))
        if value is None or isinstance(value, list | dict) or (action.choices and read not in action.choices):
            raise ValueError
    except (ValueError, argparse.ArgumentTypeError) as error:
        kinds = {int: "a whole number", float: "a number", _boolean: "true or false", json_object: "a mapping"}
        allowed = f"one of {', '.join(map(str, action.choices))}" if action.choices else kinds.get(convert, "a text")
        raise ValueError(f"config {str(path)!r}: {action.dest} is {value!r}; it must be {allowed}.") from error
    return read
