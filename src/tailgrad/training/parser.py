"""The parser of `tailgrad train`: TRL's, with errors in a line and a help that says whose each option is."""

from __future__ import annotations

import argparse
import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import fields
from types import UnionType
from typing import Any, Final, NoReturn, get_args, get_origin, get_type_hints

from transformers import TrainingArguments
from trl import DatasetMixtureConfig, GRPOConfig, ModelConfig, TrlParser
from trl.scripts.grpo import GRPOScriptArguments

from tailgrad.estimators import ESTIMATORS, belongs_to_estimators
from tailgrad.option_names import check_words, file_of, split_equals
from tailgrad.options import read_file

MOST_USED: Final = (
    *("model_name_or_path", "dataset_name", "reward_funcs", "reward_model_name_or_path", "reward_weights"),
    *("output_dir", "num_generations", "max_completion_length", "temperature", "beta", "learning_rate", "max_steps"),
    *("num_train_epochs", "per_device_train_batch_size", "gradient_accumulation_steps", "use_vllm", "use_peft"),
    *("eval_strategy", "save_steps", "resume_from_checkpoint", "report_to", "seed"),
)
"""Options of TRL and transformers that the short help has."""

_TEXT_OR_FLAG: Final = {"resume_from_checkpoint", "scale_rewards", "hub_token", "fsdp"}
"""Options whose type is a text, and of which TRL or transformers take true and false as well."""

_NEVER_NONE: Final = {"num_generations"}
"""Options that TRL's types let be None, and its code does not."""


class _OneName(argparse.ArgumentDefaultsHelpFormatter):
    """Shows an option once, though --num-generations is taken for --num_generations too, and no default of None."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        shown = copy.copy(action)
        shown.option_strings = [name for name in action.option_strings if "-" not in name.lstrip("-")]
        return super()._format_action_invocation(shown)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        said = action.default in (None, argparse.SUPPRESS) or "default" in (action.help or "").lower()
        return action.help if said else super()._get_help_string(action)


class _HelpAll(argparse.Action):
    def __call__(self, parser: Any, *_: Any) -> None:
        print(parser.format_help(everything=True), end="")
        parser.exit()


class TrainParser(TrlParser):
    """TRL's parser, which says what is wrong in a line and takes no word or key that is no option."""

    def __init__(self, dataclass_types: Iterable[type]) -> None:
        usage = "tailgrad train [--config FILE.yaml] [options, which override those of the file]"
        super().__init__(
            dataclass_types,
            prog="tailgrad train",
            usage=usage,
            description="Train a policy for best-of-N. Every option of `trl grpo` works here too.",
            formatter_class=_OneName,
            allow_abbrev=False,
        )
        text = "show all options of TRL and transformers too, and exit"
        self.add_argument(
            "--help_all", action=_HelpAll, nargs=0, dest=argparse.SUPPRESS, default=argparse.SUPPRESS, help=text
        )

    def read(self, words: Sequence[str]) -> tuple[Any, ...]:
        """Return one object per dataclass, from a command line and the file that `--config` names.

        Args:
            words: The options.

        Returns:
            One object per dataclass, in their order.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: A word or a key of the file is no option, or a value cannot be one.
        """
        words = split_equals(words)
        if path := file_of(words):
            read_file(path, self, belongs_to_estimators, _texts(self.dataclass_types))
        check_words(words, self, belongs_to_estimators)
        return tuple(self.parse_args_and_config(words))

    def set_defaults_with_config(self, **values: Any) -> list[str]:
        """Take the values of a file, each as the command line would read it, where TRL takes them as they are."""
        hints = {name: hint for one in self.dataclass_types for name, hint in get_type_hints(one).items()}
        read = {key: _as_typed(key, value, hints[key]) if key in hints else value for key, value in values.items()}
        given = {key: value for key, value in read.items() if value is not None or _may_be_none(key, hints.get(key))}
        remaining: list[str] = super().set_defaults_with_config(**given)
        return remaining

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print below the usage."""
        raise ValueError(f"{message}.")

    def format_help(self, everything: bool = False) -> str:
        """The help: our options, the most used of TRL and transformers (with `everything` all), and the estimators."""
        transformers = _names(TrainingArguments)
        trl = _names(GRPOScriptArguments, GRPOConfig, ModelConfig, DatasetMixtureConfig) - transformers
        known = list(dict.fromkeys(action.dest for action in self._actions))
        ours = [name for name in known if name not in trl | transformers]
        sections = {"options of tailgrad": sorted(ours, key=lambda name: name not in ("estimator", "deploy_n"))}
        if everything:
            sections |= {"options of TRL": [name for name in known if name in trl]}
            sections |= {"options of transformers": [name for name in known if name in transformers]}
        else:
            sections |= {"options of TRL and transformers, the most used": [*MOST_USED]}
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, self._actions, [])
        formatter.add_text(self.description)
        for title, names in sections.items():
            formatter.start_section(title)
            formatter.add_arguments([action for name in names for action in self._actions if action.dest == name])
            formatter.end_section()
        formatter.start_section("estimators, for --estimator")
        formatter.add_arguments([argparse.Action([], name, help=row.summary) for name, row in ESTIMATORS.items()])
        formatter.end_section()
        return formatter.format_help()


def _texts(dataclass_types: Iterable[type]) -> set[str]:
    """The options that take one text and nothing else."""
    hints = [(name, hint) for one in dataclass_types for name, hint in get_type_hints(one).items()]
    return {name for name, hint in hints if hint in (str, str | None)} - _TEXT_OR_FLAG


def _may_be_none(key: str, hint: Any) -> bool:
    """Whether null is a value; of other options it is as if they were not given."""
    return key not in _NEVER_NONE and (hint is None or hint is Any or type(None) in get_args(hint))


def _as_typed(key: str, value: Any, hint: Any) -> Any:
    """A list where several values are taken, and numbers of the option's kind; the rest is as YAML has it."""
    kinds = [kind for kind in (get_args(hint) if isinstance(hint, UnionType) else (hint,)) if kind is not type(None)]
    kind = kinds[0] if len(kinds) == 1 else None
    if get_origin(kind) is list and value is not None and not isinstance(value, dict):
        (own,) = get_args(kind)
        return [_number(key, one, own) for one in (value if isinstance(value, list) else [value])]
    return _number(key, value, kind)


def _number(key: str, value: Any, kind: Any) -> Any:
    """A number of the option's kind; refused where it is none."""
    if kind not in (int, float) or value is None or isinstance(value, list | dict):
        return value
    try:
        number = math.nan if isinstance(value, bool) else float(value)
        if kind is float and not isinstance(value, bool):
            return number
        if number == int(number):
            return int(number)
    except (TypeError, ValueError, OverflowError):
        pass
    words = "a whole number" if kind is int else "a number"
    raise ValueError(f"the config file's {key} is {value!r}; it must be {words}.")


def _names(*dataclass_types: type) -> set[str]:
    return {entry.name for one in dataclass_types for entry in fields(one)}
