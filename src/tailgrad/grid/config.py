"""What a grid of trainings compares."""

from __future__ import annotations

import os
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, JsonValue, StringConstraints
from pydantic.dataclasses import dataclass

from tailgrad.grid.checks import check_grid

T = TypeVar("T")

if TYPE_CHECKING:
    Json = Any  # a reader knows what the option that it asks for is
else:
    Json = JsonValue


def _once(values: tuple[T, ...]) -> tuple[T, ...]:
    """Refuse what is given twice."""
    if twice := [value for place, value in enumerate(values) if value in values[:place]]:
        raise ValueError(f"has {twice[0]!r} twice")
    return values


Text = Annotated[str, StringConstraints(pattern=r"\S")]
Names = Annotated[dict[Text, Text], Field(min_length=1)]
Whole = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Budget = tuple[Annotated[int, Field(ge=2)], Whole]
Unique = Annotated[tuple[T, ...], AfterValidator(_once)]
Some = Annotated[tuple[T, ...], Field(min_length=1), AfterValidator(_once)]


@dataclass(frozen=True, config=ConfigDict(strict=True))
class GridConfig:
    """Every combination of these is trained and measured; paths are relative to the folder of the YAML file.

    Attributes:
        results: The results table (Parquet): one row per measurement; the grid goes on from it.
        work: Folder for models, rollout tables and logs, which may be deleted when the grid is done.
        policies: Folder or hub name of each starting policy, by the name used in tables.
        rewards: `package.module.function`, or folder or hub name of a reward model, by name.
        prompts: For each prompt set by name the data of `train`, `choose` (to choose learning rates) and `test`.
        estimators: Estimators with their options, such as `tea` or `max_at_k:k=4`.
        m_and_n: Pairs [m, N]: rollouts per prompt in training, responses per prompt at deployment.
        learning_rates: Tried with the first seed by every method, judged by V_N on `choose`; see `smallest_good`.
        betas: `beta` of the trainings.
        choose_beta: Choose the KL weight of each method together with its learning rate, in the place of a
            comparison at each weight.
        seeds: Training seeds.
        prompts_per_step: Prompts of an optimisation step, each with m rollouts.
        per_device_train_batch_size: Rollouts of one backward pass; a step takes as many passes as its rollouts need.
            None is all of them in one. It changes the memory that a training takes, not the training.
        train: Further options of `tailgrad train`; `max_steps` is required.
        sample: Further options of `tailgrad sample`.
        checkpoints: Steps before the last that are measured too, for the frontier of V_N against KL.
        test_n: Responses per prompt of the test split after the last step.
        checkpoint_n: The same at `checkpoints`.
        choose_n: Responses per prompt of the choosing split.
        test_limit: Only so many prompts of the test split; None is all.
        also_score: Rewards that score the response which the one trained on picks out of N: names of `rewards`, or a
            mapping from names to further rewards, which nothing is trained on.
        reference: The method that the others are compared with.
        processes: Commands at once; None is one a core, or one where there is a GPU.
        folder: What relative paths of policies, rewards and prompts start from, and where the commands run.

    Raises:
        ValueError: A value out of range, an unknown name, or an option that the grid sets itself.
    """

    results: Path
    work: Path
    policies: Names
    rewards: Names
    prompts: Annotated[dict[Text, dict[Text, Text]], Field(min_length=1)]
    estimators: Some[Text]
    m_and_n: Some[Budget]
    learning_rates: Some[Rate]
    train: dict[Text, Json]
    betas: Some[Weight] = (0.0,)
    choose_beta: bool = False
    seeds: Some[Seed] = (0, 1, 2)
    prompts_per_step: Whole = 8
    per_device_train_batch_size: Whole | None = None
    sample: dict[Text, Json] = field(default_factory=dict)
    checkpoints: Unique[Whole] = ()
    test_n: Whole = 512
    checkpoint_n: Whole = 128
    choose_n: Whole = 128
    test_limit: Whole | None = None
    also_score: Unique[Text] | dict[Text, Text] = ()
    reference: Text = "grpo"
    processes: Whole | None = None
    folder: Path = Path()

    def __post_init__(self) -> None:
        check_grid(self)

    @property
    def steps(self) -> int:
        """Optimisation steps of a training."""
        return int(self.train["max_steps"])

    @property
    def every_reward(self) -> dict[str, str]:
        """The rewards that are trained on and those that only score, by name."""
        return self.rewards | (self.also_score if isinstance(self.also_score, dict) else {})

    @property
    def tried(self) -> str:
        """What is chosen for each method, in words."""
        return "learning rates and KL weights" if self.choose_beta else "learning rates"

    def passes(self, m: int) -> int:
        """Backward passes of an optimisation step.

        Args:
            m: Rollouts per prompt.
        """
        return m * self.prompts_per_step // (self.per_device_train_batch_size or m * self.prompts_per_step)

    @property
    def num_processes(self) -> int:
        """Commands at once."""
        if self.processes is not None:
            return self.processes
        import torch

        return 1 if torch.cuda.is_available() else os.cpu_count() or 1

    def locate(self, name: str) -> str:
        """A path of the YAML file as it is from here.

        Args:
            name: A path or, left as it is, a name that is no path beside the file.
        """
        inside = self.folder / name
        return str(inside.resolve()) if inside.exists() else name
