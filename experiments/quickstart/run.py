"""GRPO against TEA on the embedded task: tune both with equal effort, then compare over seeds on unseen prompts.

    python experiments/quickstart/run.py --out DIR

1. Every estimator is trained at each learning rate and KL weight with the tuning seeds, and judged by V_N at the
   deployment N on the validation prompts.
2. Each estimator, at its own best setting, is trained with the final seeds and sampled on the test prompts.
3. The same again with four times the prompts in a step, which halves the noise of the gradient; and TEA once more
   at GRPO's setting, since its own was chosen under more noise.

An interrupted run goes on where it stopped. Writes `tuning.json`, `frontier.png`, and reports as of
`tailgrad curve` for 2 (`report`, `report-against-grpo`) and 3 (`large-batch-report-against-grpo` and
`large-batch-swapped-report-against-grpo`).
"""

from __future__ import annotations

import argparse
import json
import shutil
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from tailgrad.curves import Rollouts, best_of_n, write_report
from tailgrad.files import replacing
from tailgrad.quickstart.config import QuickstartConfig
from tailgrad.quickstart.run import quickstart
from tailgrad.rollouts import read_rollouts

ESTIMATORS = ("grpo", "tea")
LEARNING_RATES = (1e-4, 3e-4, 1e-3)
KL_WEIGHTS = (0.02, 0.1)
TUNING_SEEDS = (100,)
FINAL_SEEDS = (0, 1, 2, 3, 4)
LARGE_BATCH = 32
LARGE_BATCH_SEEDS = (0, 1, 2)
SWAPPED_SEEDS = (0, 1)
DEPLOY_N = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for models, tables and reports")
    out = parser.parse_args().out
    rows = tune(out)
    (out / "tuning.json").write_text(json.dumps(rows, indent=1) + "\n")
    draw_frontier(rows, out / "frontier")
    for estimator in ESTIMATORS:
        print(estimator, best_setting(rows, estimator))
    best = {estimator: best_setting(rows, estimator) for estimator in ESTIMATORS}
    runs = train(out, best, "final", FINAL_SEEDS)
    write_report(runs, out / "report", m=16, deploy_n=DEPLOY_N)
    report_against_grpo(runs, out / "report-against-grpo")
    runs = train(out, best, "large-batch", LARGE_BATCH_SEEDS, prompts_per_step=LARGE_BATCH)
    report_against_grpo(runs, out / "large-batch-report-against-grpo")
    swapped = train(out, {"tea": best["grpo"]}, "large-batch-swapped", SWAPPED_SEEDS, prompts_per_step=LARGE_BATCH)
    grpo = [run for run in runs if run.name == "grpo"][: len(SWAPPED_SEEDS)]
    report_against_grpo([*swapped, *grpo], out / "large-batch-swapped-report-against-grpo")


def report_against_grpo(runs: list[Rollouts], folder: Path) -> None:
    write_report(runs, folder, reference="grpo", m=16, deploy_n=DEPLOY_N)
    print((folder / "curve.md").read_text())


def tune(out: Path) -> list[dict[str, Any]]:
    """Train every estimator at every setting and return V_1, V_N and KL on the validation prompts, a row a run."""
    rows = []
    for learning_rate, beta in product(LEARNING_RATES, KL_WEIGHTS):
        folder = out / "tuning" / f"lr{learning_rate:g}-beta{beta:g}"
        config = settings(out, folder, learning_rate, beta, seeds=TUNING_SEEDS, dataset_split="validation", n=DEPLOY_N)
        run_sharing_base(config, out / "base-validation.parquet")
        for estimator, seed in product(ESTIMATORS, TUNING_SEEDS):
            values = measure(folder / "rollouts" / f"{estimator}-seed{seed}.parquet")
            rows.append({"estimator": estimator, "learning_rate": learning_rate, "beta": beta, "seed": seed} | values)
    return rows


def settings(out: Path, folder: Path, learning_rate: float, beta: float, **changes: Any) -> QuickstartConfig:
    fixed = {"deploy_n": DEPLOY_N, "estimators": ESTIMATORS, "base": str(out / "base")}
    return QuickstartConfig(out=str(folder), learning_rate=learning_rate, beta=beta, **(fixed | changes))


def run_sharing_base(config: QuickstartConfig, shared: Path) -> None:
    """Run a quickstart; the base policy's rollouts are the same in all of them and sampled only once."""
    table = Path(config.out) / "rollouts" / "base.parquet"
    if shared.exists() and not table.exists():
        copy(shared, table)
    quickstart(config)
    copy(table, shared)


def copy(source: Path, path: Path) -> None:
    """Copy a file, which appears complete or not at all."""
    with replacing(path) as unfinished:
        shutil.copy(source, unfinished)


def measure(path: Path) -> dict[str, float]:
    run = read_rollouts(path, name="run")
    v_1, v_n = best_of_n(run.rewards, [1, DEPLOY_N]).mean(axis=0)
    return {"v_1": float(v_1), "v_n": float(v_n), "kl": float(np.mean(run.kl))}


def best_setting(rows: list[dict[str, Any]], estimator: str) -> tuple[float, float]:
    """Return the learning rate and the KL weight with the best mean V_N over the tuning seeds."""
    means = {
        setting: np.mean([row["v_n"] for row in rows if matches(row, estimator, *setting)])
        for setting in product(LEARNING_RATES, KL_WEIGHTS)
    }
    return max(means, key=lambda setting: means[setting])


def matches(row: dict[str, Any], estimator: str, learning_rate: float, beta: float) -> bool:
    return (row["estimator"], row["learning_rate"], row["beta"]) == (estimator, learning_rate, beta)


def draw_frontier(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw V_N against KL for every tuning run: methods move at different speeds, so equal steps alone mislead."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5.5, 4), layout="constrained")
    for estimator, marker in zip(ESTIMATORS, "os", strict=True):
        points = sorted((row["kl"], row["v_n"]) for row in rows if row["estimator"] == estimator)
        axes.plot(*zip(*points, strict=True), marker, label=estimator, alpha=0.8)
    axes.set(
        xscale="log", xlabel="KL to the base policy (nats per response)", ylabel=f"V_{DEPLOY_N}, validation prompts"
    )
    axes.legend(frameon=False)
    figure.savefig(path.with_suffix(".png"), dpi=160)
    plt.close(figure)


def train(
    out: Path, chosen: dict[str, tuple[float, float]], part: str, seeds: tuple[int, ...], **changes: Any
) -> list[Rollouts]:
    """Train estimators at their learning rates and KL weights; return the runs on the test prompts, base first."""
    runs = []
    for estimator, (learning_rate, beta) in chosen.items():
        folder = out / part / estimator
        config = settings(out, folder, learning_rate, beta, seeds=seeds, estimators=(estimator,), **changes)
        run_sharing_base(config, out / "base-test.parquet")
        tables = [("base", folder / "rollouts" / "base.parquet")] if not runs else []
        tables += [(estimator, folder / "rollouts" / f"{estimator}-seed{seed}.parquet") for seed in seeds]
        runs += [read_rollouts(path, name=name) for name, path in tables]
    return runs


if __name__ == "__main__":
    main()
