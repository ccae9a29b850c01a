"""Flat TEA and its relatives: closed forms for a Gaussian policy, simulated groups beside them, and the figure.

    python docs/gallery/flat_tea.py

Writes relatives.png beside this file, and the two tables of docs/flat_tea.md between their markers. Seed 0.
"""

import math
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from scipy.optimize import brentq
from torch import Tensor

from tailgrad.estimators import bind, parse_estimator
from tailgrad.tails import expected_max_normal, extrapolation_coefficient, gaussian_tail

HERE = Path(__file__).parent
PAGE = HERE.parent / "flat_tea.md"
DEPLOY_N, SEED, ROLLOUTS = 128, 0, 2**20
ORDERS = ((1.0, 8), (1.0, 16), (1.0, 128), (1.0, 10**9), (0.75, 8), (0.5, 128), (0.25, 128))
SIMULATED = (
    ["dr_grpo", "max_at_k:k=4", "max_at_k:k=8", "rs_grpo:units=spread,risk_beta=1"]
    + ["entropic", "cvar", "tea:center=true", "tea:tail_fraction=1,center=true"]
    + [f"flat_tea:tail_fraction={alpha:g},extrapolate_n={k}" for alpha, k in ORDERS if k <= DEPLOY_N]
)
PANELS = {
    "flat TEA": {
        r"$\alpha$ = 1, K = 128": "flat_tea",
        r"$\alpha$ = 1, K = 16": "flat_tea:extrapolate_n=16",
        r"$\alpha$ = .5, K = 128": "flat_tea:tail_fraction=0.5",
        r"$\alpha$ = .25, K = 128": "flat_tea:tail_fraction=0.25",
    },
    "smooth relatives": {
        r"flat TEA, $\alpha$ = 1": "flat_tea",
        "max@4": "max_at_k:k=4",
        "max@8": "max_at_k:k=8",
        "rs_grpo, 1 / sd": "rs_grpo:units=spread,risk_beta=1",
        "rs_grpo, 2 / sd": "rs_grpo:units=spread,risk_beta=2",
        "entropic": "entropic",
    },
    "what they lie between": {
        r"flat TEA, $\alpha$ = 1": "flat_tea",
        "grpo": "grpo",
        r"TEA, $\alpha$ = 1": "tea:tail_fraction=1",
        r"influence on $V_{128}$": f"max_at_k:k={DEPLOY_N}",
        r"TEA, $\alpha$ = .25": "tea",
    },
}


class Gradient(NamedTuple):
    """What one group tells, on average, of a Gaussian policy, and its noise times the root of m."""

    mean: float
    """Along the mean."""
    log_sd: float
    """Along the log standard deviation."""
    noise: float
    """Standard deviation of the influence."""

    def gain(self) -> float:
        """Component along the gradient of V_N, in units in which both scores have variance one."""
        c = expected_max_normal(DEPLOY_N)
        return (self.mean + c * self.log_sd / 2) / math.sqrt(1 + c * c / 2)

    def direction(self) -> float:
        """Cosine to the gradient of V_N."""
        return self.gain() / math.hypot(self.mean, self.log_sd / math.sqrt(2))


def vertex(tail_fraction: float, k: float) -> float:
    """The point lambda - kappa / ctilde_K: where the parabola turns, in standard deviations above the mean."""
    tail = gaussian_tail(tail_fraction)
    return tail.mean - tail.std / extrapolation_coefficient(k, tail_fraction)


def closed_form(tail_fraction: float, k: float) -> Gradient:
    """Of b (z - v)_+^2 for z ~ N(0, 1), b = ctilde_K / (2 alpha kappa), from the truncated moments of z - v."""
    size = extrapolation_coefficient(k, tail_fraction) / (tail_fraction * gaussian_tail(tail_fraction).std)
    t = -vertex(tail_fraction, k)
    moments = [0.5 * (1 + math.erf(t / math.sqrt(2)))]
    moments.append(t * moments[0] + math.exp(-0.5 * t * t) / math.sqrt(2 * math.pi))
    for power in (2, 3, 4):
        moments.append(t * moments[-1] + (power - 1) * moments[-2])
    return Gradient(size * moments[1], size * moments[0], size / 2 * math.sqrt(moments[4] - moments[2] ** 2))


def followed(gradient: Gradient) -> float:
    """The k for which the gradient of V_k, 1 and c_k, has this direction."""
    return brentq(lambda k: expected_max_normal(k) - gradient.log_sd / gradient.mean, 1, 1e6)


def normal(groups: int, m: int) -> Tensor:
    """Rewards of a Gaussian policy."""
    return torch.randn(groups, m, dtype=torch.float64, generator=torch.Generator().manual_seed(SEED))


def advantages(text: str, rewards: Tensor) -> Tensor:
    """Of an estimator as one writes it, for N = 128."""
    name, options = parse_estimator(text)
    if name in ("tea", "flat_tea"):
        options["deploy_n"] = DEPLOY_N
    return bind(name, **options)(rewards, validate=False)


def simulated(text: str, m: int) -> Gradient:
    """The same of groups of m, by simulation."""
    rewards = normal(ROLLOUTS // m, m)
    a = advantages(text, rewards)
    along = [(a * score).mean().item() for score in (rewards, rewards**2 - 1)]
    return Gradient(*along, a.square().mean().sqrt().item())


def closed_table() -> str:
    """Many rollouts: one line for each tail fraction and order."""
    names = ["`tail_fraction`", "K", "vertex", "mean", "log sd", "noise √m", "direction", "signal / √m"]
    lines = ["| " + " | ".join([*names, "mean / noise", "follows V_k, k ="]) + " |"]
    lines.append("|" + "---|" * 10)
    for alpha, k in ORDERS:
        found = closed_form(alpha, k)
        numbers = [vertex(alpha, k), *found, found.direction(), found.gain() / found.noise, found.mean / found.noise]
        cells = " | ".join(f"{number:.2f}" for number in numbers)
        lines.append(f"| {alpha:g} | {'10⁹' if k == 10**9 else k} | {cells} | {followed(found):.1f} |")
    return "\n".join(lines)


def simulated_table() -> str:
    """Groups of 16 and 64: one line for each estimator."""
    names = ["gradient", "noise", "direction", "signal", "mean / noise", "worst of 16", "direction", "signal"]
    head = [f"{name}, m = {m}" for name, m in zip(names, [16] * 5 + [0] + [64] * 2, strict=True)]
    lines = [
        "| estimator | " + " | ".join(head).replace(", m = 0", "") + " | mean / noise, m = 64 |",
        "|" + "---|" * 10,
    ]
    for text in SIMULATED:
        cells = []
        for m in (16, 64):
            found = simulated(text, m)
            noise = found.noise / math.sqrt(m)
            if m == 16:
                cells += [f"{found.mean:.2f}, {found.log_sd:.2f}", f"{noise:.3f}"]
            cells += [f"{found.direction():.2f}", f"{found.gain() / noise:.2f}", f"{found.mean / noise:.2f}"]
            if m == 16:
                cells.append(f"{of_the_worst(text, m):+.2f}")
        lines.append(f"| `{text}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def of_the_worst(text: str, m: int) -> float:
    """Mean advantage of the worst rollout of a group of m, over the root mean square of all advantages."""
    rewards = normal(ROLLOUTS // m, m)
    a = advantages(text, rewards)
    return (a.gather(1, rewards.argmin(1, keepdim=True)).mean() / a.square().mean().sqrt()).item()


def draw_panel(axis: Axes, title: str, entries: dict[str, str], rewards: Tensor) -> None:
    """Advantage against reward at equal scale, an estimator a line."""
    colours = ["#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
    shown = rewards[0].abs() < 3
    axis.axhline(0, color="#BBBBBB", linewidth=0.8)
    for colour, (label, text) in zip(colours, entries.items(), strict=False):
        values = advantages(text, rewards)[0]
        values = (values - values.mean()) / values.std(correction=0)
        widths = {"linewidth": 2.6} if text == "flat_tea" else {"linewidth": 1.5}
        axis.plot(rewards[0][shown], values[shown], color=colour, label=label, **widths)
    axis.set_title(title, loc="left", fontsize=11)
    axis.set(xlim=(-3, 3), ylim=(-2.6, 6))
    axis.set_xlabel("reward, in standard deviations")
    axis.grid(color="#EEEEEE")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=9, loc="upper left")


def draw(path: Path) -> None:
    """One large group at the quantiles of a Gaussian, three panels."""
    ranks = (torch.arange(4_000, dtype=torch.float64) + 0.5) / 4_000
    rewards = torch.special.ndtri(ranks)[None]
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.6), layout="constrained", sharey=True)
    for axis, (title, entries) in zip(axes, PANELS.items(), strict=True):
        draw_panel(axis, title, entries, rewards)
    axes[0].set_ylabel("advantage: mean 0, root mean square 1")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    """Draw, and write the tables into the page."""
    draw(HERE / "relatives.png")
    text = PAGE.read_text()
    for name, table in (("closed forms", closed_table()), ("groups", simulated_table())):
        begin, end = f"<!-- {name}: written by docs/gallery/flat_tea.py -->", f"<!-- end of the {name} -->"
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n{table}\n{end}{rest.partition(end)[2]}"
        print(table, end="\n\n")
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
