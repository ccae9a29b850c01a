"""Run `tailgrad sample` or `tailgrad score` as a Ray Data job, whose processes share the work.

    python recipes/ray/on_ray.py --num_processes 8 sample --config sample.yaml

The cluster is the one that RAY_ADDRESS names (`ray job submit` does so), else this machine.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

import ray
import ray.data

from tailgrad.cli.main import main as tailgrad


def one_process(row: dict[str, int], words: list[str], folder: str, of: int) -> dict[str, int]:
    """Run a command in a folder as process `row["id"]` of `of`, and give its exit code."""
    os.chdir(folder)
    os.environ |= {"RANK": str(row["id"]), "WORLD_SIZE": str(of)}
    return {"exit_code": tailgrad(words)}


def main(argv: list[str]) -> int:
    """Start the processes, wait for all of them, and give the highest exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--num_processes", type=int, required=True, help="processes; each has a GPU where there are any"
    )
    parser.add_argument("words", nargs=argparse.REMAINDER, help="sample or score, with options")
    given = parser.parse_args(argv)
    ray.init()
    ray.data.DataContext.get_current().max_errored_blocks = -1  # one that is lost for good does not stop the others
    count = given.num_processes
    needs: dict[str, Any] = {"num_gpus": 1} if ray.cluster_resources().get("GPU") else {"num_cpus": 1}
    processes = ray.data.range(count, override_num_blocks=count).map(
        one_process, fn_args=(given.words, os.getcwd(), count), concurrency=count, max_retries=3, **needs
    )
    codes = [row["exit_code"] for row in processes.take_all()]
    if len(codes) < count:
        print(f"{count - len(codes)} of {count} processes were lost; the same command goes on", file=sys.stderr)
        codes.append(1)
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
