"""The whole first real run, from the instructions to the curves.

    python experiments/first-real-run/run.py --data DIR --out DIR [--reward verifier|model]

Stages: prompts, policy, (reward model,) choice of the learning rates, training by GRPO and TEA, rollouts on the
held-out prompts, curves, examples. A stage whose result stands in `--out` is skipped and an interrupted one is
taken up again, so that the same command continues the run. Output and run time of each command stand in the
folders `logs`.
"""

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from stages import DEPLOY_N, Stages, Training

from tailgrad.curves import best_of_n, write_report
from tailgrad.rollouts import read_rollouts

ESTIMATORS = ("grpo", "tea")
CHOICE_STEPS = 30
STEPS = 70
CURVE_PROMPTS = 48
EXAMPLES = 8
PROCESSES = 2


@dataclass(frozen=True)
class Plan:
    """What is tried with a reward: every rate at every KL weight, then the best rate of each with its seeds.

    A single rate is taken as it is.
    """

    learning_rates: tuple[float, ...]
    seeds: dict[float, tuple[int, ...]]
    """Training seeds of each KL weight."""


PLANS = {
    "verifier": Plan((1e-4, 3e-4, 1e-3, 3e-3), {0.04: (0,), 0.2: (0, 1, 2)}),
    "model": Plan((1e-3,), {0.2: (0,)}),
}


def in_parallel(function: Any, items: list[Any]) -> list[Any]:
    """Apply a function to every item, two at a time, in order."""
    with ThreadPoolExecutor(PROCESSES) as pool:
        return list(pool.map(function, items))


def choose_learning_rates(stages: Stages, plan: Plan) -> dict[tuple[str, float], float]:
    """The learning rate of each estimator at each KL weight: the same trials for both, judged by V_128."""
    if len(plan.learning_rates) == 1:
        return dict.fromkeys(product(ESTIMATORS, plan.seeds), plan.learning_rates[0])

    def trial(setting: tuple[str, float, float]) -> dict[str, Any]:
        estimator, kl_weight, rate = setting
        name = f"choice-{estimator}-kl{kl_weight:g}-lr{rate:g}"
        model = stages.train(Training(name, estimator, rate, kl_weight, CHOICE_STEPS, seed=0))
        run = read_rollouts(stages.sample(name, model, "choose", DEPLOY_N), name=name)
        value = float(best_of_n(run.rewards, [DEPLOY_N]).mean())
        return {
            "estimator": estimator,
            "kl_weight": kl_weight,
            "learning_rate": rate,
            "v_128": value,
            "kl": float(np.mean(run.kl)),
        }

    rows = in_parallel(trial, list(product(ESTIMATORS, plan.seeds, plan.learning_rates)))
    (stages.out / "choice.json").write_text(json.dumps(rows, indent=1) + "\n")
    best: dict[tuple[str, float], dict[str, Any]] = {}
    for row in rows:
        key = row["estimator"], row["kl_weight"]
        if key not in best or row["v_128"] > best[key]["v_128"]:
            best[key] = row
    return {key: row["learning_rate"] for key, row in best.items()}


def write_examples(path: Path, tables: dict[str, Path]) -> None:
    """The first rollout and the best of the first 128 of each policy on the first held-out prompts."""
    read = {name: read_rollouts(path) for name, path in tables.items()}
    lines = ["# Example responses on held-out prompts (reward in brackets)", ""]
    for row, prompt in enumerate(next(iter(read.values())).prompts[:EXAMPLES]):
        lines += [f"**{json.loads(prompt)[-1]['content']}**", ""]
        for name, table in read.items():
            best = int(np.nanargmax(table.rewards[row, :DEPLOY_N]))
            for kind, at in (("first", 0), (f"best of {DEPLOY_N}", best)):
                response = table.responses[row][at].strip().replace("\n", " / ")
                lines.append(f"- {name}, {kind} [{table.rewards[row, at]:.2f}]: {response}")
        lines.append("")
    path.write_text("\n".join(lines))


def prepare(data: Path, out: Path) -> None:
    """Prompts, base policy and the check of the verifier's tail."""
    stages = Stages(out, out, "verifier.score")
    options = ["--data", str(data), "--out", str(out)]
    stages.script("make_prompts", options, out / "test.jsonl")
    stages.script("fit_policy", options, out / "policy" / "fit.json")
    base = stages.sample("base", out / "policy", "test", 256)
    stages.script("check_task", ["--rollouts", str(base), "--out", str(out)], out / "qq.png")


def reward_of(name: str, data: Path, out: Path) -> str:
    """The reward as the commands take it; the reward model is trained where it is asked for and missing."""
    if name == "verifier":
        return "verifier.score"
    model = out / "reward-model"
    options = ["--data", str(data), "--out", str(out)]
    Stages(out, out).script("reward_model", options, model / "accuracy.json")
    return str(model)


def compare(stages: Stages, plan: Plan) -> None:
    """Train with every seed at the chosen settings, sample the held-out prompts and write the reports."""
    rates = choose_learning_rates(stages, plan)
    finals = []
    for weight, seeds in plan.seeds.items():
        for seed, name in product(seeds, ESTIMATORS):
            rate = rates[name, weight]
            label = f"{name}-kl{weight:g}-lr{rate:g}-seed{seed}"
            finals.append(Training(label, name, rate, weight, STEPS, seed))

    def table_of(training: Training) -> Path:
        model = stages.train(training)
        return stages.sample(training.name, model, "test", DEPLOY_N, limit=CURVE_PROMPTS)

    base = stages.sample("base", stages.shared / "policy", "test", DEPLOY_N, limit=CURVE_PROMPTS)
    tables = dict(zip(finals, in_parallel(table_of, finals), strict=True))
    for weight in plan.seeds:
        chosen = {training: path for training, path in tables.items() if training.kl_weight == weight}
        runs = [read_rollouts(base, name="base")]
        runs += [read_rollouts(path, name=training.estimator) for training, path in chosen.items()]
        for reference in ("base", "grpo"):
            folder = stages.out / f"report-kl{weight:g}-against-{reference}"
            write_report(runs, folder, reference=reference, m=16, deploy_n=DEPLOY_N)
        first = {training.estimator: path for training, path in chosen.items() if training.seed == 0}
        write_examples(stages.out / f"examples-kl{weight:g}.md", {"base": base, **first})


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with alpaca.jsonl.gz")
    parser.add_argument("--out", type=Path, required=True, help="folder for prompts, policies, rollouts and reports")
    parser.add_argument("--reward", choices=PLANS, default="verifier", help="a graded verifier, or a reward model")
    args = parser.parse_args()
    data, out = args.data.resolve(), args.out.resolve()
    prepare(data, out)
    stages = Stages(out, out / args.reward, reward_of(args.reward, data, out))
    compare(stages, PLANS[args.reward])


if __name__ == "__main__":
    main()
