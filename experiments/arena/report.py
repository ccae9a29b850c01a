"""Write the leaderboard: its tables, and with matplotlib its figures."""

from __future__ import annotations

from pathlib import Path

from contenders import DEFAULT, FLATS
from figures import draw_movability, draw_overview, draw_paths
from leaderboard import (
    BEST_FLAT,
    BEST_MAX,
    Results,
    choice_table,
    duel_table,
    equal_kl,
    equal_steps,
    overall_table,
    read_results,
    setting_table,
    where_table,
)
from rows import STEPS
from settings import PARTS

_UNITS = (
    "Differences of V_N on the report prompts, in percent of what GRPO gains within the largest KL divergence of the "
    "setting, with 95% intervals over the settings. Won / lost: in how many of the compared (settings, times KL "
    "divergences) the interval over seeds and prompts is clear of zero. Best max@k (of five), best flat (of four) and "
    "best peer (of all but flat TEA) are chosen anew for each setting and KL divergence, on the choosing prompts."
)
_CHOICE = (
    "Graded rewards; contenders that competed in all of these settings. The score is the mean of "
    "the two differences to GRPO."
)
COMPARED = (BEST_FLAT, BEST_MAX, "tea 1 centred", "tea .25")
"""What stands beside the default in tables of groups and in figures."""
KINDS = {
    "bandits, graded rewards": ("bandit", False),
    "sequences, graded rewards": ("sequence", False),
    "0/1 rewards": (None, True),
}


def settings_of(results: Results, part: str, world: str | None, binary: bool) -> list[str]:
    """Settings of a part, a world (None: both), with 0/1 rewards or graded ones."""
    rows = results.settings.items()
    fitting = [name for name, row in rows if row["part"] == part and (row["shape"] == "success") == binary]
    return [name for name in fitting if world in (None, results.settings[name]["world"])]


def write_report(folder: Path) -> None:
    """Write `leaderboard.md` and the figures from the rows of a folder."""
    results = read_results(folder)
    parts = ["# Leaderboard", _UNITS]
    for part in PARTS:
        graded = settings_of(results, part, None, False)
        if graded:
            parts += [f"## Scores in the {part} settings", _CHOICE, choice_table(results, graded)]
    for part in reversed(PARTS[1:]):
        graded = settings_of(results, part, None, False)
        for name in (DEFAULT, FLATS[0]) if graded else ():
            parts += [f"## {part.capitalize()} settings, graded rewards: {name} against each"]
            parts += [duel_table(results, name, graded)]
    for part in reversed(PARTS):
        for title, kind in KINDS.items():
            parts += _section(results, part, title, settings_of(results, part, *kind))
    graded = [name for part in PARTS for name in settings_of(results, part, None, False)]
    for title, criteria in (("equal KL", equal_kl), ("equal steps", equal_steps)):
        parts += [f"## Where: difference to GRPO in groups of settings, all three parts, graded rewards: {title}"]
        parts += [where_table(results, graded, [DEFAULT, FLATS[0], *COMPARED], criteria)]
    for criterion in ("KL 1", "KL 2", "KL 4", STEPS):
        parts += [f"## {DEFAULT}, setting by setting: {criterion}"]
        for part in reversed(PARTS):
            settings = [name for name, row in results.settings.items() if row["part"] == part]
            parts += [f"The {part} settings; * where the interval is clear of zero:"]
            parts += [setting_table(results, settings, criterion, DEFAULT)]
    (folder / "leaderboard.md").write_text("\n\n".join(parts) + "\n")
    _draw(results, folder)


def _section(results: Results, part: str, title: str, settings: list[str]) -> list[str]:
    names = list(dict.fromkeys(name for setting in settings for name in results.names(setting)))
    parts = []
    for what, criteria in (("equal KL", equal_kl), ("equal steps", equal_steps)):
        if settings:
            parts += [f"## {part.capitalize()} settings, {title}: {what} ({len(settings)} settings)"]
            parts += [overall_table(results, settings, criteria, names)]
    return parts


def _draw(results: Results, folder: Path) -> None:
    there = [row["part"] for row in results.settings.values()]
    part = next(part for part in reversed(PARTS) if part in there)
    bandits, sequences = (settings_of(results, part, world, False) for world in ("bandit", "sequence"))
    bandits.sort(key=lambda name: results.settings[name]["cosine"])
    everything = [*bandits, *sequences, *settings_of(results, part, None, True)]
    draw_overview(results, everything, folder / "overview")
    drawn = [*bandits[:: max(1, (len(bandits) - 1) // 2)][:3], *sequences[:3]]
    draw_paths(results, [DEFAULT, *COMPARED], drawn, folder / "paths")
    draw_movability(results, [DEFAULT, *COMPARED[:3]], folder / "movability")
    draw_movability(results, [DEFAULT], folder / "default")
