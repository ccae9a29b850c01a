"""`tailgrad grid`: train and measure every combination of a YAML file, resumably, and compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tailgrad.options import OptionParser, option

HELP: Final = "compare estimators over budgets, policies, rewards, prompt sets and seeds"
EXTRA: Final = "train"


@dataclass(frozen=True)
class GridOptions:
    """The options of `tailgrad grid`; what it compares stands in its file."""

    config: str = option(text="YAML file of the grid; docs/grid.md describes its keys", metavar="GRID.yaml")
    out: str | None = option(None, "folder for the report (default: beside the results table)")
    report_only: bool = option(False, "train nothing; report what the results table has")
    reference: str | None = option(None, "the estimator to compare the others with (default: as the file says)")
    processes: int | None = option(None, "commands at once (default: as the file says)")


def make_parser() -> OptionParser[GridOptions]:
    """The command's parser."""
    description = (
        "Train every combination that the file names, each method at its best learning rate. Measure all of them on "
        "held-out prompts, and write tables and figures. The results table keeps every measurement. If the grid is "
        "interrupted, the same command goes on."
    )
    return OptionParser("grid", description, GridOptions, takes_file=False)


def run(words: Sequence[str]) -> None:
    """Run the grid and print its report; SIGINT and SIGTERM stop the commands that it started too."""
    options = make_parser().read(words)
    from tailgrad.grid import read_grid, run_grid, write_grid_report
    from tailgrad.grid.results import read_results
    from tailgrad.runner import stop_on_signals

    stop_on_signals()
    config = read_grid(options.config, processes=options.processes, reference=options.reference)
    rows = read_results(config.results) if options.report_only else run_grid(config)
    out = Path(options.out) if options.out else config.results.with_suffix("")
    print(write_grid_report(config, rows, out))
    print(f"Figures, table and JSON: {out}/")
