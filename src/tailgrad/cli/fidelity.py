"""`tailgrad fidelity`: estimators' gradients from m rollouts against the gradient of V_N from a large pool."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Add the command to the `tailgrad` parser."""
    parser = subparsers.add_parser(
        "fidelity",
        help="estimators' gradients from m rollouts against the gradient of V_N, on a policy's parameters",
        description="Direction, norm and signal to noise of each estimator's gradient from m rollouts, against the "
        "gradient of V_N from a large pool of the same policy. Writes fidelity.png, fidelity.svg, fidelity.md and "
        "fidelity.json, and keeps the gradients in OUT/gradients. An interrupted run goes on.",
    )
    parser.set_defaults(run=run, extra="sample")
    add = parser.add_argument
    add("--table", required=True, help="rollout table of the pool, such as 32 prompts with 4096 responses each")
    add("--model", required=True, help="the policy that sampled it: hub name or local folder")
    add("--out", required=True, help="folder for the report and the gradients")
    add(
        "--estimators",
        nargs="+",
        default=["flat_tea", "tea", "prefix_tea", "cvar", "dr_grpo", "grpo"],
        metavar="NAME[:OPTION=VALUE,...]",
        help="estimators, options after a colon: max_at_k:k=4 (default flat_tea tea prefix_tea cvar dr_grpo grpo)",
    )
    add("--m", nargs="+", type=int, default=[16], help="rollouts per prompt in training (default 16)")
    add("--deploy_n", nargs="+", type=int, default=[128], help="N, at most half of the pool's responses (default 128)")
    add("--dim", type=int, default=4096, help="length of the sketch of a gradient (default 4096)")
    add("--batch_size", type=int, default=32, help="responses differentiated at once (default 32)")
    add("--revision", help="revision of the policy on the hub")
    add("--device", help="cpu, cuda, cuda:1, ... (default: the GPU where there is one)")
    add("--seed", type=int, default=0, help="seed of the sketch and of the bootstrap (default 0)")


def run(args: argparse.Namespace) -> int:
    """Compute what is missing of the gradients, write the report and print its table."""
    from tailgrad.fidelity import check_fidelity, gradient_fidelity, write_fidelity
    from tailgrad.fidelity.gradient_store import GradientConfig, sketch_gradients
    from tailgrad.rollouts import read_table

    table, out = read_table(args.table), Path(args.out).expanduser()
    if table.selection_rewards is not None:
        raise ValueError(
            f"rollout table {args.table!r} is scored by {table.metadata.get('reward')!r}, and the best of N is picked "
            f"by {table.metadata.get('selection_reward')!r}; fidelity knows one reward. Give a table of "
            "`tailgrad sample`, or of `tailgrad score --selection reward`."
        )
    asked = {"estimators": args.estimators, "m": args.m, "deploy_n": args.deploy_n}
    check_fidelity(table.rewards, **asked)
    options = {name: value for name, value in vars(args).items() if name in GradientConfig.__dataclass_fields__}
    gradients = sketch_gradients(GradientConfig(**options | {"out": out / "gradients"}))
    fidelity = gradient_fidelity(table.rewards, gradients, **asked, seed=args.seed)
    print(write_fidelity(fidelity, out, pool={**table.metadata, "sketch_dim": args.dim}), end="")
    print(f"\nFigure, table and JSON: {out / 'fidelity'}.{{png,svg,md,json}}")
    return 0
