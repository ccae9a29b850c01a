"""When a training generates rollouts, ends an epoch and saves: arithmetic on its options, before anything is loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Schedule:
    """The steps of a training, as TRL and `transformers.Trainer` take them.

    Rollouts are generated once for every `reuse` backward passes and are not saved: a checkpoint between two
    generations is resumed with fresh rollouts in the place of the rest, and ends in other weights.

    Attributes:
        prompts: Prompts of the data set; None where it is streamed.
        batch: Prompts of one batch of rollouts.
        reuse: Backward passes on one batch of rollouts, `steps_per_generation * num_iterations`.
        accumulation: Backward passes of one step, `gradient_accumulation_steps`.
        given_steps: `max_steps`; 0 or less where epochs count.
        given_epochs: `num_train_epochs`.

    Examples:
        >>> schedule = Schedule(prompts=7, batch=2, reuse=2, accumulation=1, given_steps=-1, given_epochs=2.0)
        >>> schedule.steps_per_epoch, schedule.total, schedule.epochs_before(7), schedule.left_out
        (6, 12, 1, 1)
        >>> schedule.starts_a_batch(6), schedule.starts_a_batch(7)
        (True, False)
    """

    prompts: int | None
    batch: int
    reuse: int
    accumulation: int
    given_steps: int
    given_epochs: float

    @classmethod
    def of(cls, args: Any, dataset: Any) -> Self:
        """Return the schedule of a TRL configuration on a data set (None: an environment owns the prompts)."""
        batch = args.generation_batch_size // args.num_generations
        count = batch if dataset is None else len(dataset) if hasattr(dataset, "__len__") else None
        reuse = args.steps_per_generation * args.num_iterations
        return cls(count, batch, reuse, args.gradient_accumulation_steps, args.max_steps, args.num_train_epochs)

    @property
    def passes_per_epoch(self) -> int | None:
        """Backward passes of one epoch; a batch of rollouts that the prompts do not fill is left out."""
        return None if self.prompts is None else self.prompts // self.batch * self.reuse

    @property
    def left_out(self) -> int:
        """How many prompts each epoch leaves out."""
        return 0 if self.prompts is None else self.prompts % self.batch

    @property
    def steps_per_epoch(self) -> int | None:
        """Steps of one epoch; the last takes fewer passes where they do not divide."""
        return None if self.passes_per_epoch is None else max(1, math.ceil(self.passes_per_epoch / self.accumulation))

    @property
    def total(self) -> int:
        """Steps of the whole training."""
        if self.given_steps > 0 or self.steps_per_epoch is None:
            return self.given_steps
        return math.ceil(self.given_epochs * self.steps_per_epoch)

    def epochs_before(self, step: int) -> int:
        """How many epochs are over after so many steps."""
        return 0 if self.steps_per_epoch is None else step // self.steps_per_epoch

    def starts_a_batch(self, step: int) -> bool:
        """Whether rollouts are generated anew right after so many steps."""
        within = step if self.steps_per_epoch is None else step % self.steps_per_epoch
        return within * self.accumulation % self.reuse == 0


def check_schedule(schedule: Schedule, args: Any) -> None:
    """Refuse fewer prompts than one batch of rollouts takes, and checkpoints between two generations of rollouts.

    Args:
        schedule: The training's schedule.
        args: TRL's configuration.

    Raises:
        ValueError: TRL would end without a step, `save_at_steps` has one that is none, or a checkpoint that cannot be
            resumed exactly would be written before the last step; the message has a value that works.
    """
    if schedule.prompts is not None and schedule.prompts < schedule.batch:
        raise ValueError(
            f"The data set has {schedule.prompts} prompts, fewer than the {schedule.batch} that one batch of rollouts "
            f"takes (generation_batch_size {args.generation_batch_size} / num_generations {args.num_generations}), so "
            "not one step could be taken. Give more prompts, or a smaller --per_device_train_batch_size, "
            "--gradient_accumulation_steps or --steps_per_generation."
        )
    total = schedule.total
    beyond = [step for step in args.save_at_steps or () if step < 1 or step > total > 0]
    if beyond:
        raise ValueError(f"save_at_steps has {beyond[0]}, which is no step of this training: it takes 1 to {total}.")
    if args.save_only_model:  # and so never resumed
        return
    for step in args.save_at_steps or ():
        if step < total and not schedule.starts_a_batch(step):
            raise ValueError(
                f"save_at_steps has {step}, {_middle(schedule, args)} Use other steps, or a checkpoint that is never "
                "resumed: --save_only_model."
            )
    if args.save_strategy != "steps" or args.save_steps <= 0 or total <= 0:
        return
    every = int(args.save_steps) if args.save_steps >= 1 else math.ceil(total * args.save_steps)
    cut = _first_cut(schedule, every)
    if cut is not None:
        works = next(steps for steps in range(every + 1, total + 1) if _first_cut(schedule, steps) is None)
        raise ValueError(
            f"save_steps = {args.save_steps:g} would write checkpoint-{cut}, {_middle(schedule, args)} "
            f"Use --save_steps {works}."
        )


def _middle(schedule: Schedule, args: Any) -> str:
    return (
        f"in the middle of a batch of rollouts: one serves {schedule.reuse} backward passes (steps_per_generation "
        f"{args.steps_per_generation} x num_iterations {args.num_iterations}; {schedule.accumulation} make a step) and "
        "is not saved: a resumed run would differ from one that was not interrupted."
    )


def _first_cut(schedule: Schedule, every: int) -> int | None:
    return next((step for step in range(every, schedule.total, every) if not schedule.starts_a_batch(step)), None)


def unused_prompts(schedule: Schedule, args: Any) -> str | None:
    """Return what to say of prompts that are never trained on, None where there are none.

    Args:
        schedule: The training's schedule.
        args: TRL's configuration.

    Returns:
        A sentence. Where the order changes with the epoch, what one epoch leaves out another takes.
    """
    if not schedule.left_out or (args.shuffle_dataset and schedule.total != schedule.steps_per_epoch):
        return None
    which = f"{schedule.left_out} of" if args.shuffle_dataset else f"The last {schedule.left_out} of"
    return (
        f"{which} {schedule.prompts} prompts are never trained on: a batch of rollouts takes {schedule.batch}, and one "
        "that is not full is left out."
    )
