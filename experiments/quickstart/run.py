"""Estimators on the embedded task: tune all with equal effort, then compare over seeds on unseen prompts.

    python experiments/quickstart/run.py

1. Every estimator is trained at each learning rate and KL weight with the tuning seed, and judged by V_N on the
   validation prompts.
2. Each estimator, at its own best setting, is trained with the five final seeds and sampled on the test prompts, also
   at steps in between.

Both are grids (`tailgrad grid`): an interrupted run goes on where it stopped, and every measurement is a row of
`results/rows.parquet`, which is all that `report.py` reads.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from itertools import product
from pathlib import Path

from tailgrad.grid.choosing import v_n
from tailgrad.grid.config import GridConfig
from tailgrad.grid.results import Row, read_results
from tailgrad.grid.run import run_grid
from tailgrad.grid.trainings import Training, cells, choosing, key_of
from tailgrad.quickstart.policy import is_fitted
from tailgrad.quickstart.run import VERIFIER
from tailgrad.quickstart.task import build_prompts

HERE = Path(__file__).parent
DEPLOY_N = 128
ESTIMATORS = (
    "grpo",
    "max_at_k:k=4,baseline=loo",
    "flat_tea",
    "tea",
    "rs_grpo:risk_beta=1,units=spread",
    "max_at_k:k=8,baseline=loo",
    "flat_tea:tail_fraction=0.5",
    "flat_tea:extrapolate_n=16",
    "cvar",
    "prefix_tea",
    "dr_grpo",
    "flat_tea:tail_fraction=0.25",
)
LEARNING_RATES = (3e-4, 6e-4, 1.2e-3, 2.4e-3)
KL_WEIGHTS = (0.02, 0.1)
TUNING_SEED = 100
FINAL_SEEDS = (0, 1, 2, 3, 4)
TRAIN = {
    "max_steps": 100,
    "max_completion_length": 40,
    "advantage_scaling": "batch",
    "lr_scheduler_type": "constant_with_warmup",
    "warmup_steps": 5,
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifacts", type=Path, default=HERE / "artifacts", help="folder for models and tables")
    parser.add_argument("--results", type=Path, default=HERE / "results" / "rows.parquet", help="the results table")
    parser.add_argument("--estimators", nargs="+", default=list(ESTIMATORS), help="only these (default: all)")
    parser.add_argument("--seeds", type=int, nargs="*", default=list(FINAL_SEEDS), help="final seeds; none: tune only")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    make_inputs(given.artifacts)
    config = tuning_grid(given.results, given.artifacts, tuple(given.estimators), given.processes)
    run_grid(config)
    for final in final_grids(config, tuple(given.seeds)) if given.seeds else ():
        run_grid(final)


def make_inputs(artifacts: Path) -> None:
    """Write the prompts and fit the base policy, where they are not there."""
    artifacts.mkdir(parents=True, exist_ok=True)
    for split in ("train", "validation", "test"):
        text = "".join(json.dumps(row) + "\n" for row in build_prompts(split))
        (artifacts / f"{split}.jsonl").write_text(text)
    if not is_fitted(artifacts / "base"):
        subprocess.run([sys.executable, "-m", "tailgrad.quickstart.policy", str(artifacts / "base")], check=True)


def tuning_grid(results: Path, artifacts: Path, estimators: tuple[str, ...], processes: int) -> GridConfig:
    """Every estimator at every learning rate and KL weight, with one seed."""
    return GridConfig(
        results=results,
        work=artifacts / "tune",
        policies={"base": str((artifacts / "base").resolve())},
        rewards={"verifier": VERIFIER},
        prompts={
            "task": {
                use: str((artifacts / f"{split}.jsonl").resolve())
                for use, split in {"train": "train", "choose": "validation", "test": "test"}.items()
            }
        },
        estimators=estimators,
        budgets=((16, DEPLOY_N),),
        learning_rates=LEARNING_RATES,
        kl_weights=KL_WEIGHTS,
        seeds=(TUNING_SEED,),
        train=TRAIN,
        sample={"max_new_tokens": 40, "batch_size": 512},
        test_n=DEPLOY_N,
        choose_n=128,
        processes=processes,
    )


def final_grids(tuning: GridConfig, seeds: tuple[int, ...]) -> list[GridConfig]:
    """One grid for each pair of learning rate and KL weight that some estimator is best at."""
    members = defaultdict(list)
    for estimator, setting in best_settings(tuning, read_results(tuning.results)).items():
        members[setting].append(estimator)
    return [
        replace(
            tuning,
            work=tuning.work.parent / "final" / f"lr{rate:g}-kl{weight:g}",
            estimators=tuple(estimators),
            learning_rates=(rate,),
            kl_weights=(weight,),
            seeds=seeds,
            checkpoints=(25, 50),
            checkpoint_n=DEPLOY_N,
            test_n=1024,
        )
        for (rate, weight), estimators in members.items()
    ]


def best_settings(tuning: GridConfig, rows: list[Row]) -> dict[str, tuple[float, float]]:
    """Learning rate and KL weight with the highest V_N on the validation prompts, by estimator."""
    values = {
        (training.estimator, training.learning_rate, training.kl_weight): float(v_n(row, DEPLOY_N).mean())
        for training, row in tuning_rows(tuning, rows)
    }
    settings = list(product(tuning.learning_rates, tuning.kl_weights))
    return {name: max(settings, key=lambda setting: values[name, *setting]) for name in tuning.estimators}


def tuning_rows(tuning: GridConfig, rows: list[Row]) -> list[tuple[Training, Row]]:
    """The measurements that settings are chosen by, each with its training."""
    found = {row["key"]: row for row in rows}
    trainings = [
        replace(cell, learning_rate=rate, seed=TUNING_SEED) for cell in cells(tuning) for rate in tuning.learning_rates
    ]
    return [(training, found[key_of(tuning, training, choosing(tuning, training)[0])]) for training in trainings]


if __name__ == "__main__":
    main()
