"""CPU seconds of a training step and of sampling, by what they go into, for variants of the options side by side.

    python benchmarks/steps.py train --model_name_or_path FOLDER --prompts FILE
    python benchmarks/steps.py train ... --variants "" "--bf16 true" "MALLOC_ARENA_MAX=1 --dtype bfloat16"
    python benchmarks/steps.py sample ...

A variant is more options of `tailgrad train` or `tailgrad sample`, environment variables before them; the first is what
the others are compared with. Each runs in a process of its own, all in turn, `--rounds` times, and the least counts.
The first step, and the first part of a table, are left out: they plan kernels.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

COMMON = "--reward_funcs steps.reward --seed 0"
TRAIN = (
    "--num_generations 16 --max_completion_length 32 --beta 0.04 --use_peft true --lora_r 16 --lora_dropout 0 "
    "--lora_target_modules all-linear --gradient_accumulation_steps 4 --per_device_train_batch_size 8 "
    "--learning_rate 1e-4 --logging_steps 1 --report_to none --save_strategy no"
)
SAMPLE = "--n 64 --batch_size 64 --max_completion_length 32"
ASIDE = ("kernel", "GiB", "tokens")


def reward(completions: list[Any], **columns: Any) -> list[float]:
    """Different letters of a response."""
    texts = [one if isinstance(one, str) else one[-1]["content"] for one in completions]
    return [float(len(set(text))) for text in texts]


class Phases:
    """Books processor time and the kernel's share of it to the innermost of the phases that run."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Forget what was booked."""
        self.seconds: Counter[str] = Counter()
        self._running, self._last = ["the rest"], _clock()

    def book(self) -> None:
        """Book what was used since the last call."""
        now = _clock()
        self.seconds[self._running[-1]] += now[0] - self._last[0]
        self.seconds["kernel"] += now[1] - self._last[1]
        self._last = now

    @contextmanager
    def within(self, name: str) -> Iterator[None]:
        """Book to this phase."""
        self.book()
        self._running.append(name)
        try:
            yield
        finally:
            self.book()
            self._running.pop()

    def time(self, owner: Any, method: str, name: str | Callable[[], str]) -> None:
        """Book the calls of a method, or of a function of a module, to a phase."""
        original = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.within(name if isinstance(name, str) else name()):
                return original(*args, **kwargs)

        setattr(owner, method, timed)


def _clock() -> tuple[float, float]:
    return time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_stime


def train(words: list[str], steps: int) -> dict[str, float]:
    """Train, and return CPU seconds per step by phase; `tailgrad` is what our classes do in their own methods."""
    import torch
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer
    from transformers.trainer_callback import CallbackHandler
    from trl import GRPOTrainer

    from tailgrad.training import launch
    from tailgrad.training.trainer import TailGRPOTrainer

    phases, ends = Phases(), []
    ours = [owner for owner in TailGRPOTrainer.__mro__ if owner.__module__.startswith("tailgrad")]
    named = {
        "_generate_single_turn": "generation",
        "_calculate_rewards": "scoring",
        "_get_per_token_logps_and_entropies": lambda: "forward" if torch.is_grad_enabled() else "log-probabilities",
    }
    methods = {name for owner in ours for name, value in vars(owner).items() if callable(value)} - {"__init__", "train"}
    for name in {*methods, *named}:
        for owner in ours:
            if name in vars(owner):
                phases.time(owner, name, "tailgrad")
        if hasattr(GRPOTrainer, name):
            phases.time(GRPOTrainer, name, named.get(name, "the rest"))
    phases.time(Accelerator, "backward", "backward")
    phases.time(AcceleratedOptimizer, "step", "optimiser")
    step_end = CallbackHandler.on_step_end

    def on_step_end(*args: Any, **kwargs: Any) -> Any:
        result = step_end(*args, **kwargs)
        ends.append(phases.book())
        if len(ends) == 1:
            phases.start()
        elif len(ends) == steps + 1:
            ends.append(dict(phases.seconds))
        return result

    CallbackHandler.on_step_end = on_step_end
    with tempfile.TemporaryDirectory() as folder:
        launch.train([*words, "--max_steps", str(steps + 1), "--output_dir", folder])
    return {name: seconds / steps for name, seconds in ends[-1].items()}


def sample(words: list[str], parts: int) -> dict[str, float]:
    """Sample, and return CPU seconds per part by phase, and the tokens."""
    from tailgrad.options import OptionParser
    from tailgrad.rollouts import SampleConfig, shards
    from tailgrad.rollouts import sample as sample_table

    phases, done = Phases(), []
    for name, phase in {"generate": "generation", "response_logprobs": "log-probabilities", "score": "scoring"}.items():
        if hasattr(shards, name):
            phases.time(shards, name, phase)
    rows = shards.Sampler.rows

    def timed_rows(self: Any, part: range) -> Any:
        phases.book()
        if len(done) == 1:
            phases.start()
        made = rows(self, part)
        phases.book()
        done.append(sum(map(len, made["token_ids"])))
        return made

    shards.Sampler.rows = timed_rows
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "table.parquet")
        limit = ["--limit", str(parts + 1), "--out", str(out)]
        sample_table(OptionParser("sample", "", SampleConfig).read([*words, *limit]))
    return {name: seconds / parts for name, seconds in phases.seconds.items()} | {"tokens": sum(done[1:]) / parts}


def measure(what: str, options: Sequence[str], variables: dict[str, str], count: int) -> dict[str, float]:
    """Run one variant in a process of its own."""
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent), (os.environ | variables).get("PYTHONPATH")]))
    command = [sys.executable, __file__, "--child", json.dumps([what, options, count])]
    ran = subprocess.run(command, env=os.environ | variables | {"PYTHONPATH": path}, capture_output=True, text=True)
    if ran.returncode:
        sys.exit(ran.stderr)
    found: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return found | {"CPU": sum(seconds for name, seconds in found.items() if name not in ASIDE)}


def child(what: str, options: list[str], count: int) -> None:
    """Measure in this process and print it as the last line."""
    found = {"train": train, "sample": sample}[what](options, count)
    found["GiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print("\n" + json.dumps(found))


def row(variant: str, found: dict[str, float], first: dict[str, float]) -> str:
    """One line of the table: shares of the processor time, and the time as a ratio to the first variant's."""
    shares = [f"{name} {seconds / found['CPU']:.2%}" for name, seconds in found.items() if name not in (*ASIDE, "CPU")]
    tokens = [f"{found['tokens'] / found['CPU']:.0f} tokens per s"] if "tokens" in found else []
    kernel, peak = f"kernel {found['kernel'] / found['CPU']:.1%}", f"{found['GiB']:.1f} GiB"
    cells = [f"{found['CPU']:.1f} s", f"{found['CPU'] / first['CPU']:.2f}", ", ".join(shares), kernel, peak, *tokens]
    return f"| `{variant}` | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "sample"])
    parser.add_argument("--model_name_or_path", required=True)
    parser.add_argument("--prompts", required=True, help="a file of prompts")
    parser.add_argument("--variants", nargs="+", default=[""])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--count", type=int, default=1, help="steps, or prompts")
    args = parser.parse_args()
    given = f"--model_name_or_path {args.model_name_or_path} --dataset_name {args.prompts}"
    always = shlex.split(f"{given} {COMMON} {TRAIN if args.what == 'train' else SAMPLE}")
    best: dict[str, dict[str, float]] = {}
    for _ in range(args.rounds):
        for variant in args.variants:
            words = shlex.split(variant)
            variables = dict(word.split("=", 1) for word in words if re.match(r"[A-Z_]+=", word))
            found = measure(args.what, [*always, *words[len(variables) :]], variables, args.count)
            best[variant] = min(best.get(variant, found), found, key=lambda one: one["CPU"])
            print(row(variant, found, best[args.variants[0]]), flush=True)
    print("\nThe least of each:\n")
    for variant, found in best.items():
        print(row(variant, found, best[args.variants[0]]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*json.loads(sys.argv[2]))
    else:
        main()
