"""Train many policies side by side: every seed at every learning rate and KL weight, one tensor program."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from contenders import LEAVE_TWO_OUT
from settings import Setting
from torch import Tensor

from tailgrad.estimators import ESTIMATORS, bind, leave_two_out, parse_estimator
from tailgrad.estimators.batch import scale_advantages
from tailgrad.files import replacing

_BETA_1, _BETA_2, _EPS = 0.9, 0.999, 1e-8


class World(Protocol):
    """What the two worlds share; parameters are `[S, D]`, one row per run."""

    draws: int
    """Uniform numbers that one rollout takes."""

    def start(self, runs: int) -> Tensor:
        """The base policy's parameters, once for each run."""

    def rollouts(self, parameters: Tensor, step: int, uniform: Tensor) -> Any:
        """Sample m rollouts of each of the step's prompts from `[S, B, m, draws]` numbers."""

    def gradient(self, rollouts: Any, advantages: Tensor, kl_weight: Tensor) -> Tensor:
        """The policy gradient less that of the KL penalty, `[S, D]`."""

    def measure(self, parameters: Tensor, budgets: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """KL `[S, P]` and V_N `[S, P, K]`, choosing prompts first and as many report prompts behind them."""

    def description(self) -> dict[str, float | None]:
        """`base_spread` and, where it is known, `cosine` (of the mean's gradient with V_N's)."""


@dataclass(frozen=True)
class Schedule:
    """What every contender is trained with."""

    seeds: int
    learning_rates: tuple[float, ...]
    kl_weights: tuple[float, ...]
    snapshots: tuple[int, ...]
    scaling: str = "batch"


def advantages_of(text: str, scaling: str) -> Callable[[Tensor], Tensor]:
    """An estimator, written as on a command line, as a function from rewards `[S, B, m]` to advantages.

    "leave_two_out " before it gives it that baseline.

    Each run's advantages are scaled to root mean square one by themselves: with `"batch"` a run is one row.
    """
    inner = text.removeprefix(LEAVE_TWO_OUT)
    name, options = parse_estimator(inner)
    estimator = bind(name, **options, validate=False)
    if inner != text:
        estimator = partial(leave_two_out(estimator), validate=False)
    over_batch = ESTIMATORS[name].over_batch

    def compute(rewards: Tensor) -> Tensor:
        runs, batch, m = rewards.shape
        if over_batch:
            raw = torch.stack([estimator(run) for run in rewards])
        else:
            raw = estimator(rewards.reshape(runs * batch, m))
        rows = raw.view(runs * batch, m) if scaling == "group" else raw.view(runs, batch * m)
        if scaling != "none":
            rows = scale_advantages(rows, "group", torch.zeros(len(rows), 1, dtype=torch.bool))
        return rows.view(runs, batch, m)

    return compute


def train(
    world: World, setting: Setting, advantages: Callable[[Tensor], Tensor], schedule: Schedule, budgets: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Train a policy for each seed, learning rate and KL weight, and measure it at the snapshots.

    Adam; a step ascends the mean over the batch of advantage times log-probability, less the KL penalty. Runs of equal
    seed draw from the same uniform numbers, also those of other estimators.

    Returns:
        KL `[S, C, T, P]` and V_N `[S, C, T, P, K]`; C counts the pairs of learning rate and KL weight.
    """
    rates, weights = torch.tensor(schedule.learning_rates), torch.tensor(schedule.kl_weights)
    configurations = len(rates) * len(weights)
    rate = rates.repeat_interleave(len(weights)).repeat(schedule.seeds)[:, None]
    kl_weight = weights.repeat(len(rates)).repeat(schedule.seeds)
    generator = torch.Generator().manual_seed(setting.seed)
    parameters = world.start(len(kl_weight))
    first, second = torch.zeros_like(parameters), torch.zeros_like(parameters)
    measured = []
    for step in range(max(schedule.snapshots) + 1):
        if step in schedule.snapshots:
            measured.append(world.measure(parameters, budgets))
        uniform = torch.rand(schedule.seeds, setting.batch, setting.m, world.draws, generator=generator)
        drawn = world.rollouts(parameters, step, uniform.repeat_interleave(configurations, dim=0))
        gradient = world.gradient(drawn, advantages(drawn.rewards), kl_weight)
        first = _BETA_1 * first + (1 - _BETA_1) * gradient
        second = _BETA_2 * second + (1 - _BETA_2) * gradient**2
        unbiased = (second / (1 - _BETA_2 ** (step + 1))).sqrt() + _EPS
        parameters = parameters + rate * first / (1 - _BETA_1 ** (step + 1)) / unbiased
    shape = (schedule.seeds, configurations)
    kl = np.stack([k.numpy() for k, _ in measured], axis=1)
    v = np.stack([v.numpy() for _, v in measured], axis=1)
    return kl.reshape(*shape, *kl.shape[1:]), v.reshape(*shape, *v.shape[1:])


def schedule_of(setting: Setting) -> Schedule:
    """The schedule of a setting's world."""
    snapshots = (0, 4, 8, 12, 18, 27, 40) if setting.world == "bandit" else (0, 4, 8, 15, 25, 40)
    return Schedule(5, (0.005, 0.01, 0.02, 0.04), (0.03, 0.15), snapshots)


def world_of(setting: Setting) -> World:
    """The world of a setting, made anew from its seed."""
    from bandit import Bandit
    from sequence import Sequences

    return Bandit(setting) if setting.world == "bandit" else Sequences(setting)


def trace_path(folder: Path, setting: Setting, text: str, scaling: str) -> Path:
    """Where a contender's trainings in a setting stand."""
    return folder / setting.name / f"{re.sub(r'[^a-z0-9_.]+', '-', text)}-{scaling}.npz"


def train_missing(folder: Path, setting: Setting, contenders: dict[str, tuple[str, str]], schedule: Schedule) -> None:
    """Train the contenders (name to text and scaling) of a setting, but for those whose trace is there."""
    paths = {name: trace_path(folder, setting, *contender) for name, contender in contenders.items()}
    missing = [name for name, path in paths.items() if not path.exists()]
    world = world_of(setting) if missing else None
    for name in missing:
        assert world is not None
        if paths[name].exists():  # another name for the same estimator, such as k = m/2 for k = 4
            continue
        start = time.process_time()
        kl, values = train(world, setting, advantages_of(*contenders[name]), schedule, (1, setting.deploy_n))
        with replacing(paths[name]) as part, part.open("wb") as file:
            np.savez(file, kl=kl, values=values)
        print(f"{setting.name}  {name:<20} {time.process_time() - start:5.1f} s", flush=True)
