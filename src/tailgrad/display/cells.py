"""Cells and tables as Markdown shows them, and numbers as JSON holds them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tailgrad.statistics.intervals import Interval

_MOST_DECIMALS, _SMALL, _HUGE = 8, 1e-4, 1e15


def interval_cell(interval: Interval, column: int, decimals: int, sign: str = "") -> str:
    """Give one mean with its interval as a table shows it.

    Args:
        interval: Means with their intervals.
        column: Which of them.
        decimals: Digits after the point, as `number_cell` takes them.
        sign: "+" shows the sign of positive numbers too.

    Returns:
        Such as "1.25 [1.10, 1.40]"; the mean alone where the interval is not known, "unknown" where the mean is not.

    Examples:
        >>> numbers = (np.array([number]) for number in (1.25, 1.1, 1.4))
        >>> interval_cell(Interval(*numbers, prompts=np.array([8])), 0, 2)
        '1.25 [1.10, 1.40]'
    """
    mean, low, high = (float(part[column]) for part in interval[:3])
    if math.isnan(mean):
        return "unknown"
    first = number_cell(mean, decimals, sign)
    if math.isnan(low):
        return first
    return f"{first} [{number_cell(low, decimals, sign)}, {number_cell(high, decimals, sign)}]"


def number_cell(number: float, decimals: int, sign: str = "") -> str:
    """Give a number as a table shows it.

    Args:
        number: The number.
        decimals: Digits after the point, at most eight. A number below 1e-4 that needs more, and one from 1e15 on, has
            three digits in all, with a power of ten.
        sign: "+" shows the sign of positive numbers too.

    Examples:
        >>> number_cell(0.12345, 2), number_cell(1.2345e-10, 12), number_cell(1e30, 0)
        ('0.12', '1.23e-10', '1.00e+30')
    """
    with_power = (decimals > _MOST_DECIMALS and abs(number) < _SMALL) or abs(number) >= _HUGE
    return f"{number:{sign}.2e}" if with_power else f"{number:{sign}.{min(decimals, _MOST_DECIMALS)}f}"


def decimals_of(intervals: Sequence[Interval]) -> int:
    """Decimals that give the typical half-width of the intervals two digits, for all cells of a table.

    Without widths there are three, or as many as show the largest mean.
    """
    widths = np.concatenate([(interval.high - interval.low) / 2 for interval in intervals])
    widths = widths[widths > 0]
    if len(widths):
        return int(np.clip(1 - np.floor(np.log10(np.median(widths))), 0, 400))
    largest = np.nanmax(np.abs(np.concatenate([interval.mean for interval in intervals])), initial=0.0)
    return 3 if largest == 0 else int(np.clip(2 - np.floor(np.log10(largest)), 3, 400))


def aligned(rows: list[list[str]]) -> str:
    """Give a Markdown table with aligned columns; the first row is the heading."""
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*escaped, strict=True)]
    rule = ["-" * width for width in widths]
    lines = [escaped[0], rule, *escaped[1:]]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def interval_numbers(interval: Interval, column: int) -> dict[str, float | int]:
    """Give one column of an interval as JSON holds it."""
    return {key: part[column].item() for key, part in zip(interval._fields, interval, strict=True)}


def without_nan(value: Any) -> Any:
    """Give the same lists and dicts with None for every number that is not finite, as JSON wants it."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
