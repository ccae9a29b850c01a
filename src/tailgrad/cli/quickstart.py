"""`tailgrad quickstart`: the embedded task from start to finish."""

from __future__ import annotations

import argparse
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Add the command to the `tailgrad` parser."""
    parser = subparsers.add_parser(
        "quickstart",
        help="train a tiny policy for best-of-128 with 16 rollouts per prompt, and draw the curves",
        description="Fits a tiny policy to an embedded task, post-trains it with GRPO, TEA and flat TEA side by "
        "side, samples held-out prompts, and draws the best-of-N curves, and V_N against KL to the "
        "first policy. Several minutes on two cores. An interrupted run goes on.",
    )
    parser.add_argument(
        "--out", default="tailgrad-quickstart", help="folder for models, tables and figures (default %(default)s)"
    )
    parser.add_argument("--base", help="folder of the base policy (default: <out>/base)")
    parser.add_argument(
        "--estimators",
        nargs="+",
        default=["grpo", "tea", "flat_tea"],
        metavar="NAME[:OPTION=VALUE,...]",
        help="estimators to train with, options after a colon: max_at_k:k=4 (default grpo tea flat_tea)",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="training seeds (default 0)")
    parser.add_argument("--steps", type=int, help="optimisation steps (default 100)")
    parser.add_argument("--learning_rate", type=float, help="learning rate of all estimators (default 3e-4)")
    parser.add_argument("--beta", type=float, help="KL weight of all estimators (default 0.02)")
    parser.add_argument(
        "--split", choices=("test", "validation"), help="held-out prompts for the curves (default test)"
    )
    parser.add_argument("--n", type=int, help="responses per held-out prompt (default 256)")
    parser.add_argument("--processes", type=int, help="trainings side by side (default 2)")
    parser.set_defaults(run=run, extra="train")


def run(args: argparse.Namespace) -> int:
    """Run the quickstart; SIGINT and SIGTERM stop the commands that it started too."""
    from tailgrad.quickstart.config import QuickstartConfig
    from tailgrad.quickstart.run import quickstart
    from tailgrad.runner import stop_on_signals

    stop_on_signals()
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in vars(args).items()
        if name in QuickstartConfig.__dataclass_fields__ and value is not None
    }
    quickstart(QuickstartConfig(**given))
    return 0
