"""What each method reached on the test prompts, with the first seed, beside the starting policy.

Usage: python experiments/smollm2/held_out.py ifeval

Reads what is there of the grid NAME.yaml, which has one learning rate, prints the tables, and writes them between the
markers of NAME.md.
"""

import sys

import numpy as np
from rates import HERE, write_tables

from tailgrad.display.cells import aligned, interval_cell
from tailgrad.grid import GridConfig, read_grid
from tailgrad.grid.results import Row, read_results
from tailgrad.grid.trainings import bases, candidates, cells, key_of, testing
from tailgrad.statistics.intervals import mean_interval
from tailgrad.statistics.paired import paired_difference

BUDGETS = (1, 8, 32, 128)


def main(name: str) -> None:
    write_tables(HERE / f"{name}.md", name, "held_out.py", tables(name))


def tables(name: str) -> str:
    """V_N by step and method, the last step against the start and the reference, and the other rewards' view."""
    config = read_grid(HERE / f"{name}.yaml")
    rows = measured(config)
    (reward, *others) = dict.fromkeys(row["scored_by"] for row in rows)
    own = [row for row in rows if row["scored_by"] == reward]
    parts = [values_table(own), f"After {config.steps} steps, differences paired by prompt:"]
    parts.append(difference_table(own, config))
    if same := same_kl_table(own, config):
        parts += [f"Where a method is as far from the start as {config.reference} is, their KL not told apart:", same]
    for other in others:
        parts += [f"The response that `{reward}` picks, by `{other}`:"]
        seen = [row for row in rows if row["scored_by"] == other]
        parts += [values_table(seen), difference_table(seen, config)]
    return "\n\n".join(parts)


def measured(config: GridConfig) -> list[Row]:
    """The rows that are there: the start, then each method at each step."""
    rows = {row["key"]: row for row in read_results(config.results)}
    trainings = [*bases(config), *(candidates(config, cell)[0] for cell in cells(config))]
    keys = [key_of(config, training, one) for training in trainings for one in testing(config, training)]
    return [rows[key] for key in keys if key in rows]


def at_budgets(row: Row) -> np.ndarray:
    """V_N `[P, K]` at `BUDGETS`; NaN where fewer responses were sampled."""
    known = dict(zip(row["budgets"], np.array(row["v_n"], dtype=float).T, strict=True))
    return np.stack([known.get(n, np.full(len(row["prompt_ids"]), np.nan)) for n in BUDGETS], axis=1)


def values_table(rows: list[Row]) -> str:
    """One line per method and step."""
    lines = [["method", "steps", *(f"V_{n}" for n in BUDGETS), "KL, nats", "tokens"]]
    for row in rows:
        found = mean_interval(np.column_stack([at_budgets(row), row["kl"], row["response_length"]])[None])
        cells_of = ["" if np.isnan(found.mean[k]) else interval_cell(found, k, (3, 3, 3, 3, 2, 1)[k]) for k in range(6)]
        lines.append([name_of(row), str(row["step"]), *cells_of])
    return aligned(lines)


def difference_table(rows: list[Row], config: GridConfig) -> str:
    """One line per method after the last step: against the start, and against the reference."""
    (start,) = [row for row in rows if row["estimator"] == "base"]
    last = {row["estimator"]: row for row in rows if row["step"] == config.steps}
    lines = [["difference", *(f"V_{n}" for n in BUDGETS)]]
    pairs = [(row, start) for row in last.values()]
    pairs += [(row, last[config.reference]) for name, row in last.items() if name != config.reference]
    for row, other in pairs:
        found = paired_difference(*(at_budgets(one)[None] for one in (row, other)))
        cells_of = [interval_cell(found, k, 3, sign="+") for k in range(len(BUDGETS))]
        lines.append([f"{name_of(row)} - {name_of(other)}", *cells_of])
    return aligned(lines)


def same_kl_table(rows: list[Row], config: GridConfig) -> str | None:
    """One line per method and step that is as far from the start as the reference is after some step; None of none."""
    lines = [["difference", *(f"V_{n}" for n in BUDGETS), "KL, nats"]]
    references = [row for row in rows if row["estimator"] == config.reference]
    for row in rows:
        for other in references if row["estimator"] not in ("base", config.reference) else []:
            found = paired_difference(*(np.column_stack([at_budgets(one), one["kl"]])[None] for one in (row, other)))
            cells_of = [interval_cell(found, k, 3, sign="+") for k in range(len(BUDGETS) + 1)]
            if found.low[-1] <= 0 <= found.high[-1]:
                lines.append(
                    [f"{name_of(row)} after {row['step']} - {name_of(other)} after {other['step']}", *cells_of]
                )
    return aligned(lines) if len(lines) > 1 else None


def name_of(row: Row) -> str:
    return "the start" if row["estimator"] == "base" else row["estimator"]


if __name__ == "__main__":
    main(*sys.argv[1:])
