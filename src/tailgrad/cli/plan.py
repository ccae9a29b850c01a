"""`tailgrad plan`: which estimator, m and prompts per step fit N, from rewards of the starting policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tailgrad.cli.curve import CurveOptions
from tailgrad.cli.tables import open_of_one_reward
from tailgrad.files import expanded
from tailgrad.options import OptionParser, check_least, option, same_option

HELP: Final = "say, before training, which estimator, m and prompts per step fit N"
EXTRA: Final = "eval"


@dataclass(frozen=True)
class PlanOptions:
    """The options of `tailgrad plan`."""

    table: str = option(
        text="rollouts of the starting policy, such as 64 prompts with 1024 responses each: a rollout table, or "
        "rewards of your own",
        positional=True,
        metavar="TABLE",
    )
    out: str = same_option(CurveOptions, "out")
    deploy_n: int = option(128, "N: responses per prompt at deployment, at most half of those in the table")
    rollouts_per_step: int = option(128, "rollouts of one training step: prompts per step times m")
    num_generations: tuple[int, ...] | None = option(
        None, "m: rollouts per prompt in training; each must divide the rollouts per step (default: of 4 8 16 32 64)"
    )
    estimators: tuple[str, ...] | None = option(
        None,
        "estimators, with their options after a colon: max_at_k:k=4 (default: a list of likely ones)",
        metavar="NAME[:OPTION=VALUE,...]",
    )
    fidelity: str | None = option(
        None, "fidelity.json of `tailgrad fidelity` for this policy and reward", metavar="JSON"
    )
    prompt_column: str | None = same_option(CurveOptions, "prompt_column")
    reward_column: str | None = same_option(CurveOptions, "reward_column")
    seed: int = option(0, "seed of the groups and of the bootstrap (default 0)")


def make_parser() -> OptionParser[PlanOptions]:
    """The command's parser."""
    description = (
        "Say which estimator with which options, which m and how many prompts per step fit N, from one table of "
        "rewards of the starting policy. Prints the `tailgrad train` command to paste, and writes plan.png, plan.svg, "
        "plan.md and plan.json."
    )
    return OptionParser("plan", description, PlanOptions)


def run(words: Sequence[str]) -> None:
    """Make the plan, write it and print its text."""
    options = make_parser().read(words)
    check_least(0, seed=options.seed)
    from tailgrad.planning import make_plan, read_fidelity_report, write_plan

    columns = {"prompt_column": options.prompt_column, "reward_column": options.reward_column}
    table, out = open_of_one_reward("plan", options.table, **columns), expanded(options.out)
    measured = None
    if options.fidelity is not None:
        measured = read_fidelity_report(options.fidelity, options.deploy_n, table=table.metadata)
    plan = make_plan(
        table.rewards,
        deploy_n=options.deploy_n,
        estimators=options.estimators,
        m=options.num_generations,
        rollouts_per_step=options.rollouts_per_step,
        measured=measured,
        seed=options.seed,
    )
    print(write_plan(plan, out, table=table.metadata), end="")
    print(f"\nFigure, table and JSON: {out / 'plan'}.{{png,svg,md,json}}")
