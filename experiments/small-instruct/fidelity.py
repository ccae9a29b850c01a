"""Each estimator's gradient against that of V_N, at the small policy, for rewards with different upper tails.

    python experiments/small-instruct/fidelity.py

Samples a pool of responses to held-out Alpaca prompts, differentiates each once, and takes the same gradients with
every reward: the verifier, the verifier bent to a heavy and a light tail, the reward model and the larger model's
score. Needs what `run.py` makes. Writes a report for each reward to artifacts/pool, and `--out`/fidelity.{png,md} of
all; an interrupted run goes on.
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
from run import HERE, OUT, REWARDS, rollouts

from tailgrad.evaluation import Fidelity, FidelityPoint, break_even, gradient_fidelity, write_fidelity
from tailgrad.evaluation.fidelity_report import prompts_cell
from tailgrad.evaluation.figures import COLOURS, drawing
from tailgrad.evaluation.tables import aligned, interval_cell
from tailgrad.jobs import run_side_by_side
from tailgrad.rollouts import GradientConfig, read_table, sketch_gradients

ESTIMATORS = ["grpo", "dr_grpo", "max_at_k:k=4", "max_at_k:k=8", "cvar", "tea", "prefix_tea"]
ROLLOUTS = [16, 32]
BUDGETS = [32, 128]
MEASURES = ("direction", "step", "norm_ratio", "signal_to_noise")
POOL = OUT / "pool"


def summary(found: dict[str, Fidelity]) -> str:
    """Every measure of every estimator, a block a reward."""
    lines = [["reward", "N", "m", "estimator", *(name.replace("_", " ") for name in MEASURES)]]
    for label, fidelity in found.items():
        for point in fidelity.points:
            cells = [interval_cell(point.measures[name], 0, 3) for name in MEASURES]
            lines.append([label, str(point.deploy_n), str(point.m), point.estimator, *cells])
    return aligned(lines)


def break_even_table(found: dict[str, Fidelity]) -> str:
    """Prompts a step at which each estimator's step meets GRPO's, at the smallest m and the largest N."""
    rows = [["reward", *ESTIMATORS[1:]]]
    for label, fidelity in found.items():
        points = {one.estimator: one for one in shown(fidelity)}
        needed = [break_even(points[name], points[ESTIMATORS[0]], fidelity.prompts) for name in ESTIMATORS[1:]]
        rows.append([label, *map(prompts_cell, needed)])
    return aligned(rows)


def shown(fidelity: Fidelity) -> list[FidelityPoint]:
    """The points at the smallest m and the largest N."""
    return [one for one in fidelity.points if (one.m, one.deploy_n) == (min(ROLLOUTS), max(BUDGETS))]


def draw(found: dict[str, Fidelity], stem: Path) -> None:
    """A panel a reward: direction against signal to noise at the smallest m and the largest N."""
    with drawing(stem, (3.1 * len(found), 3.6)) as (figure, _):
        panels = figure.subplots(1, len(found), squeeze=False, sharex=True, sharey=True)[0]
        for panel, (label, fidelity) in zip(panels, found.items(), strict=True):
            for point, colour, mark in zip(shown(fidelity), itertools.cycle(COLOURS), "oooooos", strict=False):
                x, y = (point.measures[name] for name in ("signal_to_noise", "direction"))
                bars = {f"{axis}err": np.abs([[v.low[0]], [v.high[0]]] - v.mean) for axis, v in (("x", x), ("y", y))}
                panel.errorbar(
                    x.mean, y.mean, **bars, fmt=mark, color=colour, elinewidth=1, alpha=0.8, label=point.estimator
                )
            panel.set_xscale("log")
            panel.set_title(label)
            panel.set_xlabel("signal to noise of a step")
        panels[0].set_ylabel(f"cosine with the gradient of $V_{{{max(BUDGETS)}}}$")
        figure.legend(*panels[0].get_legend_handles_labels(), frameon=False, loc="outside right center")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE / "results" / "fidelity")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--n", type=int, default=1024, help="responses a prompt")
    args = parser.parse_args()
    tables = {label: POOL / f"{label}.parquet" for label in REWARDS}
    run_side_by_side([rollouts("small", "alpaca", tables, n=args.n, limit=args.prompts)], processes=1)
    source = {"table": tables["constraints"], "model": str(OUT / "policies" / "small")}
    gradients = sketch_gradients(GradientConfig(**source, out=POOL / "gradients"))
    found = {}
    for label, path in tables.items():
        table = read_table(path)
        found[label] = gradient_fidelity(
            table.rewards, gradients, estimators=ESTIMATORS, m=ROLLOUTS, deploy_n=BUDGETS, seed=0
        )
        print(f"{label}\n{write_fidelity(found[label], POOL / label, pool=table.metadata)}", flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    draw(found, args.out / "fidelity")
    text = f"{summary(found)}\n\nPrompts a step at which a step meets GRPO's\n\n{break_even_table(found)}\n"
    (args.out / "fidelity.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
