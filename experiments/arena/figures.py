"""The leaderboard's figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from leaderboard import GRPO, Results, equal_kl
from rows import BASE, STEPS

from tailgrad.display.style import drawing, styles_of

_LIMIT = 50.0
_PART_COLOURS = {"choosing": "#B0B0B0", "reporting": "#0072B2", "fresh": "#D55E00"}


def short(setting: str) -> str:
    """A setting's name without the words that all have."""
    return setting.replace("bandit-", "").replace("sequence-", "seq ").replace("-", " ")


def draw_overview(results: Results, settings: list[str], stem: Path) -> None:
    """Every contender in every setting: its difference to GRPO in percent of a unit; a dot where it is clear of 0."""
    names = list(dict.fromkeys(name for setting in settings for name in results.names(setting) if name != GRPO))
    panels_of = {"KL 2": "within 2 nats", STEPS: "after equal steps"}
    with drawing(stem, (3.4 + 0.29 * len(settings), 1.8 + 0.38 * len(names))) as (figure, _):
        panels = figure.subplots(2, 1, sharex=True)
        for panel, (criterion, title) in zip(panels, panels_of.items(), strict=True):
            percents, clear = np.full((2, len(names), len(settings)), np.nan)
            for column, setting in enumerate(settings):
                for name, (mean, low, high) in results.against(setting, criterion, GRPO).items():
                    if name != GRPO:
                        percents[names.index(name), column] = 100 * mean / results.unit(setting)
                        clear[names.index(name), column] = low > 0 or high < 0
            image = panel.imshow(percents, cmap="PuOr_r", vmin=-_LIMIT, vmax=_LIMIT, aspect="auto")
            rows, columns = np.nonzero(clear == 1)
            panel.plot(columns, rows, ".", color="black", markersize=3.5)
            panel.set_yticks(range(len(names)), names, fontsize=7.5)
            panel.set_xticks(range(len(settings)), [_label(results, s) for s in settings], rotation=90, fontsize=7.5)
            panel.set_title(title)
            panel.grid(False)
        label = "difference to GRPO, % of GRPO's gain within the largest KL"
        figure.colorbar(image, ax=panels, extend="both", label=label, shrink=0.5)


def _label(results: Results, setting: str) -> str:
    cosine = results.settings[setting]["cosine"]
    return short(setting) + ("" if cosine is None else f" ({cosine:.2f})")


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
                if name not in results.names(setting):
                    continue
                reached = [results.values(setting, name, criterion).mean() for criterion in criteria]
                panel.plot(kl, [base, *reached], marker="o", markersize=3.5, label=name, **styles[name])
            panel.set_xscale("function", functions=(lambda kl: np.sqrt(np.maximum(kl, 0.0)), np.square))
            panel.set_xticks(kl, [f"{value:g}" for value in kl])
            panel.set_title(_label(results, setting), fontsize=9.5)
        for panel in panels[len(settings) :]:
            panel.axis("off")
        figure.supxlabel("KL to the base policy, at most (nats per response; square root axis)", fontsize=10)
        figure.supylabel("$V_N$, in units of the base policy's spread", fontsize=10)
        lines = {line.get_label(): line for panel in panels for line in panel.get_lines()}
        figure.legend([*lines.values()], [*lines], loc="outside upper center", ncols=6, frameon=False)


def draw_movability(results: Results, names: list[str], stem: Path, criterion: str = "KL 2") -> None:
    """Difference to GRPO against the cosine of the mean's gradient with V_N's, one panel per contender."""
    known = [s for s, row in results.settings.items() if row["cosine"] is not None and row["shape"] != "success"]
    with drawing(stem, (max(3.6 * len(names), 6.0), 3.6)) as (figure, _):
        panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
        for panel, name in zip(panels, names, strict=True):
            panel.axhline(0.0, color="#888888", linewidth=1)
            for setting in known:
                found, row = results.against(setting, criterion, GRPO), results.settings[setting]
                if name not in found:
                    continue
                mean, low, high = (100 * value / results.unit(setting) for value in found[name])
                colour = _PART_COLOURS[row["part"]]
                panel.plot([row["cosine"]] * 2, [low, high], color=colour, linewidth=1.2)
                panel.plot([row["cosine"]], [mean], "o", color=colour, markersize=4)
            panel.set_title(name if len(names) > 1 else f"The default estimator ({name}) against GRPO")
            panel.set_xlabel("cosine of the mean's gradient with $V_N$'s")
        panels[0].set_ylabel("within 2 nats: difference to GRPO,\n% of GRPO's gain within 4 nats")
