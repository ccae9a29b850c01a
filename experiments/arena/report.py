"""Write the leaderboard: its tables, and with matplotlib its figures."""

from __future__ import annotations

from pathlib import Path

from contenders import DEFAULT
from figures import draw_movability, draw_overview, draw_paths
from leaderboard import BEST_MAX, Results, equal_kl, equal_steps, overall_table, read_results, setting_table
from rows import STEPS
from settings import HALVES

_UNITS = (
    "Differences are in units of the base policy's spread (mean over prompts), with 95% intervals over the settings. "
    '"of its gain": as a share of what the reference gains over the base policy. Wins and losses: settings, times KL '
    "divergences, where the interval over seeds and prompts is clear of zero."
)


def write_report(folder: Path) -> None:
    """Write `leaderboard.md` and the figures from the rows of a folder."""
    results = read_results(folder)
    parts = ["# Leaderboard", _UNITS]
    for half in reversed(HALVES):
        for kind, binary in (("graded rewards", False), ("0/1 rewards", True)):
            for world in ("bandit", "sequence"):
                parts += _section(results, half, kind, binary, world)
    for criterion in ("KL 1", "KL 2", "KL 4", STEPS):
        parts += [f"## {DEFAULT}, setting by setting: {criterion}"]
        for half in reversed(HALVES):
            settings = [name for name, row in results.settings.items() if row["half"] == half]
            parts += [f"The {half} half; * where the interval is clear of zero:"]
            parts += [setting_table(results, settings, criterion, DEFAULT)]
    (folder / "leaderboard.md").write_text("\n\n".join(parts) + "\n")
    _draw(results, folder)


def _section(results: Results, half: str, kind: str, binary: bool, world: str) -> list[str]:
    settings = [
        name
        for name, row in results.settings.items()
        if row["half"] == half and row["world"] == world and (row["shape"] == "success") == binary
    ]
    if not settings:
        return []
    names = list(dict.fromkeys(name for setting in settings for name in results.names(setting)))
    parts = []
    for title, criteria in (("equal KL", equal_kl), ("equal steps", equal_steps)):
        parts += [f"## {half.capitalize()} half, {world}, {kind}: {title} ({len(settings)} settings)"]
        parts += [overall_table(results, settings, criteria, names)]
    return parts


def _draw(results: Results, folder: Path) -> None:
    names = list(dict.fromkeys(name for setting in results.settings for name in results.names(setting)))
    draw_overview(results, names, folder / "overview")
    first = [name for name in results.settings if results.settings[name]["half"] == "reporting"] or [*results.settings]
    draw_paths(results, [DEFAULT, BEST_MAX, "tea 1 centred", "tea .25"], first[::5][:6], folder / "paths")
    draw_movability(results, [DEFAULT, BEST_MAX, "tea 1 centred"], folder / "movability")
