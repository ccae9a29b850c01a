"""Did the trainings come out in the order that the plan's values of their estimators give?

    python experiments/plan/run.py --tables quickstart=ROLLOUTS verifier=... reward-model=... lm-score=...
    python experiments/plan/run.py

Tables are rollouts of the starting policies of experiments/quickstart and experiments/small-instruct. They give
results/values.csv. From it and the rows of the trainings, which are committed, come the tables and the figure of
README.md. Seed 0.
"""

import argparse

from report import write_report
from values import make_values, read_values, write_values


def main() -> None:
    """Score what tables are given for, then write the page's tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tables", nargs="*", default=[], metavar="NAME=TABLE")
    tables = dict(table.split("=", 1) for table in parser.parse_args().tables)
    if tables:
        write_values(make_values(tables))
    write_report(read_values())


if __name__ == "__main__":
    main()
