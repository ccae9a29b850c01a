"""`tailgrad train`: post-train a policy for best-of-N; takes the options of `trl grpo` and ours."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Final

HELP: Final = "train a policy for best-of-N, with the options of `trl grpo` and ours"
EXTRA: Final = "train"
INTERRUPTED: Final = "the same command with --resume_from_checkpoint last goes on from the newest checkpoint"


def make_parser() -> argparse.ArgumentParser:
    """The command's parser."""
    from tailgrad.training import launch

    parser: argparse.ArgumentParser = launch.make_parser()
    return parser


def run(words: Sequence[str]) -> None:
    """Train."""
    from tailgrad.training.launch import train

    train(words)
