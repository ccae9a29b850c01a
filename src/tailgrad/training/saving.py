"""Checkpoints at given steps, which stay, beside those that only serve to resume."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from transformers import TrainerCallback


class SaveAtSteps(TrainerCallback):
    """Saves checkpoints at given steps and keeps them; of all others only the newest stays.

    Args:
        steps: After which optimisation steps.
    """

    def __init__(self, steps: Collection[int]) -> None:
        self.steps = frozenset(steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask for a checkpoint at one of the steps."""
        if state.global_step in self.steps:
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Remove what a newer checkpoint has taken the place of; the newest is whole by now."""
        if not state.is_world_process_zero:
            return
        named = {folder.name[11:]: folder for folder in Path(args.output_dir).glob("checkpoint-*")}
        folders = {int(step): folder for step, folder in named.items() if step.isdigit()}
        others = [step for step in folders if step not in self.steps and step <= state.global_step]
        for step in sorted(others)[:-1]:
            shutil.rmtree(folders[step])
