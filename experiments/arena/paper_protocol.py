"""The paper's protocol: one learning rate and one KL weight for all, advantages on their own scales.

    python experiments/arena/paper_protocol.py --out experiments/arena/results

The comparison as published (arXiv 2605.10716, as far as it says) has no choice per method: whoever's advantages are
larger is held less by the same KL weight and goes further. The table gives, for each KL weight, V_N and KL after the
last step, and V_N within the KL where z-scored GRPO ends, read from the same trainings.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from contenders import trainable
from rows import read_trace
from settings import PARTS, Setting, all_settings

from tailgrad.display.cells import aligned, interval_cell
from tailgrad.grid.frontier import best_within_kl
from tailgrad.statistics import paired_difference
from training import Schedule, trace_path, train_missing

HERE = Path(__file__).resolve().parent
Z_SCORED, MEAN_ONLY = "grpo", "dr_grpo"
NAMES = (Z_SCORED, MEAN_ONLY, "tea .25", "prefix_tea", "cvar .25", "max@4", "max@m", "flat")
SHAPES = ("gaussian", "exponential")
SCHEDULE = Schedule(5, (0.02,), (0.1, 0.2, 0.5), (0, 4, 8, 12, 18, 27, 40, 60, 90), scaling="none")


def competitors(setting: Setting) -> dict[str, tuple[str, str]]:
    """Name to text and scaling: the advantages are left on their own scales."""
    return {name: (text, "none") for name, (text, _) in trainable(setting).items() if name in NAMES}


def protocol_table(setting: Setting, traces: Path) -> str:
    """One setting: V_N and KL of each contender at each KL weight, and V_N within z-scored GRPO's KL."""
    heading = [
        "KL weight",
        "contender",
        "KL",
        "V_N",
        f"minus {Z_SCORED}",
        f"minus {MEAN_ONLY}",
        f"within {Z_SCORED}'s KL",
    ]
    rows = [[*heading, f"there minus {Z_SCORED}"]]
    read = {
        name: read_trace(trace_path(traces, setting, *contender))[0] for name, contender in competitors(setting).items()
    }
    for pair, weight in enumerate(SCHEDULE.kl_weights):
        ends = {name: trace.v_report[:, pair, -1] for name, trace in read.items()}
        limit = float(read[Z_SCORED].kl_report[:, pair, -1].mean())
        for name, trace in read.items():
            kl = trace.kl_report[:, pair]
            within = best_within_kl(kl, trace.v_report[:, pair].transpose(0, 2, 1), limit)
            cells = [f"{weight:g}", name, f"{kl[:, -1].mean():.2f}", f"{ends[name].mean():.2f}"]
            cells += [difference(ends[name], ends[other]) for other in (Z_SCORED, MEAN_ONLY)]
            rows.append([*cells, f"{within.mean():.2f}", difference(within, ends[Z_SCORED])])
    return aligned(rows)


def difference(values: np.ndarray, reference: np.ndarray) -> str:
    """A paired difference as a cell, with a star where it is clear of zero."""
    interval = paired_difference(values[:, :, None], reference[:, :, None])
    clear = interval.low[0] > 0 or interval.high[0] < 0
    return interval_cell(interval, 0, 2, "+") + (" *" if clear else "")


def protocol_settings() -> list[Setting]:
    """The sequence tasks of the first draw where V_N has room and TEA's tail is large enough: two shapes, m >= 16."""
    found = [s for s in all_settings() if s.world == "sequence" and s.part != PARTS[2]]
    return [s for s in found if s.shape in SHAPES and s.m >= 16]


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the table")
    parser.add_argument("--traces", type=Path, default=HERE / "artifacts" / "paper", help="folder of what was trained")
    options = parser.parse_args()
    parts = []
    for setting in protocol_settings():
        train_missing(options.traces, setting, competitors(setting), SCHEDULE)
        parts += [f"## {setting.name}", protocol_table(setting, options.traces)]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "paper_protocol.md").write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
