"""Time and peak memory of every estimator, as ratios to one `torch.sort` of the same tensor in the same run.

    python benchmarks/estimators.py

The third ratio is that of a Python loop over the groups, the form of reference listings, to the batched call. Runs on
the CPU with one thread, and on the GPU too where there is one. Prints the tables of benchmarks/README.md.
"""

import math
import multiprocessing
import platform
import resource
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tailgrad import __version__
from tailgrad.estimators import ESTIMATORS, bind, leave_two_out

SHAPES = ((4096, 64), (512, 16), (64, 1024))
OPTIONS: dict[str, dict[str, Any]] = {
    "tea": {"deploy_n": 2048},
    "flat_tea": {"deploy_n": 2048},
    "prefix_tea": {"deploy_n": 2048},
    "max_at_k": {"k": 8},
    "order_grad": {"k": 8, "top": 2},
    "bon_rl": {"deploy_n": 2048},
    "cat_bon": {"deploy_n": 2048},
    "pass_at_k": {"k": 8},
    "pass_at_n": {"deploy_n": 2048},
    "rs_grpo": {"risk_beta": 1.0},
}
LEAVE_TWO_OUT = "leave_two_out "
ZERO_ONE = {"pass_at_k", "pass_at_n", "max_rl", "f_grpo"}
REPEATS = 30
LONGEST = 1.5  # seconds for the repeats of one measurement
LOOP_GROUPS = 64
LEAST_BYTES = 2**20  # of rewards, on the CPU: a process grows in steps too coarse to measure less


def fastest(functions: Sequence[Callable[[], Any]], device: str) -> list[float]:
    """Least seconds of each function, called in turn, so that what slows the machine slows all alike."""
    for function in functions:
        function()  # to warm up
    rounds: list[list[float]] = []
    while len(rounds) < REPEATS and sum(map(sum, rounds)) < LONGEST:
        rounds.append([_seconds(function, device) for function in functions])
    return [min(times) for times in zip(*rounds, strict=True)]


def _seconds(function: Callable[[], Any], device: str) -> float:
    """Processor time on the CPU, which other processes hardly change; wall-clock time on the GPU."""
    clock = time.perf_counter if device == "cuda" else time.process_time
    _wait(device)
    start = clock()
    function()
    _wait(device)
    return clock() - start


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def peak_memory(function: Callable[[], Any], device: str) -> float:
    """Bytes that a call needs at its peak: of the allocator on the GPU, of the process on the CPU."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        return torch.cuda.max_memory_allocated() - before
    receiver, sender = multiprocessing.get_context("fork").Pipe(duplex=False)

    def child() -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        kept = function()
        sender.send(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
        del kept

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    peak = receiver.recv()
    process.join()
    return float(peak)


def contender(name: str) -> Callable[[Tensor], Tensor]:
    """The estimator of this name, which `LEAVE_TWO_OUT` may precede, without checks."""
    plain = name.removeprefix(LEAVE_TWO_OUT)
    estimate = bind(plain, **OPTIONS.get(plain, {}), validate=False)
    return estimate if plain == name else partial(leave_two_out(estimate), validate=False)


def measure(name: str, rewards: Tensor, device: str) -> tuple[float, float, float]:
    """Ratios of time and memory to one sort, and of a loop over the groups to the batched call."""
    if name in ZERO_ONE:
        rewards = (rewards > 0).float()
    estimate = contender(name)

    def sort() -> Any:
        return torch.sort(rewards, dim=1)

    def batched() -> Tensor:
        return estimate(rewards)

    groups = rewards[:LOOP_GROUPS]

    def loop() -> list[Tensor]:
        return [estimate(group[None]) for group in groups]

    sort_seconds, seconds, loop_seconds = fastest([sort, batched, loop], device)
    memory = math.nan
    if device == "cuda" or rewards.nbytes >= LEAST_BYTES:
        memory = peak_memory(batched, device) / peak_memory(sort, device)
    return seconds / sort_seconds, memory, loop_seconds * len(rewards) / len(groups) / seconds


def main() -> None:
    """Print a table for each device."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        machine = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
        print(
            f"\n{device} ({machine}), torch {torch.__version__}, tailgrad {__version__}, {time.strftime('%Y-%m-%d')}\n"
        )
        print("| estimator | " + " | ".join(f"[{p}, {m}]: time, memory, loop" for p, m in SHAPES) + " |")
        print("|---|" + "---|" * len(SHAPES))
        tables = [torch.randn(*shape, generator=generator).to(device) for shape in SHAPES]
        for name in [*ESTIMATORS, f"{LEAVE_TWO_OUT}flat_tea"]:
            cells = [measure(name, rewards, device) for rewards in tables]
            text = (f"{seconds:.1f}, {memory:.1f}, {loop:.0f}".replace("nan", "-") for seconds, memory, loop in cells)
            print(f"| `{name}` | " + " | ".join(text) + " |", flush=True)


if __name__ == "__main__":
    main()
