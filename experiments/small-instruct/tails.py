"""How Gaussian the upper tail of each starting policy's rewards is, and whether a reward saturates or ties.

    python experiments/small-instruct/tails.py --tables DIR --out DIR

Reads the rollout tables in `--tables` (POLICY-PROMPTS-REWARD.parquet) and writes tails.md and tails.png to `--out`.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from constraints import MAXIMUM

from tailgrad.curves import Rollouts, best_of_n
from tailgrad.display.cells import aligned
from tailgrad.display.style import drawing
from tailgrad.rollouts import read_rollouts
from tailgrad.tails import UpperTailQQ, upper_tail_qq

sys.path.append(str(Path(__file__).resolve().parents[1] / "first-real-run"))
from check_task import TAIL_FRACTION, distinct_shares, slope, tied_shares

BUDGETS = (1, 16, 128, 512)
MAXIMA = {"constraints": MAXIMUM}
HEADINGS = ("policy, prompts, reward", *(f"V_{budget}" for budget in BUDGETS), "of the maximum", "ties", "distinct")


def measures(label: str, table: Rollouts, qq: UpperTailQQ) -> list[str]:
    """One row: V_N, share of the maximum, ties in the top quarter, distinct responses, the QQ line."""
    budgets = [budget for budget in BUDGETS if budget <= table.rewards.shape[1]]
    values = best_of_n(table.rewards, budgets).mean(axis=0)
    maximum = next((value for name, value in MAXIMA.items() if label.endswith(name)), None)
    cells = [f"{value:.3f}" for value in values] + [""] * (len(BUDGETS) - len(budgets))
    cells.append("no maximum" if maximum is None else f"{values[-1] / maximum:.3f}")
    ties, distinct = tied_shares(table.rewards), distinct_shares(table.responses)
    cells += [f"{ties.mean():.3f} (at most {ties.max():.3f})", f"{distinct.mean():.3f}"]
    own = np.nanmedian(qq.prompt_linearity)
    return [label.replace("-", ", ", 2), *cells, f"{qq.linearity:.4f}", f"{own:.3f}", f"{slope(qq):.2f}"]


def draw(plots: dict[str, UpperTailQQ], stem: Path) -> None:
    """A row a policy and prompt set, a column a reward."""
    rows: dict[str, list[str]] = {}
    for label in plots:
        rows.setdefault("-".join(label.split("-")[:2]), []).append(label)
    with drawing(stem, (3.2 * max(map(len, rows.values())), 3.4 * len(rows))) as (figure, _):
        axes = figure.subplots(len(rows), max(map(len, rows.values())), squeeze=False, sharex=True)
        for panels, labels in zip(axes, rows.values(), strict=True):
            panels[0].set_ylabel("standardised reward")
            for panel in panels[len(labels) :]:
                panel.set_visible(False)
            for panel, label in zip(panels, labels, strict=False):
                qq = plots[label]
                panel.plot(qq.quantiles, qq.quantiles, color="0.6")
                panel.plot(qq.quantiles, qq.residuals, ".", markersize=2)
                panel.set_title(f"{label}\n$R^2$ = {qq.linearity:.4f}", fontsize=9)
        for panel in axes[-1]:
            panel.set_xlabel("normal quantile")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", type=Path, required=True, help="folder with the rollout tables")
    parser.add_argument("--out", type=Path, required=True, help="folder for tails.md and tails.png")
    args = parser.parse_args()
    tables = {path.stem: read_rollouts(path) for path in sorted(args.tables.glob("*.parquet"))}
    if not tables:
        raise SystemExit(f"{args.tables} holds no rollout table: run.py makes them.")
    args.out.mkdir(parents=True, exist_ok=True)
    plots = {label: upper_tail_qq(table.rewards, tail_fraction=TAIL_FRACTION) for label, table in tables.items()}
    heading = [*HEADINGS, "pooled R^2", "median prompt's R^2", "slope"]
    text = aligned([heading, *(measures(label, table, plots[label]) for label, table in tables.items())])
    (args.out / "tails.md").write_text(text + "\n", encoding="utf-8")
    draw(plots, args.out / "tails")
    print(text)


if __name__ == "__main__":
    main()
