"""What the quickstart trains, and with what."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch

from tailgrad.estimators import bind, parse_estimator, with_budget
from tailgrad.quickstart.task import SPLITS

HELD_OUT: Final = tuple(split for split in SPLITS if split != "train")


@dataclass(frozen=True)
class QuickstartConfig:
    """Settings of the quickstart; all estimators train with the same ones.

    Attributes:
        out: Folder of models, rollout tables and report.
        base: Folder of the base policy, which is fitted there if it is not there; None is `<out>/base`.
        estimators: Estimators to train with, options after a colon: `max_at_k:k=4`.
        seeds: Training seeds; each estimator is trained once with each.
        steps: Optimisation steps.
        prompts_a_step: Prompts in one step, each with `num_generations` rollouts.
        num_generations: m.
        deploy_n: N.
        learning_rate: Adam's learning rate, constant after a short warm-up.
        beta: KL weight.
        n: Responses per held-out prompt for the curves.
        split: Held-out prompts: `test`, or `validation` for choosing settings.
        processes: How many trainings run side by side.

    Raises:
        ValueError: A value out of range, or an estimator that is unknown or cannot work with m.
    """

    out: str = "tailgrad-quickstart"
    base: str | None = None
    estimators: tuple[str, ...] = ("grpo", "tea", "flat_tea")
    seeds: tuple[int, ...] = (0,)
    steps: int = 100
    prompts_a_step: int = 8
    num_generations: int = 16
    deploy_n: int = 128
    learning_rate: float = 3e-4
    beta: float = 0.02
    n: int = 256
    split: str = "test"
    processes: int = 2

    def __post_init__(self) -> None:
        for name in ("steps", "prompts_a_step", "num_generations", "deploy_n", "n", "processes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        for name in ("estimators", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name} must name at least one and none twice, got {list(values)}.")
        if min(self.seeds) < 0:
            raise ValueError(f"seeds are {list(self.seeds)}; each must be 0 or more.")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate is {self.learning_rate}; it must be above 0 and finite.")
        if not 0 <= self.beta < math.inf:
            raise ValueError(f"beta is {self.beta}; it must be 0 or more and finite.")
        if self.split not in HELD_OUT:
            raise ValueError(f"split is {self.split!r}; it must be one of {', '.join(HELD_OUT)}.")
        if self.prompts_a_step > SPLITS["train"]:
            raise ValueError(
                f"prompts_a_step is {self.prompts_a_step}; there are {SPLITS['train']} prompts to train on."
            )
        for spec in self.estimators:
            name, options = parse_estimator(spec)
            bind(name, **with_budget(name, options, self.deploy_n))(torch.zeros(1, self.num_generations))
