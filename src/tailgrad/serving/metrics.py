"""Counters of a server, as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

SECONDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Upper ends of the histogram's cells."""

Labels = tuple[tuple[str, str], ...]

_HELP: Final = {
    "tailgrad_requests_total": "Requests, by path and HTTP status (499: the client hung up).",
    "tailgrad_samples_total": "Samples, by outcome: scored, unscored (no reward), failed (not given).",
    "tailgrad_tokens_total": "Tokens of all samples, by kind: prompt, completion.",
}


class Metrics:
    """Counts what a server does.

    Args:
        gauges: What is read when it is asked for, by name, each with its help.
    """

    def __init__(self, gauges: Mapping[str, tuple[str, Callable[[], float]]]) -> None:
        self._gauges = gauges
        self._counts: dict[str, dict[Labels, int]] = {name: {} for name in _HELP}
        self._cells, self._sum = [0] * (len(SECONDS) + 1), 0.0

    def count(self, name: str, by: int = 1, **labels: str) -> None:
        """Add to a counter.

        Args:
            name: One that is known.
            by: How much.
            **labels: Its labels; their values come from us, not from a request.
        """
        counts, key = self._counts[name], tuple(labels.items())
        counts[key] = counts.get(key, 0) + by

    def took(self, seconds: float) -> None:
        """Count a request that was answered.

        Args:
            seconds: How long it took.
        """
        cell = next((i for i, end in enumerate(SECONDS) if seconds <= end), len(SECONDS))
        self._cells[cell] += 1
        self._sum += seconds

    def text(self) -> str:
        """All of it in Prometheus' text format."""
        lines: list[str] = []
        for name, counts in self._counts.items():
            lines += [f"# HELP {name} {_HELP[name]}", f"# TYPE {name} counter"]
            lines += [f"{name}{_labels(labels)} {value!r}" for labels, value in sorted(counts.items())]
        for name, (words, read) in self._gauges.items():
            lines += [f"# HELP {name} {words}", f"# TYPE {name} gauge", f"{name} {read()!r}"]
        return "\n".join([*lines, *self._histogram()]) + "\n"

    def _histogram(self) -> list[str]:
        name, total = "tailgrad_request_seconds", 0
        lines = [f"# HELP {name} Seconds of the requests for completions.", f"# TYPE {name} histogram"]
        for end, cell in zip([*map(str, SECONDS), "+Inf"], self._cells, strict=True):
            total += cell
            lines.append(f'{name}_bucket{{le="{end}"}} {total}')
        return [*lines, f"{name}_sum {self._sum!r}", f"{name}_count {total}"]


def _labels(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels) + "}" if labels else ""
