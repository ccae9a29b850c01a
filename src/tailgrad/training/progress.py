"""Callbacks that tell the progress of a training: as events, see `tailgrad.events`, and in its progress line."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from transformers import ProgressCallback, TrainerCallback

from tailgrad.events import emit, progress_bar, words_of


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
            emit("step", step=state.global_step, **numbers_of(logs))


class ProgressLine(ProgressCallback):
    """The progress bar of transformers, which also shows how good the last rollouts were."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Write what was logged above the bar, as transformers does, and its essence behind it."""
        super().on_log(args, state, control, logs=logs or {}, **kwargs)
        words = words_of(numbers_of(logs or {}))
        if words and self.training_bar is not None:
            self.training_bar.set_postfix_str(words)


def show_progress_line(trainer: Any) -> None:
    """Put our progress line in the place of transformers' bar; one of the user's own, or a notebook's, stays.

    Args:
        trainer: The trainer, made.
    """
    for plain in [one for one in trainer.callback_handler.callbacks if type(one) is ProgressCallback]:
        trainer.remove_callback(plain)
        trainer.add_callback(ProgressLine)


def numbers_of(logs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a `step` event tells of a step.

    Args:
        logs: What the trainer logged of it.

    Returns:
        The mean reward, the best of a group, the forecast and the KL by the events' names, with the N of the two; None
        where they were not logged.

    Examples:
        >>> numbers_of({"loss": 0.1, "reward": 0.3, "tail/best_of_16": 0.6, "tail/forecast_best_of_128": 0.7})
        {'reward': 0.3, 'kl': None, 'best': 0.6, 'best_of': 16, 'forecast': 0.7, 'deploy_n': 128}
    """
    numbers = {"reward": logs.get("reward"), "kl": logs.get("kl")}
    for name, n, start in (("best", "best_of", "tail/best_of_"), ("forecast", "deploy_n", "tail/forecast_best_of_")):
        full = next((key for key in logs if key.startswith(start)), None)
        numbers |= {name: None} if full is None else {name: logs[full], n: int(float(full.removeprefix(start)))}
    return numbers


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
