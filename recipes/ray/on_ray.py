"""Run `tailgrad sample` or `tailgrad score` as processes of a Ray cluster that share the work.

    python recipes/ray/on_ray.py --num_processes 8 sample --config sample.yaml

The cluster is the one that RAY_ADDRESS names (`ray job submit` does so), else this machine.
"""

from __future__ import annotations

import argparse
import os
import sys

import ray

from tailgrad.cli.main import main as tailgrad


@ray.remote
def one_process(words: list[str], folder: str) -> int:
    """Run a command in a folder, and give its exit code."""
    os.chdir(folder)
    return tailgrad(words)


def main(argv: list[str]) -> int:
    """Start the processes, wait for all of them, and give the highest exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--num_processes", type=int, required=True, help="processes; each has a GPU where there are any"
    )
    parser.add_argument("words", nargs=argparse.REMAINDER, help="sample or score, with options")
    given = parser.parse_args(argv)
    ray.init()
    gpus = 1 if ray.cluster_resources().get("GPU") else 0
    tasks = [
        one_process.options(
            num_gpus=gpus,
            runtime_env={"env_vars": {"RANK": str(index), "WORLD_SIZE": str(given.num_processes)}},
        ).remote(given.words, os.getcwd())
        for index in range(given.num_processes)
    ]
    ray.wait(tasks, num_returns=len(tasks))  # one that is lost for good does not stop the others
    try:
        return max(ray.get(tasks))
    except ray.exceptions.RayError as error:
        print(f"a process was lost ({error}); the same command goes on", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
