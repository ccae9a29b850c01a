"""Names on a command line: those that are options, and what to say of the others."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

OF_OLD: Final[dict[str, tuple[str, ...]]] = {
    "model": ("model_name_or_path",),
    "dataset": ("dataset_name",),
    "reward": ("reward_funcs", "reward_model_name_or_path"),
    "revision": ("model_revision",),
    "max_new_tokens": ("max_completion_length",),
    "m": ("num_generations",),
    "steps": ("max_steps",),
    "split": ("dataset_split",),
    "prompts_a_step": ("prompts_per_step",),
    "reward_model_batch_size": ("reward_batch_size",),
    "reward_model_max_length": ("reward_max_length",),
    "reward_model_dtype": ("reward_dtype",),
    "reward_model_input_format": ("reward_input_format",),
}
"""What options were called in version 0.1, and what has their place."""

_MOST: Final = 8
"""More options than these that begin as a name does are no help."""

Explain = Callable[[str], str | None]
"""What to say of a name that is no option."""


def no_more(name: str) -> None:
    """Say nothing of a name, so that the nearest option is named."""


def split_equals(words: Iterable[str]) -> list[str]:
    """The words, `--config=FILE` as two."""
    return [word for given in words for word in (given.split("=", 1) if given.startswith("--config=") else [given])]


def file_of(words: Sequence[str]) -> Path | None:
    """The file that `--config` names."""
    if "--config" not in words:
        return None
    if words.count("--config") > 1:
        raise ValueError("--config is given twice: give one file.")
    place = words.index("--config") + 1
    if place == len(words) or not words[place]:
        raise ValueError("--config names no file: write --config file.yaml.")
    return Path(words[place])


def check_words(words: Iterable[str], parser: argparse.ArgumentParser, explain: Explain = no_more) -> None:
    """Refuse what is no option; the beginning of one is none.

    Args:
        words: The command line.
        parser: The command's parser.
        explain: What to say of a name that is no option; None is to name what was meant.

    Raises:
        ValueError: The message has the option that was meant.
    """
    options = {*parser._option_string_actions, "--config"}
    for word in words:
        name = word.partition("=")[0]
        if name.startswith("--") and name not in options:
            more = explain(name.removeprefix("--"))
            hint = f": {more}." if more else _hint_on_command_line(name.removeprefix("--"), parser)
            raise ValueError(f"{name} is no option of `{parser.prog}`{hint}")


def _hint_on_command_line(name: str, parser: argparse.ArgumentParser) -> str:
    """The end of an error: the options that were meant, or what is given without a name."""
    for action in parser._actions:
        if not action.option_strings and name in (action.dest, action.dest.removesuffix("s")):
            return f": write {action.metavar} without --{name}."
    named = {option.removeprefix("--") for action in parser._actions for option in action.option_strings}
    known = [action.dest for action in parser._actions if action.dest in named and action.dest != "help"]
    return hint_for(name, [*known, "config"], parser.prog, written="--{}")


def hint_for(name: str, known: Iterable[str], command: str, written: str = "'{}'") -> str:
    """The end of an error about a name that is no option.

    Args:
        name: The name.
        known: The options.
        command: The command that has them.
        written: How an option is written.

    Returns:
        The options that were meant: what has the place of an old name, what begins so, or the nearest; else where to
        look.

    Examples:
        >>> hint_for("max_new_tokens", ["max_completion_length", "seed"], "tailgrad sample")
        "; did you mean 'max_completion_length'?"
        >>> hint_for("prompt", ["prompts", "prompt_column"], "tailgrad x", written="--{}")
        '; did you mean --prompts or --prompt_column?'
        >>> hint_for("zzz", ["seed"], "tailgrad sample")
        '; `tailgrad sample --help` lists the options.'
    """
    known = dict.fromkeys(known)
    meant = [new for new in OF_OLD.get(name, ()) if new in known]
    meant = meant or [option for option in known if name and option.startswith(name)]
    meant = meant if 0 < len(meant) <= _MOST else difflib.get_close_matches(name, known, n=1)
    if not meant:
        return f"; `{command} --help` lists the options."
    return f"; did you mean {' or '.join(written.format(option) for option in meant)}?"
