"""`tailgrad grid`: train and measure every combination of a YAML file, resumably, and compare."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Add the command to the `tailgrad` parser."""
    parser = subparsers.add_parser(
        "grid",
        help="compare estimators over budgets, policies, rewards, prompt sets and seeds",
        description="Trains every combination that the file names, each method at its best learning rate, measures "
        "them on held-out prompts and writes tables and figures. Every measurement is kept in the results table, from "
        "which an interrupted grid goes on.",
    )
    parser.add_argument("--config", required=True, help="YAML file; docs/grid.md describes its keys")
    parser.add_argument("--out", help="folder for the report (default: beside the results table)")
    parser.add_argument("--report_only", action="store_true", help="train nothing: report what the table has")
    parser.add_argument("--reference", help="the estimator to compare the others with (default: as the file says)")
    parser.add_argument("--processes", type=int, help="commands at once (default: as the file says)")
    parser.set_defaults(run=run, extra="train")


def run(args: argparse.Namespace) -> int:
    """Run the grid and print its report; SIGINT and SIGTERM stop the commands that it started too."""
    from tailgrad.grid import read_grid, run_grid, write_grid_report
    from tailgrad.grid.results import read_results
    from tailgrad.runner import stop_on_signals

    stop_on_signals()
    config = read_grid(args.config, processes=args.processes, reference=args.reference)
    rows = read_results(config.results) if args.report_only else run_grid(config)
    out = Path(args.out) if args.out else config.results.with_suffix("")
    print(write_grid_report(config, rows, out))
    print(f"Figures, table and JSON: {out}/")
    return 0
