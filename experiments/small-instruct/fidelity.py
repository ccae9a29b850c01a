"""Each estimator's gradient against that of V_N, at the small policy, for rewards with different upper tails.

    python experiments/small-instruct/fidelity.py

Samples a pool of responses to held-out Alpaca prompts, differentiates each once, and takes the same gradients with
every reward: the verifier, the verifier bent to a heavy and a light tail, the reward model and the larger model's
score. Needs what `run.py` makes. Writes a report for each reward to artifacts/pool-PxN, and `--out`/fidelity.{png,md}
of all; an interrupted run goes on.
"""

import argparse
from pathlib import Path

import numpy as np
from run import HERE, OUT, rewards_at_hand, rollouts

from tailgrad.display.style import COLOURS, drawing
from tailgrad.fidelity import Fidelity, FidelityPoint, gradient_fidelity, write_fidelity
from tailgrad.fidelity.gradient_store import GradientConfig, sketch_gradients
from tailgrad.rollouts import read_rollouts
from tailgrad.runner import run_side_by_side

ESTIMATORS = ["grpo", "dr_grpo", "max_at_k:k=4", "max_at_k:k=8", "cvar", "tea", "prefix_tea"]
ROLLOUTS = [16, 32]
BUDGETS = [64, 128]


def shown(fidelity: Fidelity) -> list[FidelityPoint]:
    """The points at the smallest m and the largest N."""
    return [one for one in fidelity.points if (one.m, one.deploy_n) == (min(ROLLOUTS), max(BUDGETS))]


def draw(found: dict[str, Fidelity], stem: Path) -> None:
    """A panel a reward: direction against signal to noise at the smallest m and the largest N."""
    with drawing(stem, (3.1 * len(found), 3.6)) as (figure, _):
        panels = figure.subplots(1, len(found), squeeze=False, sharex=True, sharey=True)[0]
        for panel, (label, fidelity) in zip(panels, found.items(), strict=True):
            for i, point in enumerate(shown(fidelity)):
                x, y = (point.measures[name] for name in ("signal_to_noise", "direction"))
                bars = {f"{axis}err": np.abs([[v.low[0]], [v.high[0]]] - v.mean) for axis, v in (("x", x), ("y", y))}
                style = {"fmt": "os^"[i // len(COLOURS)], "color": COLOURS[i % len(COLOURS)]}
                panel.errorbar(x.mean, y.mean, **bars, **style, elinewidth=1, alpha=0.8, label=point.estimator)
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
    parser.add_argument("--n", type=int, default=1024, help="responses per prompt")
    args = parser.parse_args()
    pool = OUT / f"pool-{args.prompts}x{args.n}"
    tables = {label: pool / f"{label}.parquet" for label in rewards_at_hand()}
    run_side_by_side([rollouts("small", "alpaca", tables, n=args.n, limit=args.prompts)], processes=1)
    sampled = read_rollouts(tables["constraints"])
    source = {"table": tables["constraints"], "model_name_or_path": str(OUT / "policies" / "small")}
    gradients = sketch_gradients(GradientConfig(**source, out=pool / "gradients"))
    found, parts = {}, []
    for label, path in tables.items():
        table = read_rollouts(path)
        if table.responses != sampled.responses:
            raise SystemExit(f"{path} scores other responses than {tables['constraints']}: delete it and start again.")
        asked = {"estimators": ESTIMATORS, "m": ROLLOUTS, "deploy_n": BUDGETS}
        found[label] = gradient_fidelity(table.rewards, gradients, **asked, seed=0)
        parts.append(f"# {label}\n\n{write_fidelity(found[label], pool / label, pool=table.metadata)}")
        print(parts[-1], flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    draw(found, args.out / "fidelity")
    (args.out / "fidelity.md").write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
