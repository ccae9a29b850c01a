"""What a command tells the one that started it: a file of JSON lines, one per event, read while it is written.

Who starts a command names the file in the environment variable TAILGRAD_EVENTS. The kinds of event:

- `progress`: `done` of `total`, from the progress bar of sampling, scoring, gradients and fits;
- `start`: a training begins after `step` steps (0, or the checkpoint that it goes on from);
- `step`: a training has taken `step` steps, with `reward`, `best` (of `best_of` rollouts), `forecast` (of the best of
  `deploy_n`) and `kl` where they were logged;
- `end`: a training has ended, after `seconds`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tailgrad.processes import process_index

VARIABLE: Final = "TAILGRAD_EVENTS"
"""Environment variable with the path of the events' file."""


def emit(kind: str, **fields: Any) -> None:
    """Append an event to the file that TAILGRAD_EVENTS names, if it does.

    Of the processes of a distributed run only the first does so.

    Args:
        kind: What happened, one word.
        **fields: What belongs to it: text, numbers (also of numpy and torch), None, or lists of these.
    """
    path = os.environ.get(VARIABLE)
    if not path or process_index() != 0:
        return
    line = json.dumps({"kind": kind, **fields}, default=float) + "\n"
    with open(path, "ab", buffering=0) as file:  # one write at the end of the file: events of two processes do not mix
        file.write(line.encode())


def words_of(event: Mapping[str, Any]) -> str:
    """Return what a training told of a step, as its progress line shows it.

    Args:
        event: A `step` event.

    Returns:
        Such as "reward 0.31, best of 16 0.62, best of 128 forecast 0.71, KL 0.02"; empty where it told no reward.

    Examples:
        >>> words_of({"kind": "step", "step": 3, "reward": 0.312345, "best": 0.5, "best_of": 16, "forecast": None})
        'reward 0.3123, best of 16 0.5'
    """
    if event.get("reward") is None:
        return ""
    shown = {
        "reward": "reward",
        "best": f"best of {event.get('best_of', 'm')}",
        "forecast": f"best of {event.get('deploy_n', 'N')} forecast",
        "kl": "KL",
    }
    return ", ".join(f"{words} {event[name]:.4g}" for name, words in shown.items() if event.get(name) is not None)


@contextmanager
def progress_bar(total: int, *, done: int = 0, name: str, unit: str) -> Iterator[Callable[[int], None]]:
    """Show a progress bar, and emit an event whenever it moves; of several processes only the first does so.

    Args:
        total: Where it ends.
        done: Where it starts.
        name: Shown at the bar.
        unit: What is counted.

    Yields:
        A function that moves the bar on by so many.
    """
    from tqdm.auto import tqdm

    with tqdm(total=total, initial=done, desc=name, unit=unit, disable=process_index() != 0) as bar:
        emit("progress", done=done, total=total)

        def move(count: int) -> None:
            bar.update(count)
            emit("progress", done=bar.n, total=total)

        yield move


@dataclass
class EventReader:
    """Reads the events of a file that is still being written, each once.

    Attributes:
        path: The file; it need not exist yet.
        offset: Where the next event starts.
    """

    path: Path
    offset: int = 0

    @classmethod
    def at_end(cls, path: Path) -> EventReader:
        """Return a reader of what will be added to a file; a line that was cut at its end is ended."""
        if not path.is_file() or path.stat().st_size == 0:
            return cls(path)
        with path.open("rb+") as file:
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":
                file.write(b"\n")
            return cls(path, file.tell())

    def new(self) -> list[dict[str, Any]]:
        """Return the events since the last call; a line that is no event, cut by a full disk, is passed over."""
        if not self.path.is_file():
            return []
        with self.path.open("rb") as file:
            file.seek(self.offset)
            whole = file.read().rpartition(b"\n")[0]
        if not whole:
            return []
        self.offset += len(whole) + 1
        found = [_event(line) for line in whole.split(b"\n")]
        return [event for event in found if event is not None]


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "kind" in event else None
