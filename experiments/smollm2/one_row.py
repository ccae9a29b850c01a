"""One row of ifeval.md again, from a bare machine within an hour: GRPO after 30 steps, beside the start.

Usage: python experiments/smollm2/one_row.py --data DIR

Makes the policy and the prompts, runs the grid one_row.yaml, and prints its rows and those that are committed. What is
there already is not made again, and a command that was interrupted goes on.
"""

import argparse
import os
import subprocess
import sys

from held_out import measured, values_table
from rates import HERE

from tailgrad.grid import read_grid
from tailgrad.grid.results import Row

STEPS = 30


def run(*words: str) -> None:
    """Run a command of Python in this folder, with one thread per process."""
    subprocess.run([sys.executable, *words], cwd=HERE, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)


def make(data: str) -> None:
    """Everything up to the rows."""
    run("base_policy.py")
    if not (HERE / "artifacts" / "prompts" / "ifeval-test.jsonl").exists():
        run("instructions.py", "--data", data)
        run("ifeval_prompts.py", "--data", "google/IFEval" if data == "hub" else data)
    run("-m", "tailgrad.cli.main", "grid", "--config", "one_row.yaml", "--processes", "2")


def rows_of(name: str) -> list[Row]:
    """The start and GRPO after 30 steps, as a grid has measured them."""
    rows = measured(read_grid(HERE / f"{name}.yaml"))
    return [row for row in rows if (row["estimator"], row["step"]) in (("base", 0), ("grpo", STEPS)) and is_own(row)]


def is_own(row: Row) -> bool:
    return row["scored_by"] == row["reward"]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help='folder with the gzipped JSON lines, or "hub"')
    args = parser.parse_args()
    try:
        make(args.data)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
    print(f"Here:\n\n{values_table(rows_of('one_row'))}\n\nCommitted:\n\n{values_table(rows_of('ifeval'))}")


if __name__ == "__main__":
    main()
