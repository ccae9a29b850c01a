"""The arena: every estimator on many small tasks, at equal steps and at equal KL.

    python experiments/arena/run.py --out experiments/arena/results

trains what is missing, writes the rows (`chosen.parquet`, `paths.parquet`, `settings.json`), the tables and the
figures. What was trained stands in `--traces` (`artifacts` beside this file) and is not trained again. `--report_only`
makes tables and figures from committed rows. See README.md for what is compared and what came out.
"""

import argparse
from pathlib import Path

import torch
from contenders import contenders_of
from report import write_report
from rows import make_rows
from settings import PARTS, all_settings

from training import schedule_of, train_missing

HERE = Path(__file__).resolve().parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for rows, tables and figures")
    parser.add_argument("--traces", type=Path, default=HERE / "artifacts", help="folder of what was trained")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--settings", nargs="+", help="only these, by the start of their names")
    parser.add_argument("--contenders", nargs="+", help="only these")
    parser.add_argument("--report_only", action="store_true", help="train nothing, read the rows in --out")
    options = parser.parse_args()
    if not options.report_only:
        train_and_choose(options)
    write_report(options.out)


@torch.no_grad()
def train_and_choose(options: argparse.Namespace) -> None:
    """Train what is missing, and write the rows of everything that was trained."""
    chosen = [s for s in all_settings() if s.part in options.parts]
    if options.settings:
        chosen = [s for s in chosen if s.name.startswith(tuple(options.settings))]
    for setting in chosen:
        asked = {n: c for n, c in contenders_of(setting).items() if not options.contenders or n in options.contenders}
        train_missing(options.traces, setting, asked, schedule_of(setting))
    make_rows(chosen, options.traces, options.out)


if __name__ == "__main__":
    main()
