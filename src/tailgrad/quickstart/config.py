"""What the quickstart trains, and with what."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from tailgrad.options import option
from tailgrad.quickstart.task import SPLITS

HELD_OUT: Final = tuple(split for split in SPLITS if split != "train")


@dataclass(frozen=True)
class QuickstartConfig:
    """Settings of the quickstart, the options of `tailgrad quickstart`; all estimators train with the same ones.

    Raises:
        ValueError: A value out of range, or an estimator that is unknown or cannot work with m.
    """

    out: str = option("tailgrad-quickstart", "folder for models, tables and figures")
    base: str | None = option(
        None, "folder of the base policy; if there is none, it is fitted there (default: <out>/base)"
    )
    estimators: tuple[str, ...] = option(
        ("grpo", "tea", "flat_tea"),
        "estimators to train with, with their options after a colon: max_at_k:k=4",
        metavar="NAME[:OPTION=VALUE,...]",
    )
    seeds: tuple[int, ...] = option((0,), "training seeds; each estimator is trained once per seed")
    max_steps: int = option(100, "optimisation steps")
    prompts_per_step: int = option(8, "prompts per step, each with m rollouts")
    num_generations: int = option(16, "m: rollouts per prompt in training")
    deploy_n: int = option(128, "N: responses per prompt at deployment, of which the best is served")
    learning_rate: float = option(3e-4, "Adam's learning rate, constant after a short warm-up")
    beta: float = option(0.02, "KL weight")
    n: int = option(256, "responses per held-out prompt for the curves")
    dataset_split: str = option("test", "held-out prompts for the curves", choices=HELD_OUT)
    processes: int = option(2, "trainings to run side by side")

    def __post_init__(self) -> None:
        for name in ("max_steps", "prompts_per_step", "num_generations", "deploy_n", "n", "processes"):
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
        if self.dataset_split not in HELD_OUT:
            raise ValueError(f"dataset_split is {self.dataset_split!r}; it must be one of {', '.join(HELD_OUT)}.")
        if self.prompts_per_step > SPLITS["train"]:
            raise ValueError(
                f"prompts_per_step is {self.prompts_per_step}; there are {SPLITS['train']} prompts to train on."
            )
        self._check_estimators()

    def _check_estimators(self) -> None:
        import torch

        from tailgrad.estimators import bind, parse_estimator, with_budget

        for spec in self.estimators:
            name, options = parse_estimator(spec)
            bind(name, **with_budget(name, options, self.deploy_n))(torch.zeros(1, self.num_generations))
