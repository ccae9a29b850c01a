"""Options from the fields of a dataclass, with a YAML file beneath the command line."""

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest

from tailgrad.cli import sample, score, train
from tailgrad.cli.main import COMMANDS, main
from tailgrad.options import OptionParser, option
from tailgrad.rewards.options import RewardOptions

WITH_FILE = [command for command in COMMANDS if command.__name__ not in ("tailgrad.cli.train", "tailgrad.cli.grid")]


@dataclass(frozen=True)
class Every:
    """A field of every kind."""

    tables: tuple[str, ...] = option(text="tables", positional=True, metavar="TABLE")
    out: str | Path = option(text="folder")
    n: int = option(4, "responses")
    rate: float | None = option(None, "a rate of 100%")
    budgets: tuple[int, ...] | None = option(None, "values of N")
    kwargs: dict[str, Any] = option({}, "settings")
    kind: str = option("a", "which", choices=("a", "b"), group="more")
    trust: bool = option(False, "trust it")
    inner: int = 7


def read(*words: str) -> Every:
    return OptionParser("every", "Everything.", Every).read(words)


def test_the_command_line_alone() -> None:
    assert read("t", "--out", "o") == Every(("t",), "o")
    words = ("t", "u", "--out=o", "--n", "5", "--rate", "1e-3", "--budgets", "1", "2", "--kwargs", '{"a": [1]}')
    expected = Every(("t", "u"), "o", 5, 1e-3, (1, 2), {"a": [1]}, "b", True)
    assert read(*words, "--kind", "b", "--trust") == expected
    assert read("t", "--out", "o", "--trust", "false").trust is False


def test_the_help_says_what_must_be_given() -> None:
    text = OptionParser("every", "Everything.", Every).format_help()
    assert "usage: tailgrad every TABLE [TABLE ...] --out OUT [--config FILE.yaml]" in " ".join(text.split())
    assert "tables (in a file: `tables`)" in text


@pytest.fixture
def write(tmp_path: Path):
    def write_file(text: str) -> str:
        (tmp_path / "every.yaml").write_text(text)
        return str(tmp_path / "every.yaml")

    return write_file


FILE = """
tables: [t, u]
out: 2024
n: 5
rate: 1e-3
budgets: [1, 2]
kwargs: {a: [1]}
kind: b
trust: true
"""


def test_the_file_and_the_command_line_over_it(write) -> None:
    path = write(FILE)
    assert read("--config", path) == Every(("t", "u"), "2024", 5, 1e-3, (1, 2), {"a": [1]}, "b", True)
    over = read("v", f"--config={path}", "--n", "6", "--trust", "false", "--budgets", "3")
    assert over == Every(("v",), "2024", 6, 1e-3, (3,), {"a": [1]}, "b", False)
    assert read("--config", write("tables: t\nout: o\nrate:\nbudgets: 3\n")) == Every(("t",), "o", budgets=(3,))


WRONG = [
    ("ot: x", "has the key 'ot', which is no option of `tailgrad every`; did you mean 'out'?"),
    ("inner: 3", "has the key 'inner', which is no option"),
    ("help: true", "has the key 'help', which is no option"),
    ("n: many", "n is 'many'; it must be a whole number"),
    ("n: 2.5", "n is 2.5; it must be a whole number"),
    ("n: true", "n is True; it must be a whole number"),
    ("n: [1]", "n is [1]; it takes one value"),
    ("rate: fast", "rate is 'fast'; it must be a number"),
    ("budgets: [1, [2]]", "budgets is [2]; it must be a whole number"),
    ("kind: c", "kind is 'c'; it must be one of a, b"),
    ("kwargs: text", "kwargs is 'text'; it must be a mapping"),
    ("trust: perhaps", "trust is 'perhaps'; it must be true or false"),
    ("out:", "out is None; it must be a text"),
    ("- out", "is not a mapping of options to values"),
    ("out: [a, b]", "out is ['a', 'b']; it takes one value"),
    ("out: {a: b}", "out is {'a': 'b'}; it takes one value"),
    ("out: []", "out is []; it takes one value"),
    ("kind: [a]", "kind is ['a']; it takes one value"),
    ("trust: {a: b}", "trust is {'a': 'b'}; it takes one value"),
    ("kwargs: [a]", "kwargs is ['a']; it takes one value"),
    ("tables: {a: b}", "tables is {'a': 'b'}; it takes one or more values"),
    ("budgets: []", "budgets is []; it takes one or more values"),
    (
        "tables: [yes]",
        "tables is read as true, as YAML reads yes, no, on and off. Put the word in quotes, such as tables",
    ),
    ("out: off", 'out is read as false, as YAML reads yes, no, on and off. Put the word in quotes, such as out: "no"'),
    ("kind: no", "kind is read as false, as YAML reads yes, no, on and off; allowed are a, b. Put the word in quotes"),
]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[text for text, _ in WRONG])
def test_a_file_that_cannot_be_used_is_named(write, text: str, message: str) -> None:
    path = write(text)
    with pytest.raises(ValueError, match="config ") as caught:
        read("t", "--out", "o", "--config", path)
    assert message in str(caught.value)
    assert repr(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["t"], "the following arguments are required: --out"),
        (["--out", "o"], "the following arguments are required: TABLE"),
        (["t", "--out", "o", "--bugets", "1"], "--bugets is no option of `tailgrad every`; did you mean --budgets?"),
        (["t", "--ou", "o"], "--ou is no option of `tailgrad every`; did you mean --out?"),
        (["t", "--out", "o", "--conf", "f"], "--conf is no option of `tailgrad every`; did you mean --config?"),
        (["t", "--out", "o", "--k=1"], "--k is no option of `tailgrad every`; did you mean --kwargs or --kind?"),
        (["--tables", "t", "--out", "o"], "--tables is no option of `tailgrad every`: write TABLE without --tables."),
        (["--table=t", "--out", "o"], "--table is no option of `tailgrad every`: write TABLE without --table."),
        (["t", "--config", "f", "--config", "g"], "--config is given twice: give one file."),
        (["t", "--config=f", "--config", "g"], "--config is given twice: give one file."),
        (["t", "--out", "o", "--n", "x"], "argument --n: invalid int value: 'x'"),
        (["t", "--out", "o", "--kind", "c"], "argument --kind: invalid choice: 'c'"),
    ],
)
def test_a_command_line_that_cannot_be_used(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        read(*words)


def test_help_has_the_texts_the_defaults_and_the_groups() -> None:
    printed = " ".join(OptionParser("every", "Everything.", Every).format_help().split())
    assert "--n N responses (default 4)" in printed
    assert "a rate of 100%" in printed
    assert printed.index("more:") > printed.index("--trust")
    assert "--inner" not in printed


@pytest.mark.parametrize("command", WITH_FILE, ids=lambda command: command.__name__)
def test_every_command_reads_a_file_and_every_option_has_its_help(command, tmp_path: Path, capsys) -> None:
    config = command.make_parser().config
    assert all(entry.metadata.get("help") for entry in fields(config))
    (tmp_path / "options.yaml").write_text("sed: 1\n")
    name = command.__name__.rpartition(".")[2]
    assert main([name, "--config", str(tmp_path / "options.yaml")]) == 2
    assert "has the key 'sed'" in capsys.readouterr().err


def test_the_same_thing_has_the_same_name_everywhere() -> None:
    """What TRL names has no other name in any command, and `sample` names rewards as `train` does."""
    options = {command: {action.dest for action in command.make_parser()._actions} for command in COMMANDS}
    others = {"model", "dataset", "reward", "revision", "m", "max_new_tokens", "steps", "split"}
    assert not [command for command, names in options.items() if names & others]
    of_rewards = {entry.name for entry in fields(RewardOptions)}
    assert all(options[command] >= of_rewards for command in (train, sample, score))


OLD = [
    ("sample", "model", "did you mean --model_name_or_path?"),
    ("score", "model", "did you mean --model_name_or_path?"),
    ("fidelity", "model", "did you mean --model_name_or_path?"),
    ("train", "model", "did you mean --model_name_or_path?"),
    ("fidelity", "revision", "did you mean --model_revision?"),
    ("sample", "dataset", "did you mean --dataset_name?"),
    ("sample", "max_new_tokens", "did you mean --max_completion_length?"),
    ("score", "reward", "did you mean --reward_funcs or --reward_model_name_or_path?"),
    ("train", "reward_model_dtype", "did you mean --reward_dtype?"),
    ("curve", "m", "did you mean --num_generations?"),
    ("fidelity", "m", "did you mean --num_generations?"),
    ("score", "table", "write TABLE without --table."),
    ("fidelity", "table", "write TABLE without --table."),
    ("quickstart", "steps", "did you mean --max_steps?"),
    ("quickstart", "split", "did you mean --dataset_split?"),
]


@pytest.mark.parametrize(("command", "old", "hint"), OLD, ids=[f"{command}-{old}" for command, old, _ in OLD])
def test_an_option_of_the_first_version_is_told_what_has_its_place(command: str, old: str, hint: str, capsys) -> None:
    assert main([command, f"--{old}", "x"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"tailgrad {command}: error: --{old} is no option of `tailgrad {command}`")
    assert said.endswith(f"{hint}\n")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_no_command_drops_a_file_or_takes_an_abbreviation(command, capsys) -> None:
    name = command.__name__.rpartition(".")[2]
    assert main([name, "--conf", "options.yaml"]) == 2
    assert f"--conf is no option of `tailgrad {name}`; did you mean --config?" in capsys.readouterr().err
    assert main([name, "--config", "one.yaml", "--config=two.yaml"]) == 2
    assert "error: --config is given twice: give one file." in capsys.readouterr().err
    assert not command.make_parser().allow_abbrev
