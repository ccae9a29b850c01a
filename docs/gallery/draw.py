"""Draw the estimator gallery: shapes, bias, noise and signal-to-noise of every estimator on Gaussian rewards.

    python docs/gallery/draw.py

Writes shapes.png, bias.png, signal.png and gallery.json beside this file, and the table of docs/gallery.md between
its two markers.
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.ticker import FormatStrFormatter
from torch import Tensor

from tailgrad.estimators import ESTIMATORS, bind, smallest_group
from tailgrad.tails import expected_max_normal

HERE = Path(__file__).parent
PAGE = HERE.parent / "gallery.md"
MARKERS = "<!-- table: written by docs/gallery/draw.py -->", "<!-- end of the table -->"
DEPLOY_N = 128
GROUP_SIZES = (8, 16, 32, 64, 128)
GROUPS = 40_000
PREFIX_ENTRIES = 2**24  # fewer groups for prefix_tea, whose work grows with m^2
SEED = 0
SHOWN = ("k", "top", "risk_beta", "tail_fraction", "center")


@dataclass(frozen=True)
class Entry:
    """One estimator as the gallery shows it."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    binary: bool = False

    @property
    def label(self) -> str:
        """Its name with the option that matters."""
        shown = [f"{key}={value}" for key, value in self.options.items() if key in SHOWN]
        return f"{self.name} {', '.join(shown)}".strip()

    def advantages(self, rewards: Tensor) -> Tensor:
        """Of rewards, or of whether they are above 1 for an estimator of successes."""
        return bind(self.name, **self.options, validate=False)((rewards > 1).double() if self.binary else rewards)


ENTRIES = [
    Entry("tea", {"deploy_n": DEPLOY_N}),
    Entry("tea", {"deploy_n": DEPLOY_N, "tail_fraction": 1.0, "center": True}),
    Entry("flat_tea", {"deploy_n": DEPLOY_N}),
    Entry("flat_tea", {"deploy_n": DEPLOY_N, "tail_fraction": 0.25}),
    Entry("prefix_tea", {"deploy_n": DEPLOY_N}),
    Entry("cvar"),
    Entry("max_at_k", {"k": 4}),
    Entry("max_at_k", {"k": 8}),
    Entry("order_grad", {"k": 8, "top": 2}),
    Entry("bon_max_second"),
    Entry("bon_max_mean"),
    Entry("bon_rl", {"deploy_n": DEPLOY_N}),
    Entry("cat_bon", {"deploy_n": DEPLOY_N}),
    Entry("rs_grpo", {"risk_beta": 1.0, "units": "spread"}),
    Entry("rs_grpo", {"risk_beta": 2.0, "units": "spread"}),
    Entry("entropic"),
    Entry("rloo"),
    Entry("dr_grpo"),
    Entry("grpo"),
    Entry("qae"),
    Entry("pass_at_k", {"k": 4}, binary=True),
]
TRUTH = torch.tensor([1.0, expected_max_normal(DEPLOY_N)], dtype=torch.float64)  # dV/dmu, dV/dlog sigma
SCORE_NORMS = torch.tensor([1.0, math.sqrt(2.0)], dtype=torch.float64)  # of the scores R and R^2 - 1


def normal(groups: int, m: int) -> Tensor:
    """Rewards of a Gaussian policy."""
    return torch.randn(groups, m, dtype=torch.float64, generator=torch.Generator().manual_seed(SEED))


def measure(entry: Entry, m: int) -> dict[str, float] | None:
    """Expected gradient of one group along mean and log standard deviation, and its noise; None where m is too small.

    `direction` is the cosine between the expected gradient and that of V_N, in units in which the scores of both
    parameters have variance one. `signal` is the expected gradient along V_N's, over the standard deviation that the
    estimate has in a direction that does not matter: what many parameters add.
    """
    if m < smallest_group(entry.name, **entry.options):
        return None
    groups = max(200, min(GROUPS, PREFIX_ENTRIES // m**2)) if entry.name == "prefix_tea" else GROUPS
    rewards = normal(groups, m)
    advantages = entry.advantages(rewards)
    gradients = torch.stack([(advantages * rewards).mean(1), (advantages * (rewards**2 - 1)).mean(1)], dim=1)
    mean, error = gradients.mean(0), gradients.std(0) / math.sqrt(groups)
    truth = TRUTH / SCORE_NORMS
    scaled = mean / SCORE_NORMS
    along = float(scaled @ truth / truth.norm())
    return {
        "m": m,
        "mean": mean[0].item(),
        "log_std": mean[1].item(),
        "error_mean": error[0].item(),
        "error_log_std": error[1].item(),
        "sd_mean": gradients[:, 0].std().item(),
        "sd_log_std": gradients[:, 1].std().item(),
        "direction": along / float(scaled.norm()),
        "signal": along / math.sqrt(float((advantages**2).mean()) / m),
    }


def draw_shapes(path: Path) -> None:
    """Advantage against reward for one group of 16, an estimator a panel."""
    rewards = torch.linspace(0, 1, 34, dtype=torch.float64)[1:-1:2]  # 16 evenly spaced quantiles
    rewards = (math.sqrt(2) * torch.erfinv(2 * rewards - 1))[None]
    figure, axes = plt.subplots(3, 7, figsize=(15, 6.6), layout="constrained", sharex=True)
    for axis, entry in zip(axes.flat, ENTRIES, strict=True):
        values = entry.advantages(rewards)[0]
        axis.axhline(0, color="#BBBBBB", linewidth=0.8)
        axis.vlines(rewards[0], 0, values, color="#0072B2", linewidth=1)
        axis.plot(rewards[0], values, "o", color="#0072B2", markersize=4)
        axis.set_title(entry.label.replace(", ", "\n"), fontsize=9, loc="left")
        axis.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("reward")
    figure.supylabel("advantage")
    figure.savefig(path, dpi=130)
    plt.close(figure)


@dataclass(frozen=True)
class Panel:
    """One quantity against m."""

    quantity: str
    title: str
    scale: str = "log"
    limits: tuple[float, float] | None = None


def draw_lines(path: Path, rows: dict[str, list[dict[str, float]]], panels: list[Panel], columns: int) -> None:
    """A panel a quantity, an estimator a line; colours repeat with another dash."""
    height = len(panels) // columns
    figure, axes = plt.subplots(height, columns, figsize=(4.6 * columns + 2, 4 * height), layout="constrained")
    colours = plt.get_cmap("tab10").colors
    for axis, panel in zip(np.ravel(axes), panels, strict=True):
        for i, (label, points) in enumerate(rows.items()):
            m, values = zip(*((point["m"], point[panel.quantity]) for point in points), strict=True)
            style = {"color": colours[i % 10], "linestyle": ["-", (0, (2, 1.5))][i // 10]}
            axis.plot(m, values, marker="o", markersize=3, linewidth=1.5, label=label, **style)
        axis.set_title(panel.title, loc="left", fontsize=11)
        axis.set(xlabel="rollouts per prompt, m", xscale="log", xticks=GROUP_SIZES, ylim=panel.limits)
        axis.set_yscale(panel.scale, **({"linthresh": 1} if panel.scale == "symlog" else {}))
        axis.minorticks_off()
        axis.set_xticklabels(map(str, GROUP_SIZES))
        axis.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        if panel.scale == "log":
            low, high = axis.get_ylim()
            axis.set_yticks([tick for tick in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20) if low <= tick <= high])
        axis.grid(color="#E8E8E8")
        axis.spines[["top", "right"]].set_visible(False)
    handles, labels = np.ravel(axes)[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=9, loc="outside right center")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def table(rows: dict[str, list[dict[str, float]]]) -> str:
    """Direction and signal at m = 16 and 64, best direction first."""
    lines = [
        "| estimator | direction, m = 16 | signal, m = 16 | direction, m = 64 | signal, m = 64 |",
        "|---|---|---|---|---|",
    ]
    at = {label: {point["m"]: point for point in points} for label, points in rows.items()}
    for label in sorted(at, key=lambda label: -at[label][16]["direction"]):
        cells = [f"{at[label][m][quantity]:.2f}" for m in (16, 64) for quantity in ("direction", "signal")]
        lines.append(f"| `{label}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure, draw, and write the table into the page."""
    found = {entry.label: [row for m in GROUP_SIZES if (row := measure(entry, m))] for entry in ENTRIES}
    (HERE / "gallery.json").write_text(json.dumps(found, indent=1) + "\n")
    draw_shapes(HERE / "shapes.png")
    with_scale = [entry.label for entry in ENTRIES if ESTIMATORS[entry.name].has_scale]
    biases = {
        label: [
            row | {"bias_mean": row["mean"] - 1, "bias_log_std": row["log_std"] - TRUTH[1].item()}
            for row in found[label]
        ]
        for label in with_scale
    }
    panels = [
        Panel("bias_mean", f"bias of dV_{DEPLOY_N} / d mean (truth 1)", "symlog"),
        Panel("bias_log_std", f"bias of dV_{DEPLOY_N} / d log std (truth {TRUTH[1]:.2f})", "symlog"),
        Panel("sd_mean", "standard deviation of one group, mean", limits=(0.04, 20)),
        Panel("sd_log_std", "standard deviation of one group, log std", limits=(0.04, 20)),
    ]
    draw_lines(HERE / "bias.png", biases, panels, columns=2)
    gaussian = {entry.label: found[entry.label] for entry in ENTRIES if not entry.binary}
    panels = [
        Panel("direction", f"direction: cosine to the gradient of V_{DEPLOY_N}", "linear"),
        Panel("signal", "signal of one group: along that gradient, over noise"),
    ]
    draw_lines(HERE / "signal.png", gaussian, panels, columns=2)
    if PAGE.exists():
        before, _, rest = PAGE.read_text().partition(MARKERS[0])
        after = rest.partition(MARKERS[1])[2]
        PAGE.write_text(f"{before}{MARKERS[0]}\n{table(gaussian)}\n{MARKERS[1]}{after}")
    print(table(gaussian))


if __name__ == "__main__":
    main()
