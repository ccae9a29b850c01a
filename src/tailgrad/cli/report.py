"""`tailgrad report`: one HTML page of reports, trainings and rollout tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tailgrad.files import expanded
from tailgrad.options import OptionParser, option

HELP: Final = "gather reports, trainings and rollout tables in one HTML page"
EXTRA: Final = "eval"


@dataclass(frozen=True)
class ReportOptions:
    """The options of `tailgrad report`."""

    paths: tuple[str, ...] = option(
        text="folders that commands wrote reports or trainings into, and files: of a report, the log of a training "
        "(trainer_state.json, *.events.jsonl), or a rollout table, whose curve is drawn",
        positional=True,
        metavar="PATH",
    )
    out: str = option(text="the page, such as report.html")


def make_parser() -> OptionParser[ReportOptions]:
    """The command's parser."""
    description = (
        "Write one HTML page with the figures and tables of everything given: reports of other commands, learning "
        "curves of trainings, and curves of rollout tables. The page is one file that loads nothing from elsewhere."
    )
    return OptionParser("report", description, ReportOptions)


def run(words: Sequence[str]) -> None:
    """Write the page and print what is on it."""
    options = make_parser().read(words)
    from tailgrad.report import write_page

    parts = write_page(options.paths, options.out)
    for part in parts:
        print(f"{part.title}: {part.source}")
    size = expanded(options.out).stat().st_size / 1e6
    print(f"\nPage: {options.out} ({len(parts)} {'part' if len(parts) == 1 else 'parts'}, {size:.1f} MB)")
