"""`tailgrad curve`: best-of-N curves of rollouts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tailgrad.options import OptionParser, option

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
    from tailgrad.curves import write_report

    names = _names(options.tables) if options.names is None else options.names
    if len(names) != len(options.tables):
        raise ValueError(f"--names has {len(names)} names for {len(options.tables)} tables: give one per table.")
    rollouts = [_rollouts(name, path, options) for name, path in zip(names, options.tables, strict=True)]
    out = Path(options.out).expanduser()
    write_report(
        rollouts,
        out,
        budgets=options.budgets,
        reference=options.reference,
        m=options.num_generations,
        deploy_n=options.deploy_n,
        seed=options.seed,
    )
    print((out / "curve.md").read_text(encoding="utf-8"), end="")
    print(f"\nFigure, table and JSON: {out / 'curve'}.{{png,svg,md,json}}")


def _rollouts(name: str, path: str, options: CurveOptions) -> Any:
    """Open one table; of a rollout table that lost its metadata say so."""
    from tailgrad.rollouts import read_rollouts

    columns = {column: getattr(options, column) for column in ("prompt_column", "reward_column", "response_column")}
    rollouts = read_rollouts(path, name=name, **columns)
    if not rollouts.metadata and "logprobs" in rollouts.columns:
        print(
            f"tailgrad curve: warning: rollout table {path!r} carries no metadata (pandas drops it when it writes a "
            "table): how it was sampled and scored is unknown, so its KL is unknown and nothing but its prompts and n "
            "is checked against other tables.",
            file=sys.stderr,
        )
    return rollouts


def _names(tables: Sequence[str]) -> list[str]:
    """Name each table after its file, with as many folders before it, or the ending, as tell the tables apart."""
    paths = [Path(table).with_suffix("").parts for table in tables]
    for depth in range(1, max(map(len, paths)) + 1):
        names = ["/".join(parts[-depth:]) for parts in paths]
        if len(set(names)) == len(names):
            return names
    if len(set(tables)) == len(tables):
        return list(tables)
    raise ValueError("a table is given twice: give each once, or name them with --names.")
