"""How well does each estimator point where V_N rises, for rewards that are not Gaussian?

    python experiments/robustness/run.py [--report_only]

Writes results/robustness.csv, the tables of README.md between their markers, and results/tables.md, which has those of
the larger groups and of the variants that were dropped. Seed 0; half a minute of one core. With `--report_only` the
tables are made from the committed rows.
"""

import argparse
import csv
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import remedies
import torch
from shapes import SHAPES, Shape
from torch import Tensor

from tailgrad.estimators import bind, parse_estimator
from tailgrad.tails import expected_max_normal

HERE = Path(__file__).parent
MARKERS = "<!-- tables: written by run.py -->", "<!-- end of the tables -->"
DEPLOY_N, GROUP_SIZES, SEED = 128, (8, 16, 64), 0
ROLLOUTS, BLOCKS = 2**17, 8
COLUMNS = {
    "dr_grpo": "dr_grpo",
    "grpo": "grpo",
    "rs_grpo:units=spread,risk_beta=1": "rs_grpo 1 / sd",
    "entropic": "entropic",
    "max_at_k:k=4": "max@4",
    "max_at_k:k=8": "max@8",
    "tea": "tea .25",
    "tea:tail_fraction=1,center=true": "tea 1",
    "flat_tea:tail_fraction=1,extrapolate_n=128": "flat 1",
    "flat_tea:tail_fraction=0.75,extrapolate_n=8": "flat .75, K = 8",
    "flat_tea:tail_fraction=0.5,extrapolate_n=128": "flat .5",
    "flat_tea:tail_fraction=0.25,extrapolate_n=128": "flat .25",
}

Advantages = Callable[[Tensor], Tensor]


def library(m: int) -> dict[str, Advantages]:
    """The library's estimators, by what one writes on a command line."""
    names = ["grpo", "dr_grpo", "rs_grpo:units=spread,risk_beta=1", "rs_grpo:units=spread,risk_beta=2"]
    names += ["entropic", "cvar"]
    names += [f"max_at_k:k={k}" for k in sorted({2, 3, 4, 8, m})]
    names += ["tea", "tea:tail_fraction=1,center=true"]
    names += [f"flat_tea:tail_fraction={a:g},extrapolate_n={k}" for a in (1, 0.75, 0.5, 0.25) for k in (8, 16, 128)]
    return {name: bound(name) for name in names}


def bound(text: str) -> Advantages:
    """An estimator from its text, for N = 128."""
    name, options = parse_estimator(text)
    if name in ("tea", "flat_tea"):
        options["deploy_n"] = DEPLOY_N
    return partial(bind(name, **options), validate=False)


def variants(history: Tensor) -> dict[str, Advantages]:
    """What was tried in the place of the whole group's mean and standard deviation."""
    found: dict[str, Advantages] = {}
    for k in (4, 128):
        c = expected_max_normal(k)
        found |= {
            f"normal scores times sd, K = {k}": partial(remedies.normal_scores, coefficient=c, keep_scale=True),
            f"normal scores, K = {k}": partial(remedies.normal_scores, coefficient=c, keep_scale=False),
            f"mean absolute difference, K = {k}": partial(remedies.l_moment, coefficient=c),
            f"winsorised, K = {k}": partial(remedies.winsorised, coefficient=c),
            f"clipped at its own vertex, K = {k}": partial(remedies.clipped_fit, coefficient=c),
            f"with 3 m earlier rollouts, K = {k}": partial(remedies.with_history, coefficient=c, history=history),
        }
    found |= {f"bar at the {'median' if at else 'mean'}": partial(remedies.bar_at, median=at) for at in (False, True)}
    return found | {f"shape pooled over 64 prompts, K = {k}": partial(remedies.pooled_shape, k=k) for k in (4, 8)}


def measure(shape: Shape, index: Tensor, advantages: Tensor) -> dict[str, float]:
    """Direction and signal in all that rewards can do, and where the policy moves a mean and a spread."""
    flat, a = index.reshape(-1), advantages.reshape(-1)
    psi = shape.influence[flat]
    noise = a.square().mean().sqrt() / math.sqrt(index.shape[1])
    along = (a * psi).mean() / psi.square().mean().sqrt()
    gain, found = gain_along(shape.latent_scores, shape, flat, a)
    numbers = {
        "direction": along / spread_explained(a, shape.bins[flat]),
        "signal": along / noise,
        "latent_direction": gain / found.norm(),
        "latent_signal": gain / noise,
        "latent_mean_signal": found[0] / noise,
    }
    if shape.own_scores is not None:
        numbers["own_signal"] = gain_along(shape.own_scores, shape, flat, a)[0] / noise
    return {name: number.nan_to_num(nan=0.0).item() for name, number in numbers.items()}  # 0 where all advantages are


def gain_along(scores: Tensor, shape: Shape, flat: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    """Expected gradient along that of V_N, and the expected gradient, for a policy with two orthonormal scores."""
    truth = scores @ shape.influence / len(shape.influence)
    found = scores[:, flat] @ a / len(a)
    return found @ truth / truth.norm(), found


def spread_explained(a: Tensor, bins: Tensor) -> Tensor:
    """Standard deviation of E[A | reward]: that of the bins' means, without what their noise adds."""
    count, total, squares = torch.bincount(bins).double(), torch.bincount(bins, a), torch.bincount(bins, a * a)
    used = count > 1
    count, total, squares = count[used], total[used], squares[used]
    noise = (squares - total**2 / count) / (count - 1) / count
    return ((count * ((total / count) ** 2 - noise)).sum() / count.sum() - a.mean() ** 2).sqrt()


def with_error(shape: Shape, index: Tensor, advantages: Tensor) -> dict[str, float]:
    """What `measure` finds, and its standard error from blocks of groups."""
    found = measure(shape, index, advantages)
    blocks = [measure(shape, *pair) for pair in zip(index.chunk(BLOCKS), advantages.chunk(BLOCKS), strict=True)]
    errors = {key: torch.tensor([block[key] for block in blocks]).std().item() / math.sqrt(BLOCKS) for key in found}
    return found | {f"{key}_error": error for key, error in errors.items()}


def rows() -> list[dict[str, float | str]]:
    """One for every shape, group size and estimator."""
    found: list[dict[str, float | str]] = []
    for name in SHAPES:
        shape = Shape(name, DEPLOY_N)
        for m in GROUP_SIZES:
            index = shape.sample(ROLLOUTS // m, m, SEED)
            history = shape.rewards[shape.sample(ROLLOUTS // m, 3 * m, SEED + 1)]
            for of_library, estimators in ((True, library(m)), (False, variants(history))):
                for text, estimator in estimators.items():
                    numbers = with_error(shape, index, estimator(shape.rewards[index]))
                    digits = {key: round(number, 4) for key, number in numbers.items()}
                    found.append({"shape": name, "m": m, "estimator": text, "library": int(of_library)} | digits)
    return found


def by_shape(found: list[dict[str, float | str]], key: str, m: int) -> list[str]:
    """One kind of signal: a shape a line, an estimator a column."""
    at = {(row["shape"], row["estimator"]): row[key] for row in found if row["m"] == m and row.get(key)}
    lines = ["| rewards | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for shape in dict.fromkeys(shape for shape, _ in at):
        values = [at[shape, text] for text in COLUMNS]
        cells = [f"**{value:.2f}**" if value == max(values) else f"{value:.2f}" for value in values]
        lines.append(f"| {shape} | " + " | ".join(cells) + " |")
    return lines


def summary(found: list[dict[str, float | str]], *, of_library: bool) -> list[str]:
    """Over the shapes: mean and worst share of the best signal of the library, and three means at m = 16."""
    head = [*(f"m = {m}" for m in GROUP_SIZES), "mean only", "direction", "any move"]
    lines = ["| | " + " | ".join(head) + " |", "|---" * (len(head) + 1) + "|"]
    best: dict[tuple[str, float], float] = {}
    for row in found:
        if row["library"]:
            key = row["shape"], row["m"]
            best[key] = max(best.get(key, 0.0), row["latent_signal"])
    for text in dict.fromkeys(row["estimator"] for row in found if row["library"] == of_library):
        mine = [[row for row in found if row["estimator"] == text and row["m"] == m] for m in GROUP_SIZES]
        if not all(mine):
            continue  # k = m, which is in robustness.csv
        shares = [[row["latent_signal"] / best[row["shape"], row["m"]] for row in of_m] for of_m in mine]
        cells = [f"{sum(each) / len(each):.2f}, {min(each):.2f}" for each in shares]
        for key in ("latent_mean_signal", "direction", "signal"):
            cells.append(f"{sum(row[key] for row in mine[1]) / len(SHAPES):.2f}")
        lines.append(f"| `{text}` | " + " | ".join(cells) + " |")
    return lines


def read_rows() -> list[dict[str, float | str]]:
    """The committed rows."""
    with (HERE / "results" / "robustness.csv").open() as file:
        return [
            {key: value if key in ("shape", "estimator") else float(value) for key, value in row.items() if value}
            for row in csv.DictReader(file)
        ]


def tables(found: list[dict[str, float | str]]) -> str:
    """All that README.md shows."""
    shown = [row for row in found if row["m"] == 16 and row["estimator"] in COLUMNS]
    error = max(row[key] for row in shown for key in ("latent_signal_error", "own_signal_error") if row.get(key))
    return "\n".join(
        [
            *(
                f"Signal of one group of 16, standard errors at most {error:.2f}:",
                "",
                *by_shape(found, "latent_signal", 16),
                "",
            ),
            *("Where the policy moves the mean and spread of the reward itself:", ""),
            *(*by_shape(found, "own_signal", 16), ""),
            *("Mean and worst share of the best signal:", "", *summary(found, of_library=True)),
        ]
    )


def more_tables(found: list[dict[str, float | str]]) -> str:
    """What README.md only speaks of."""
    return "\n".join(
        [
            *("Where the policy moves the mean and spread of the reward itself, in groups of 64:", ""),
            *(*by_shape(found, "own_signal", 64), ""),
            *("The variants of `flat_tea`: mean and worst share of the best signal:", ""),
            *(*summary(found, of_library=False), ""),
        ]
    )


def main() -> None:
    """Measure, or read the rows, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report_only", action="store_true", help="measure nothing, read the committed rows")
    if not parser.parse_args().report_only:
        measured = rows()
        with (HERE / "results" / "robustness.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(max(measured, key=len)), lineterminator="\n")
            writer.writeheader()
            writer.writerows(measured)
    found = read_rows()
    (HERE / "results" / "tables.md").write_text(more_tables(found))
    page = HERE / "README.md"
    before, _, rest = page.read_text().partition(MARKERS[0])
    after = rest.partition(MARKERS[1])[2]
    page.write_text(f"{before}{MARKERS[0]}\n{tables(found)}\n{MARKERS[1]}{after}")


if __name__ == "__main__":
    main()
