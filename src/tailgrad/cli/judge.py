"""`tailgrad judge`: which of two policies gives the better best-of-N answers, asked of a judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from tailgrad.cli.tables import open_tables
from tailgrad.files import expanded
from tailgrad.options import OptionParser

if TYPE_CHECKING:
    from tailgrad.judging import JudgeConfig

HELP: Final = "ask a judge which of two policies gives the better best-of-N answers"
EXTRA: Final = "sample"


def make_parser() -> OptionParser[JudgeConfig]:
    """The command's parser."""
    from tailgrad.judging import JudgeConfig

    description = (
        "Compare the best-of-N answers of two rollout tables, prompt by prompt: a language model says which one is "
        "better, in both orders, or a reward does. Writes the win rate with its 95% interval over prompts, ties, "
        "agreement of the orders, and the judge's bias for a position and for length: judge.png, judge.svg, judge.md "
        "and judge.json. If it is interrupted, the same command goes on."
    )
    return OptionParser("judge", description, JudgeConfig)


def run(words: Sequence[str]) -> None:
    """Judge and print the report."""
    config = make_parser().read(words)
    from tailgrad.judging import judge

    if judge(config, open_tables("judge", config)) is not None:
        out = expanded(config.out)
        print((out / "judge.md").read_text(encoding="utf-8"), end="")
        print(f"\nFigure, table and JSON: {out / 'judge'}.{{png,svg,md,json}}")
