"""`tailgrad curve`: best-of-N curves of rollouts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tailgrad.cli.tables import open_tables
from tailgrad.files import expanded
from tailgrad.options import OptionParser, check_least, option

HELP: Final = "draw best-of-N curves from rollouts, and compare policies on the same prompts"
EXTRA: Final = "eval"


@dataclass(frozen=True)
class CurveOptions:
    """The options of `tailgrad curve`."""

    tables: tuple[str, ...] = option(
        text="rollout tables of `tailgrad sample`, or rewards of your own: Parquet, CSV or JSON lines with a prompt "
        "and a reward per row, also as TRL and verl log them; or an array with one row per prompt (.npy, or CSV "
        "without a header)",
        positional=True,
        metavar="TABLE",
    )
    out: str = option(text="folder for the report")
    names: tuple[str, ...] | None = option(
        None, "one name per table (default: the file's name); tables that share a name are training seeds of one method"
    )
    reference: str | None = option(None, "name of the method to compare the others with (default: the first)")
    budgets: tuple[int, ...] | None = option(
        None, "values of N (default: 1 2 4 ... n, for the n of the prompt with the fewest responses)", metavar="N"
    )
    forecast_n: tuple[int, ...] | None = option(
        None, "values of N above n to forecast V_N at, up to 32 n (docs/forecasts.md)", metavar="N"
    )
    num_generations: int | None = option(None, "m: rollouts per prompt in training, to mark in the figure")
    deploy_n: int | None = option(None, "the N trained for, to mark in the figure")
    seed: int = option(0, "seed of the bootstrap (default 0)")
    prompt_column: str | None = option(
        None, "column of your own tables with the prompt (default: prompt_id, prompt or input)"
    )
    reward_column: str | None = option(None, "column of your own tables with the reward (default: reward or score)")
    response_column: str | None = option(
        None, "column of your own tables with the response (default: response, completion or output)"
    )


def make_parser() -> OptionParser[CurveOptions]:
    """The command's parser."""
    description = (
        "Compute V_N, the expected reward of the best of N responses, for N = 1, 2, 4, ..., n. It is exact, with 95% "
        "intervals, and tables are compared by paired differences. Writes curve.png, curve.svg, curve.md and "
        "curve.json."
    )
    return OptionParser("curve", description, CurveOptions)


def run(words: Sequence[str]) -> None:
    """Write the report and print its table."""
    options = make_parser().read(words)
    check_least(1, num_generations=options.num_generations, deploy_n=options.deploy_n)
    check_least(0, seed=options.seed)
    from tailgrad.curves import write_report

    rollouts = open_tables("curve", options)
    out = expanded(options.out)
    write_report(
        rollouts,
        out,
        budgets=options.budgets,
        reference=options.reference,
        m=options.num_generations,
        deploy_n=options.deploy_n,
        forecast_n=options.forecast_n or (),
        seed=options.seed,
    )
    print((out / "curve.md").read_text(encoding="utf-8"), end="")
    print(f"\nFigure, table and JSON: {out / 'curve'}.{{png,svg,md,json}}")
