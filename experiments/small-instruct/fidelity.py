"""Each estimator's gradient against that of V_N, at the small policy, for rewards with different upper tails.

    python experiments/small-instruct/fidelity.py

Samples a pool of responses to held-out Alpaca prompts, differentiates each once, and takes the same gradients with
every reward: the verifier, the verifier bent to a heavy and a light tail, the reward model and the larger model's
score. Needs what `run.py` makes. Writes `--out`/REWARD/fidelity.{png,md,json} and `--out`/summary.md; an interrupted
run goes on.
"""

import argparse
from pathlib import Path

from run import HERE, OUT, REWARDS, rollouts

from tailgrad.evaluation import Fidelity, gradient_fidelity, write_fidelity
from tailgrad.evaluation.tables import aligned
from tailgrad.jobs import run_side_by_side
from tailgrad.rollouts import GradientConfig, read_table, sketch_gradients

ESTIMATORS = ["grpo", "dr_grpo", "max_at_k:k=4", "max_at_k:k=8", "cvar", "tea", "prefix_tea"]
ROLLOUTS = [16, 32]
BUDGETS = [32, 128]
SHOWN = ("direction", "signal_to_noise")
POOL = OUT / "pool"


def summary(found: dict[str, Fidelity]) -> str:
    """Direction and signal to noise of every estimator, a block a reward."""
    lines = [["reward", "N", "m", "estimator", *(name.replace("_", " ") for name in SHOWN)]]
    for label, fidelity in found.items():
        for point in fidelity.points:
            cells = []
            for name in SHOWN:
                interval = point.measures[name]
                cells.append(f"{interval.mean[0]:.3f} [{interval.low[0]:.3f}, {interval.high[0]:.3f}]")
            lines.append([label, str(point.deploy_n), str(point.m), point.estimator, *cells])
    return aligned(lines)


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
        print(f"{label}\n{write_fidelity(found[label], args.out / label, pool=table.metadata)}", flush=True)
    (args.out / "summary.md").write_text(summary(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
