"""Callbacks that tell the progress of a training as events, see `tailgrad.events`."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from transformers import TrainerCallback

from tailgrad.events import emit, progress_bar


class TrainingEvents(TrainerCallback):
    """Emits where a training starts, what it logs of each step, and how long it took."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Tell after how many steps the training starts: 0, or the checkpoint's."""
        emit("start", step=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Tell a step, or the end; a step that generated no rollouts logs no reward."""
        logs = logs or {}
        if "train_runtime" in logs:
            emit("end", seconds=logs["train_runtime"])
        elif "loss" in logs:
            forecast = next((value for name, value in logs.items() if name.startswith("tail/forecast")), None)
            emit("step", step=state.global_step, reward=logs.get("reward"), forecast=forecast, kl=logs.get("kl"))


class StepBar(TrainerCallback):
    """Shows the steps of a fit in the progress bar of every other command."""

    def __init__(self) -> None:
        self._bar = ExitStack()
        self._move = lambda count: None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Show the bar."""
        bar = progress_bar(state.max_steps, done=state.global_step, name="fit", unit="step")
        self._move = self._bar.enter_context(bar)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move it on by a step."""
        self._move(1)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close it."""
        self._bar.close()
