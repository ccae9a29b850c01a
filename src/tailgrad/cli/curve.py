"""`tailgrad curve`: best-of-N curves of rollout tables."""

import argparse
import sys
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Add the command to the `tailgrad` parser."""
    parser = subparsers.add_parser(
        "curve",
        help="best-of-N curves of rollout tables, compared on the same prompts",
        description="Exact V_N for N = 1, 2, 4, ..., n with 95% intervals, and paired differences between "
        "the tables. Writes curve.png, curve.svg, curve.md and curve.json.",
    )
    parser.add_argument("tables", nargs="+", metavar="TABLE", help="rollout tables written by `tailgrad sample`")
    parser.add_argument("--out", required=True, help="folder for the report")
    parser.add_argument(
        "--names",
        nargs="+",
        help="one name per table (default: its file's); tables that share a name are training seeds of one method",
    )
    parser.add_argument("--reference", help="name to take paired differences to (default: the first)")
    parser.add_argument("--budgets", nargs="+", type=int, metavar="N", help="values of N (default: 1 2 4 ... n)")
    parser.add_argument("--m", type=int, help="rollouts per prompt in training, to mark in the figure")
    parser.add_argument("--deploy_n", type=int, help="the N trained for, to mark in the figure")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap (default: 0)")
    parser.set_defaults(run=run, extra="eval")


def run(args: argparse.Namespace) -> int:
    """Write the report and print its table."""
    from tailgrad.curves import write_report

    names = _names(args.tables) if args.names is None else args.names
    if len(names) != len(args.tables):
        raise ValueError(f"--names has {len(names)} names for {len(args.tables)} tables: give one per table.")
    runs = [_run(name, path) for name, path in zip(names, args.tables, strict=True)]
    out = Path(args.out).expanduser()
    write_report(
        runs,
        out,
        budgets=args.budgets,
        reference=args.reference,
        m=args.m,
        deploy_n=args.deploy_n,
        seed=args.seed,
    )
    print((out / "curve.md").read_text(encoding="utf-8"), end="")
    print(f"\nFigure, table and JSON: {out / 'curve'}.{{png,svg,md,json}}")
    return 0


def _run(name: str, path: str) -> Any:
    """Read the run of one table; of the table itself nothing stays in memory."""
    from tailgrad.curves import Run
    from tailgrad.rollouts.table import read_table

    table = read_table(path)
    if not table.metadata:
        print(
            f"tailgrad curve: warning: rollout table {path!r} carries no metadata (pandas drops it when it writes a "
            "table): how it was sampled and scored is unknown, so its KL is unknown and nothing but its prompts and n "
            "is checked against other tables.",
            file=sys.stderr,
        )
    return Run.from_table(name, table)


def _names(tables: list[str]) -> list[str]:
    """Name each table after its file, with as many folders before it as it takes to tell the tables apart."""
    paths = [Path(table).with_suffix("").parts for table in tables]
    for depth in range(1, max(map(len, paths)) + 1):
        names = ["/".join(parts[-depth:]) for parts in paths]
        if len(set(names)) == len(names):
            return names
    raise ValueError("a table is given twice: give each once, or name them with --names.")
