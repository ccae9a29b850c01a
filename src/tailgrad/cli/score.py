"""`tailgrad score`: the responses of a rollout table, scored with another reward."""

from __future__ import annotations

import argparse
from typing import Any

from tailgrad.cli.sample import add_reward_options, reward_options


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser.

    Args:
        subparsers: What `ArgumentParser.add_subparsers` returned.
    """
    parser = subparsers.add_parser(
        "score", help="score the responses of a rollout table with another reward", description=__doc__
    )
    parser.set_defaults(run=run, extra="sample")
    add = parser.add_argument
    add("--table", required=True, help="rollout table written by `tailgrad sample`")
    add("--out", required=True, help="rollout table to write (Parquet)")
    add(
        "--selection",
        default="table",
        choices=("table", "reward"),
        help="what picks the best response: the reward of the table (default), or this one",
    )
    add("--dataset", help="the data set of the table (default: where the table says)")
    add("--model", help="the policy, for its tokenizer (default: where the table says)")
    add("--batch_size", type=int, default=256, help="responses scored at once (default 256)")
    add_reward_options(parser)


def run(args: argparse.Namespace) -> int:
    """Score, and say where the new table is.

    Args:
        args: The parsed command line.

    Returns:
        The exit code.
    """
    from tailgrad.rollouts import ScoreConfig, rescore

    options = {name: value for name, value in vars(args).items() if name in ScoreConfig.__dataclass_fields__}
    print(rescore(ScoreConfig(**options, reward_options=reward_options(args))))
    return 0
