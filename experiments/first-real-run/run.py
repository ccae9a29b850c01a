"""The whole first real run, from the instructions to the curves.

    python experiments/first-real-run/run.py --data DIR --out DIR

Stages: prompts, policy, learning-rate choice, training by GRPO and TEA, rollouts on the held-out prompts,
curves, examples. A stage whose result stands in `--out` is skipped and an interrupted one is taken up again,
so that the same command continues the run. Output and run time of each command stand in `--out`/logs.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np

from tailgrad.rollouts.table import read_table

HERE = Path(__file__).parent
ESTIMATORS = ("grpo", "tea")
LEARNING_RATES = (1e-4, 3e-4, 1e-3)
CHOICE_STEPS = 30
STEPS = 70
DEPLOY_N = 128
CURVE_PROMPTS = 48
SEED = 0
EXAMPLES = 8
TRAINING = shlex.split(
    """--reward_funcs verifier.score --num_generations 16 --per_device_train_batch_size 128 --temperature 1.0
    --max_completion_length 48 --beta 0.04 --advantage_scaling batch --warmup_steps 5
    --lr_scheduler_type linear --bf16 false --gradient_checkpointing false --use_cpu true
    --report_to none --disable_tqdm true --logging_steps 5 --save_strategy steps --save_steps 20
    --save_total_limit 1 --resume_from_checkpoint last"""
)


class Run:
    """The folder of the run, its commands and their times."""

    def __init__(self, data: Path, out: Path) -> None:
        self.data, self.out = data.resolve(), out.resolve()
        self.out.mkdir(parents=True, exist_ok=True)

    def call(self, name: str, command: list[str], result: Path) -> None:
        """Run a command unless its result is there, log it to `logs/<name>.log` and keep its time."""
        if result.exists():
            return
        log = self.out / "logs" / f"{name}.log"
        log.parent.mkdir(exist_ok=True)
        print(f"{name}: {shlex.join(command)}", flush=True)
        start = time.time()
        environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        with log.open("a") as lines:
            done = subprocess.run(
                command, cwd=HERE, env=environment, stdout=lines, stderr=subprocess.STDOUT, check=False
            )
        if done.returncode:
            raise SystemExit(f"{name} failed with exit code {done.returncode}; see {log}")
        (log.with_suffix(".json")).write_text(json.dumps({"command": command, "seconds": round(time.time() - start)}))

    def tailgrad(self, name: str, command: str, options: list[str], result: Path) -> None:
        """Run a command of the `tailgrad` console script that stands beside this Python."""
        self.call(name, [str(Path(sys.executable).with_name("tailgrad")), command, *options], result)

    def script(self, name: str, result: Path) -> None:
        """Run a script of this folder."""
        options = ["--data", str(self.data), "--out", str(self.out)]
        self.call(name, [sys.executable, str(HERE / f"{name}.py"), *options], result)

    def train(self, name: str, estimator: str, learning_rate: float, steps: int) -> Path:
        """Train one policy, from its last checkpoint where there is one."""
        folder = self.out / name
        options = ["--model_name_or_path", str(self.out / "policy")]
        options += ["--dataset_name", str(self.out / "rl.jsonl"), "--output_dir", str(folder)]
        options += ["--estimator", estimator, "--deploy_n", str(DEPLOY_N), *TRAINING]
        options += ["--learning_rate", str(learning_rate), "--max_steps", str(steps), "--seed", str(SEED)]
        self.tailgrad(name, "train", options, folder / "model.safetensors")
        return folder

    def sample(self, name: str, model: Path, prompts: str, n: int, limit: int = 1000) -> Path:
        """Fill a rollout table of one policy on the first `limit` of the held-out prompts."""
        table = self.out / f"{name}.parquet"
        data_set = self.out / f"{prompts}.jsonl"
        options = ["--model", str(model), "--dataset", str(data_set), "--reward", "verifier.score"]
        options += ["--reference_model", str(self.out / "policy"), "--n", str(n), "--max_new_tokens", "48"]
        options += ["--limit", str(limit)]
        self.tailgrad(name, "sample", [*options, "--seed", str(SEED), "--out", str(table)], table)
        return table


def mean_best(table: Path) -> float:
    """Mean over prompts of the best reward of all rollouts of a table."""
    return float(np.nanmax(read_table(table).rewards, axis=1).mean())


def choose_learning_rates(run: Run) -> dict[str, float]:
    """The learning rate of each estimator: the same rates, steps and choosing prompts for both, by V_128."""
    path = run.out / "choice.json"
    if not path.exists():

        def value(trial: tuple[str, float]) -> float:
            estimator, learning_rate = trial
            name = f"choice-{estimator}-{learning_rate:g}"
            model = run.train(name, estimator, learning_rate, CHOICE_STEPS)
            return mean_best(run.sample(f"{name}-rollouts", model, "choose", DEPLOY_N))

        trials = list(product(ESTIMATORS, LEARNING_RATES))
        with ThreadPoolExecutor(2) as pool:
            values = dict(zip(trials, pool.map(value, trials), strict=True))
        chosen = {name: max(LEARNING_RATES, key=lambda rate: values[name, rate]) for name in ESTIMATORS}
        table = [{"estimator": name, "learning_rate": rate, "v_128": v} for (name, rate), v in values.items()]
        path.write_text(json.dumps({"chosen": chosen, "trials": table}, indent=1) + "\n")
    return dict(json.loads(path.read_text())["chosen"])


def write_examples(run: Run, tables: dict[str, Path]) -> None:
    """The first rollout and the best of the first 128 of each policy on the first held-out prompts."""
    read = {name: read_table(path) for name, path in tables.items()}
    lines = ["# Example responses on held-out prompts (reward in brackets)", ""]
    for row, prompt in enumerate(next(iter(read.values())).prompts[:EXAMPLES]):
        lines += [f"**{json.loads(prompt)[-1]['content']}**", ""]
        for name, table in read.items():
            best = int(np.nanargmax(table.rewards[row, :DEPLOY_N]))
            for kind, at in (("first", 0), (f"best of {DEPLOY_N}", best)):
                response = table.responses[row][at].strip().replace("\n", " / ")
                lines.append(f"- {name}, {kind} [{table.rewards[row, at]:.2f}]: {response}")
        lines.append("")
    (run.out / "examples.md").write_text("\n".join(lines))


def first_real_run(run: Run) -> None:
    """All stages in order; two processes side by side where two policies are trained or sampled."""
    run.script("make_prompts", run.out / "test.jsonl")
    run.script("fit_policy", run.out / "policy" / "fit.json")
    base = run.sample("base", run.out / "policy", "test", 256)
    check = [sys.executable, str(HERE / "check_task.py"), "--rollouts", str(base), "--out", str(run.out)]
    run.call("check_task", check, run.out / "qq.png")
    rates = choose_learning_rates(run)

    def model_of(name: str) -> Path:
        return run.out / "policy" if name == "base" else run.train(f"{name}-model", name, rates[name], STEPS)

    def table_of(name: str) -> Path:
        return run.sample(f"curve-{name}", model_of(name), "test", DEPLOY_N, CURVE_PROMPTS)

    names = (*ESTIMATORS, "base")
    with ThreadPoolExecutor(2) as pool:
        tables = dict(zip(names, pool.map(table_of, names), strict=True))
    tables = {name: tables[name] for name in ("base", *ESTIMATORS)}
    options = [*map(str, tables.values()), "--names", *tables, "--out", str(run.out / "report")]
    options += ["--m", "16", "--deploy_n", str(DEPLOY_N)]
    run.tailgrad("curve", "curve", options, run.out / "report" / "curve.json")
    write_examples(run, tables)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with alpaca.jsonl.gz")
    parser.add_argument("--out", type=Path, required=True, help="folder for prompts, policies, rollouts and report")
    args = parser.parse_args()
    first_real_run(Run(args.data, args.out))


if __name__ == "__main__":
    main()
