"""Stages of the experiment as commands: each runs once, logs its output and keeps its time."""

import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
DEPLOY_N = 128
MAX_TOKENS = 48
TRAINING = shlex.split(
    f"""--num_generations 16 --per_device_train_batch_size 128 --temperature 1.0 --deploy_n {DEPLOY_N}
    --max_completion_length {MAX_TOKENS} --advantage_scaling batch --warmup_steps 5 --lr_scheduler_type linear
    --bf16 false --gradient_checkpointing false --use_cpu true --report_to none --disable_tqdm true
    --logging_steps 5 --save_strategy steps --save_steps 20 --save_total_limit 1 --resume_from_checkpoint last"""
)


@dataclass(frozen=True)
class Training:
    """What differs between two trainings."""

    name: str
    estimator: str
    learning_rate: float
    kl_weight: float
    steps: int
    seed: int


@dataclass(frozen=True)
class Stages:
    """Commands that read prompts and base policy from `shared` and write models, tables and logs to `out`."""

    shared: Path
    out: Path
    reward: str = ""

    def call(self, name: str, command: list[str], result: Path) -> None:
        """Run a command unless its result is there, log it to `logs/<name>.log` and keep its time."""
        if result.exists():
            return
        log = self.out / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
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

    def script(self, name: str, options: list[str], result: Path) -> None:
        """Run a script of this folder."""
        self.call(name, [sys.executable, str(HERE / f"{name}.py"), *options], result)

    def train(self, training: Training) -> Path:
        """Train one policy, from its last checkpoint where there is one."""
        folder = self.out / training.name
        options = ["--model_name_or_path", str(self.shared / "policy"), "--reward_funcs", self.reward]
        options += ["--dataset_name", str(self.shared / "rl.jsonl"), "--output_dir", str(folder), *TRAINING]
        options += ["--estimator", training.estimator, "--learning_rate", str(training.learning_rate)]
        options += ["--beta", str(training.kl_weight), "--max_steps", str(training.steps)]
        self.tailgrad(training.name, "train", [*options, "--seed", str(training.seed)], folder / "model.safetensors")
        return folder

    def sample(self, name: str, model: Path, prompts: str, n: int, *, limit: int = 1000) -> Path:
        """Fill a rollout table of one policy on the first `limit` of the held-out prompts."""
        table = self.out / f"{name}-rollouts.parquet"
        options = ["--model_name_or_path", str(model), "--reward_funcs", self.reward]
        options += ["--dataset_name", str(self.shared / f"{prompts}.jsonl")]
        options += ["--reference_model", str(self.shared / "policy"), "--max_completion_length", str(MAX_TOKENS)]
        options += ["--n", str(n), "--limit", str(limit)]
        self.tailgrad(f"{name}-rollouts", "sample", [*options, "--out", str(table)], table)
        return table
