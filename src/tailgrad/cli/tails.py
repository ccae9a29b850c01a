"""`tailgrad tails`: whether the upper tail of the rewards may be extrapolated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tailgrad.cli.curve import CurveOptions
from tailgrad.cli.tables import check_one_reward, open_tables
from tailgrad.files import expanded
from tailgrad.options import OptionParser, check_least, option, same_option

HELP: Final = "say from rollouts whether, how far and with which tail V_N may be extrapolated"
EXTRA: Final = "eval"


@dataclass(frozen=True)
class TailsOptions:
    """The options of `tailgrad tails`."""

    tables: tuple[str, ...] = same_option(CurveOptions, "tables")
    out: str = same_option(CurveOptions, "out")
    names: tuple[str, ...] | None = option(None, "one name per table, each its own (default: the file's name)")
    tail_fraction: float = option(0.25, "alpha: share of the responses in the upper tail, as of the estimators")
    seed: int = same_option(CurveOptions, "seed")
    prompt_column: str | None = same_option(CurveOptions, "prompt_column")
    reward_column: str | None = same_option(CurveOptions, "reward_column")
    response_column: str | None = same_option(CurveOptions, "response_column")


def make_parser() -> OptionParser[TailsOptions]:
    """The command's parser."""
    description = (
        "Look at the upper tail of the rewards, per prompt and overall: how Gaussian it is, its shape, ties, "
        "saturation, and how far a Gaussian or an exponential tail foretells V_N. Answers in one sentence per table. "
        "Writes tails.png, tails.svg, tails.md and tails.json."
    )
    return OptionParser("tails", description, TailsOptions)


def run(words: Sequence[str]) -> None:
    """Write the report and print its text."""
    options = make_parser().read(words)
    check_least(0, seed=options.seed)
    from tailgrad.tails import diagnose_tails, write_tails

    tables = open_tables("tails", options)
    if len({table.name for table in tables}) < len(tables):
        raise ValueError("--names has one name twice: give each table its own.")
    diagnoses = {}
    for path, table in zip(options.tables, tables, strict=True):
        check_one_reward("tails", path, table)
        try:
            found = diagnose_tails(table.rewards, tail_fraction=options.tail_fraction, seed=options.seed)
        except ValueError as error:
            raise ValueError(f"{table.name}: {error}") from None
        diagnoses[table.name] = found
    out = expanded(options.out)
    prompts = {table.name: table.prompt_ids if table.prompts is None else table.prompts for table in tables}
    print(write_tails(diagnoses, out, prompts=prompts), end="")
    print(f"\nFigure, table and JSON: {out / 'tails'}.{{png,svg,md,json}}")
