"""What each method reached on the test prompts, beside the starting policy; over the seeds that are there.

Usage: python experiments/smollm2/held_out.py ifeval

Reads what is there of the grid NAME.yaml, which has one learning rate, prints the tables, and writes them between the
markers of NAME.md.
"""

import sys
from dataclasses import replace
from itertools import product
from typing import TypeAlias

import numpy as np
from rates import HERE, write_tables

from tailgrad.display.cells import aligned, interval_cell
from tailgrad.grid import GridConfig, read_grid
from tailgrad.grid.results import Row, read_results
from tailgrad.grid.trainings import BASE, bases, candidates, cells, key_of, testing
from tailgrad.statistics.intervals import Interval, mean_interval
from tailgrad.statistics.paired import paired_difference

BUDGETS = (1, 8, 32, 128)

Runs: TypeAlias = dict[tuple[str, int], dict[int, np.ndarray]]
"""By method and step, and then by seed: V_N at `BUDGETS`, KL and tokens of each prompt."""


def main(name: str) -> None:
    write_tables(HERE / f"{name}.md", name, "held_out.py", tables(name))


def tables(name: str) -> str:
    """V_N by step and method, the last step against the start and the reference, and the other rewards' view."""
    config = read_grid(HERE / f"{name}.yaml")
    rows = measured(config)
    (reward, *others) = dict.fromkeys(row["scored_by"] for row in rows)
    own = runs_of(rows, reward)
    parts = [values_table(own), f"After {config.steps} steps, differences paired by prompt:"]
    parts.append(difference_table(own, config))
    if len(config.seeds) > 1:
        parts += [f"Seed by seed, after {config.steps} steps against {config.reference} after each:"]
        parts += [by_seed_table(own, config)]
    for other in others:
        seen = runs_of(rows, other)
        parts += [f"The response that `{reward}` picks, by `{other}`:"]
        parts += [values_table(seen), difference_table(seen, config)]
    return "\n\n".join(parts)


def measured(config: GridConfig) -> list[Row]:
    """The rows that are there: the start, then each method at each step, by seed."""
    rows = {row["key"]: row for row in read_results(config.results)}
    firsts = [candidates(config, cell)[0] for cell in cells(config)]
    trainings = [*bases(config), *(replace(one, seed=seed) for one in firsts for seed in config.seeds)]
    keys = [key_of(config, training, one) for training in trainings for one in testing(config, training)]
    return [rows[key] for key in keys if key in rows]


def runs_of(rows: list[Row], reward: str) -> Runs:
    """What was measured with a reward `[P, 6]`; NaN where fewer responses were sampled."""
    found: Runs = {}
    for row in rows:
        if row["scored_by"] == reward:
            known = dict(zip(row["budgets"], np.array(row["v_n"], dtype=float).T, strict=True))
            values = [known.get(n, np.full(len(row["prompt_ids"]), np.nan)) for n in BUDGETS]
            of_method = found.setdefault((row["estimator"], row["step"]), {})
            of_method[row["seed"]] = np.column_stack([*values, row["kl"], row["response_length"]])
    return found


def values_table(runs: Runs) -> str:
    """One line per method and step."""
    lines = [["method", "steps", "seeds", *(f"V_{n}" for n in BUDGETS), "KL, nats", "tokens"]]
    for (method, step), of_seeds in runs.items():
        found = mean_interval(np.stack([*of_seeds.values()]))
        cells_of = ["" if np.isnan(found.mean[k]) else interval_cell(found, k, (3, 3, 3, 3, 2, 1)[k]) for k in range(6)]
        lines.append([name_of(method), str(step), "" if method == BASE else str(len(of_seeds)), *cells_of])
    return aligned(lines)


def difference_table(runs: Runs, config: GridConfig) -> str:
    """One line per method after the last step: against the start, and against the reference."""
    last = {method: of_seeds for (method, step), of_seeds in runs.items() if step == config.steps}
    (start,) = runs[BASE, 0].values()
    pairs = [(method, BASE, dict.fromkeys(last[method], start)) for method in last]
    of_reference = last.get(config.reference, {})
    pairs += [
        (method, config.reference, of_reference)
        for method in last
        if method != config.reference and last[method].keys() & of_reference.keys()
    ]
    lines = [["difference", "seeds", *(f"V_{n}" for n in BUDGETS)]]
    for method, other, of_other in pairs:
        found, seeds = difference(last[method], of_other)
        cells_of = [interval_cell(found, k, 3, sign="+") for k in range(len(BUDGETS))]
        lines.append([f"{name_of(method)} - {name_of(other)}", str(seeds), *cells_of])
    return aligned(lines)


def by_seed_table(runs: Runs, config: GridConfig) -> str:
    """Each method after the last step against the reference after each: a line per seed, and one over all of them."""
    lines = [["difference", "seed", *(f"V_{n}" for n in BUDGETS), "KL, nats"]]
    last = {method: of_seeds for (method, step), of_seeds in runs.items() if step == config.steps}
    references = {step: of_seeds for (method, step), of_seeds in runs.items() if method == config.reference}
    for method, (step, of_reference) in product(last, references.items()):
        shared = sorted(last[method].keys() & of_reference.keys()) if method != config.reference else []
        groups = {str(seed): [seed] for seed in shared} | ({f"all {len(shared)}": shared} if len(shared) > 1 else {})
        for name, seeds in groups.items():
            found, _ = difference({seed: last[method][seed] for seed in seeds}, of_reference)
            cells_of = [interval_cell(found, k, 2, sign="+") for k in range(len(BUDGETS) + 1)]
            lines.append([f"{method} - {config.reference} after {step}", name, *cells_of])
    return aligned(lines)


def difference(of_seeds: dict[int, np.ndarray], reference: dict[int, np.ndarray]) -> tuple[Interval, int]:
    """The difference of two methods, paired by prompt and by the seeds that both have, and how many these are."""
    shared = sorted(of_seeds.keys() & reference.keys())
    return paired_difference(*(np.stack([one[seed] for seed in shared]) for one in (of_seeds, reference))), len(shared)


def name_of(method: str) -> str:
    return "the start" if method == BASE else method


if __name__ == "__main__":
    main(*sys.argv[1:])
