"""The leaderboard's figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from leaderboard import BEST_MAX, GRPO, Results, equal_kl
from rows import BASE, STEPS, criteria_of

from tailgrad.evaluation.figures import drawing, styles_of

_LIMIT = 0.5


def short(setting: str) -> str:
    """A setting's name without the words that all have."""
    return setting.replace("bandit-", "").replace("sequence-", "seq ").replace("-", " ")


def draw_overview(results: Results, names: list[str], stem: Path) -> None:
    """Every contender in every setting: its difference to GRPO over GRPO's gain; a dot where it is clear of 0."""
    settings = sorted(results.settings, key=lambda s: (results.settings[s]["half"], s))
    with drawing(stem, (3.0 + 0.34 * len(settings), 2.4 + 0.48 * len(names))) as (figure, _):
        panels = figure.subplots(2, 1, sharex=True)
        for panel, title in zip(panels, ("KL 2", STEPS), strict=True):
            shares, clear = np.full((2, len(names), len(settings)), np.nan)
            for column, setting in enumerate(settings):
                found = results.against(setting, title, GRPO)
                gain = results.gain(setting, title) or np.nan
                for row, name in enumerate(names):
                    if name in found:
                        mean, low, high = found[name]
                        shares[row, column], clear[row, column] = mean / gain, low > 0 or high < 0
            image = panel.imshow(shares, cmap="PuOr_r", vmin=-_LIMIT, vmax=_LIMIT, aspect="auto")
            rows, columns = np.nonzero(clear == 1)
            panel.plot(columns, rows, ".", color="black", markersize=3.5)
            panel.axvline(sum(results.settings[s]["half"] == "choosing" for s in settings) - 0.5, color="black")
            panel.set_yticks(range(len(names)), names, fontsize=8)
            panel.set_xticks(range(len(settings)), [short(s) for s in settings], rotation=90, fontsize=8)
            panel.set_title("within 2 nats" if title != STEPS else "after equal steps")
            panel.grid(False)
        figure.colorbar(image, ax=panels, extend="both", label="difference to GRPO / GRPO's gain", shrink=0.5)


def draw_paths(results: Results, names: list[str], settings: list[str], stem: Path) -> None:
    """V_N of the policy chosen within each KL divergence, for a few settings."""
    styles = styles_of([*names, GRPO], GRPO)
    columns = 3
    with drawing(stem, (11.5, 3.4 * -(-len(settings) // columns))) as (figure, _):
        panels = figure.subplots(-(-len(settings) // columns), columns, squeeze=False).ravel()
        for panel, setting in zip(panels, settings, strict=False):
            criteria = equal_kl(results.settings[setting]["world"])
            kl = [0.0, *(float(criterion.split()[1]) for criterion in criteria)]
            base = results.values(setting, BASE, STEPS).mean()
            for name in [GRPO, *names]:
                if name != BEST_MAX and name not in results.names(setting):
                    continue
                who = [results.reference(setting, criterion, name) for criterion in criteria]
                reached = [results.values(setting, one, at).mean() for one, at in zip(who, criteria, strict=True)]
                panel.plot(kl, [base, *reached], marker="o", markersize=3.5, label=name, **styles[name])
            panel.set_xscale("function", functions=(lambda kl: np.sqrt(np.maximum(kl, 0.0)), np.square))
            panel.set_xticks(kl)
            panel.set_title(short(setting), fontsize=9.5)
        for panel in panels[len(settings) :]:
            panel.axis("off")
        figure.supxlabel("KL to the base policy, at most (nats per response; square root axis)", fontsize=10)
        figure.supylabel("$V_N$, in units of the base policy's spread", fontsize=10)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=5, frameon=False)


def draw_movability(results: Results, names: list[str], stem: Path, criterion: str = "KL 2") -> None:
    """Difference to GRPO against the cosine of the mean's gradient with V_N's, one panel a contender."""
    known = [s for s, row in results.settings.items() if row["cosine"] is not None and row["shape"] != "success"]
    with drawing(stem, (3.6 * len(names), 3.6)) as (figure, _):
        panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
        for panel, name in zip(panels, names, strict=True):
            panel.axhline(0.0, color="#888888", linewidth=1)
            for setting in known:
                who = results.reference(setting, criterion, name)
                found, row = results.against(setting, criterion, GRPO), results.settings[setting]
                if who not in found or criterion not in criteria_of(row["world"]):
                    continue
                gain = results.gain(setting, criterion) or np.nan
                mean, low, high = (value / gain for value in found[who])
                colour = "#0072B2" if row["half"] == "reporting" else "#B0B0B0"
                panel.plot([row["cosine"]] * 2, [low, high], color=colour, linewidth=1.2)
                panel.plot([row["cosine"]], [mean], "o", color=colour, markersize=4)
            panel.set_title(name)
            panel.set_xlabel("cosine of the mean's gradient with $V_N$'s")
        panels[0].set_ylabel("difference to GRPO / GRPO's gain")
