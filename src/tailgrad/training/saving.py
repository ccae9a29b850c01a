"""Checkpoints at given steps, which stay, beside those that only serve to resume."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from tailgrad.training.log import STATE


class SaveAtSteps(TrainerCallback):
    """Saves checkpoints at given steps and keeps them; of all others of this training only the newest stays.

    Args:
        steps: After which optimisation steps.
    """

    def __init__(self, steps: Collection[int]) -> None:
        self.steps = frozenset(steps)
        self._of_others: set[str] = set()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """See which checkpoints another training has left: those of one that is resumed are its own."""
        there = {folder.name for folder in Path(args.output_dir).glob("checkpoint-*")}
        self._of_others = set() if state.global_step else there

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask for a checkpoint at one of the steps."""
        if state.global_step in self.steps:
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Remove what this checkpoint, which is whole by now, has taken the place of."""
        if not state.is_world_process_zero:
            return
        self._of_others.discard(f"checkpoint-{state.global_step}")
        for folder in Path(args.output_dir).glob("checkpoint-*"):
            if folder.name in self._of_others:
                continue
            step = int(folder.name[11:]) if folder.name[11:].isdigit() else state.global_step
            if step < state.global_step and step not in self.steps:
                (folder / STATE).unlink(missing_ok=True)  # first: what a kill leaves must not pass for a checkpoint
                shutil.rmtree(folder)
