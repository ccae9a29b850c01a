"""`tailgrad train`: post-train a policy for best-of-N; takes the options of `trl grpo` and ours."""

from __future__ import annotations

from typing import Any, Final

INTERRUPTED: Final = "the same command with --resume_from_checkpoint last goes on from the newest checkpoint"


def add_parser(subparsers: Any) -> None:
    """Add the command; its options, `--help` included, are those of `tailgrad.training.launch`."""
    parser = subparsers.add_parser("train", help="post-train a policy for best-of-N", add_help=False)
    parser.set_defaults(run=run, extra="train", passes_rest=True, interrupted=INTERRUPTED)


def run(args: Any) -> int:
    """Train."""
    from tailgrad.training.launch import train

    train(args.rest)
    return 0
