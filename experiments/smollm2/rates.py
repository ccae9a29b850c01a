"""What each method reached at each learning rate, with the first seed, on the prompts to choose with.

Usage: python experiments/smollm2/rates.py graded

Reads what is there of the grid NAME.yaml, prints the tables, and writes them between the markers of trainings.md.
"""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from tailgrad.display.cells import aligned, interval_cell
from tailgrad.grid import GridConfig, read_grid
from tailgrad.grid.frontier import best_within_kl, equal_kl_table, over_rates
from tailgrad.grid.results import Row, read_results
from tailgrad.grid.trainings import candidates, cells, choosing, key_of
from tailgrad.statistics.intervals import mean_interval
from tailgrad.statistics.paired import paired_difference

HERE = Path(__file__).resolve().parent


def main(name: str) -> None:
    write_tables(HERE / "trainings.md", name, "rates.py", tables(name))


def write_tables(page: Path, name: str, script: str, text: str) -> None:
    """Print tables, and put them between the markers that a page has for them."""
    print(text)
    begin, end = f"<!-- {name}: written by {script} -->", f"<!-- end of {name} -->"
    before, rest = page.read_text(encoding="utf-8").split(begin)
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{rest.split(end)[1]}", encoding="utf-8")


def tables(name: str) -> str:
    """What the rows of a grid say of the learning rates, and of equal KL."""
    config = read_grid(HERE / f"{name}.yaml")
    rows = {row["key"]: row for row in read_results(config.results)}
    methods: Any = {cell.estimator: SimpleNamespace(training=cell) for cell in cells(config)}
    points, _ = over_rates(config, methods, rows, config.choose_n)
    within = equal_kl_table(points, budget=config.choose_n, reference=config.reference, read=best_within_kl)
    title = f"V_{config.choose_n} of the best within a KL; differences paired by prompt:"
    return f"{rate_table(config, rows)}\n\n{title}\n\n{within}"


def rate_table(config: GridConfig, rows: dict[str, Row]) -> str:
    """One line per rate and method: V_1, V_N, the difference of V_N to the reference, KL and tokens."""
    n = config.choose_n
    lines = [["rate", "method", "V_1", f"V_{n}", f"V_{n} - {config.reference}", "KL, nats", "tokens"]]
    for rate in config.learning_rates:
        measured = {cell.estimator: row_of(config, rows, cell, rate) for cell in cells(config)}
        for estimator, row in measured.items():
            if row is not None:
                found = mean_interval(columns(row)[None])
                cells_of = [interval_cell(found, place, digits) for place, digits in enumerate((2, 2, 1, 1))]
                cells_of.insert(2, difference(row, measured[config.reference]) if estimator != config.reference else "")
                lines.append([f"{rate:g}", estimator, *cells_of])
    return aligned(lines)


def row_of(config: GridConfig, rows: dict[str, Row], cell: Any, rate: float) -> Row | None:
    """What was measured of a method at a rate."""
    (training,) = [one for one in candidates(config, cell) if one.learning_rate == rate]
    return rows.get(key_of(config, training, choosing(config, training)[0]))


def columns(row: Row) -> np.ndarray:
    """V_1, V_N, KL and tokens `[P, 4]`."""
    values = np.array(row["v_n"], dtype=float)
    return np.column_stack([values[:, 0], values[:, -1], np.array(row["kl"], float), row["response_length"]])


def difference(row: Row, reference: Row | None) -> str:
    """Of V_N, paired by prompt."""
    if reference is None:
        return ""
    own, other = (np.array(one["v_n"], dtype=float)[None, :, -1:] for one in (row, reference))
    return interval_cell(paired_difference(own, other), 0, 2, sign="+")


if __name__ == "__main__":
    main(*sys.argv[1:])
