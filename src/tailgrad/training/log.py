"""What a training logged, read from its folder or from its events."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Int

from tailgrad.events import EventReader
from tailgrad.rollouts.generation import TRAINING_RECORD

STATE: Final = "trainer_state.json"
"""Where transformers keeps what was logged: in a checkpoint, and `tailgrad train` also beside the policy. It is written
last, so that a checkpoint holding a readable one is whole."""

EVENTS_ENDING: Final = ".events.jsonl"
"""How the names of files of events end; see `tailgrad.events`."""


@dataclass(frozen=True)
class TrainingLog:
    """What a training logged.

    Attributes:
        steps: The T steps after which something was logged, increasing.
        series: By the name in the log one number per step; NaN where it was not logged.
        record: How it was trained, as `tailgrad_training.json` has it; empty where that is not known.
    """

    steps: Int[np.ndarray, " T"]
    series: Mapping[str, Float[np.ndarray, " T"]]
    record: Mapping[str, Any]

    def named(self, start: str) -> tuple[str, Float[np.ndarray, " T"]] | None:
        """The first series whose name starts so, and the rest of its name."""
        names = [name for name in self.series if name.startswith(start)]
        return (names[0].removeprefix(start), self.series[names[0]]) if names else None


def log_file(path: Path) -> Path | None:
    """Find the log of a training: a file of it, or that of a folder, else of the newest checkpoint in it.

    Args:
        path: The file, or the folder that a training wrote.

    Returns:
        The file; None where there is none.
    """
    if path.is_file():
        return path if path.name == STATE or path.name.endswith(EVENTS_ENDING) else None
    steps = {int(found[1]): one for one in path.glob("checkpoint-*") if (found := re.fullmatch(r"\D+(\d+)", one.name))}
    places = [path, *(steps[step] for step in sorted(steps, reverse=True))]
    return next((place / STATE for place in places if (place / STATE).is_file()), None)


def read_log(file: Path) -> TrainingLog:
    """Read what a training logged.

    Args:
        file: As `log_file` finds it.

    Returns:
        The log.

    Raises:
        ValueError: It is not such a file, or no reward was logged.
    """
    entries = _events(file) if file.name.endswith(EVENTS_ENDING) else _history(file)
    steps = sorted({entry["step"] for entry in entries if "step" in entry})
    place = {step: at for at, step in enumerate(steps)}
    series: dict[str, Float[np.ndarray, " T"]] = {}
    for entry in entries:
        for name, value in entry.items():
            if name != "step" and "step" in entry and isinstance(value, int | float):
                known = series.setdefault(name, np.full(len(steps), np.nan))
                known[place[entry["step"]]] = value if math.isfinite(value) else np.nan
    if not np.isfinite(series.get("reward", np.array([]))).any():
        raise ValueError(
            f"{str(file)!r} holds no step with a reward: give a training with rewards, after a first step."
        )
    record = file.parent / TRAINING_RECORD
    return TrainingLog(np.array(steps), series, json.loads(record.read_text()) if record.is_file() else {})


def _history(file: Path) -> list[dict[str, Any]]:
    try:
        return [*json.loads(file.read_text(encoding="utf-8"))["log_history"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{str(file)!r} is not the log of a training as transformers keeps it.") from error


def _events(file: Path) -> list[dict[str, Any]]:
    """The steps of a file of events under the names of the log; of a step that was taken twice the last counts."""
    names = {"reward": "reward", "kl": "kl", "best": "tail/best_of_{best_of}"}
    names |= {"forecast": "tail/forecast_best_of_{deploy_n}"}
    unknown = {"best_of": "m", "deploy_n": "N"}
    told = [unknown | event for event in EventReader(file).new() if event["kind"] == "step"]
    return [
        {"step": event["step"]} | {name.format(**event): event[key] for key, name in names.items() if key in event}
        for event in told
    ]
