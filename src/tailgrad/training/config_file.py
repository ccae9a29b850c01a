"""The options of `tailgrad train`, in words and in the YAML file of `--config`, looked at before TRL's parser."""

from __future__ import annotations

import difflib
from argparse import Action
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tailgrad.estimators import belongs_to_estimators

if TYPE_CHECKING:
    from trl import TrlParser


def parse_with_config(parser: TrlParser, argv: Sequence[str]) -> tuple[Any, ...]:
    """Parse a command line; `--config file.yaml` gives defaults.

    Args:
        parser: The parser.
        argv: The options.

    Returns:
        One object per dataclass of the parser.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A word or a key of the file is no option, or the file is not a YAML mapping or has a value that
            cannot be one.
    """
    words = [word for given in argv for word in (given.split("=", 1) if given.startswith("--config=") else [given])]
    if "--config" in words:
        place = words.index("--config") + 1
        if place == len(words):
            raise ValueError("--config names no file: write --config file.yaml.")
        _check(Path(words[place]), {action.dest: action for action in parser._actions})
    _check_words(words, parser._option_string_actions)
    return tuple(parser.parse_args_and_config(words))


def _check_words(words: Sequence[str], options: Mapping[str, Action]) -> None:
    """Refuse what is no option, nor the beginning of a single one, which argparse takes for it."""
    for word in words:
        name = word.partition("=")[0]
        if not name.startswith("--") or name in (*options, "--config"):
            continue
        begins = {action.dest for option, action in options.items() if option.startswith(name)}
        if len(begins) != 1 or belongs_to_estimators(name.removeprefix("--")):
            raise ValueError(f"{name} is no option of `tailgrad train`{_hint(name.removeprefix('--'), options, '--')}")


def _hint(name: str, options: Iterable[str], dashes: str = "") -> str:
    """What to write in the place of something that is no option."""
    if of_estimator := belongs_to_estimators(name):
        return f": {of_estimator}."
    close = difflib.get_close_matches(dashes + name, options, n=1)
    if not close:
        return "; `tailgrad train --help` lists the options."
    return f"; did you mean {close[0] if dashes else repr(close[0])}?"


def _check(path: Path, options: dict[str, Action]) -> None:
    name = f"config {str(path)!r}"
    if not path.is_file():
        raise FileNotFoundError(f"{name}: there is no such file.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{name} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{name} is not a mapping of options to values, such as `num_generations: 16`.")
    for key, value in values.items():
        if key == "env":
            continue
        if key not in options:
            raise ValueError(
                f"{name} has the key {key!r}, which is no option of `tailgrad train`{_hint(str(key), options)}"
            )
        _check_value(name, key, value, options[key])


def _check_value(name: str, key: str, value: Any, option: Action) -> None:
    """Refuse what the parser would hand on as it is, without the check that it makes of text."""
    if option.choices and isinstance(value, bool):
        allowed = ", ".join(map(str, option.choices))
        raise ValueError(
            f"{name}: {key} is read as {str(value).lower()}, as YAML reads yes, no, on and off; allowed are {allowed}. "
            f'Put the word in quotes: {key}: "{"yes" if value else "no"}".'
        )
    if isinstance(value, list | dict) and option.nargs in (None, "?") and option.type is not str:
        raise ValueError(f"{name}: {key} is {value!r}; it takes one value.")
