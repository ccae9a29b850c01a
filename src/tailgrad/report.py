"""From paths to one page: the reports in folders, the learning curves of trainings, the curves of rollout tables."""

from __future__ import annotations

import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tailgrad._version import __version__
from tailgrad.curves import write_report
from tailgrad.display.page import Part, page
from tailgrad.files import expanded, write_text
from tailgrad.rollouts import read_rollouts
from tailgrad.training.learning_curve import save_learning_curve
from tailgrad.training.log import EVENTS_ENDING, STATE, log_file, read_log

_OF_REPORTS: Final = (".svg", ".md", ".json", ".png")
_TABLES: Final = (".parquet", ".pq", ".csv", ".tsv", ".jsonl", ".json", ".npy", ".gz", ".bz2", ".xz")
_ALLOWED: Final = (
    "give a folder that a command wrote a report or a training into, a file of a report (curve.md, curve.svg, ...), "
    f"the log of a training ({STATE} or *{EVENTS_ENDING}), or a rollout table ({', '.join(_TABLES[:7])})"
)


def write_page(paths: Sequence[str | Path], out: str | Path) -> list[Part]:
    """Write one HTML page of everything that these paths hold.

    Args:
        paths: Folders, each for every report and training in it and below, and files: of a report, the log of a
            training, or a rollout table.
        out: The page; an earlier one is replaced.

    Returns:
        The parts of the page, in the order of the paths.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: A path is given twice or holds nothing to show, or `out` does not end in .html.
        ModuleNotFoundError: If matplotlib or markdown-it-py is missing.
    """
    out = expanded(out)
    if out.suffix.lower() not in (".html", ".htm") or out.is_dir():
        raise ValueError(f"--out {str(out)!r} is no name of a page: give a file that ends in .html.")
    found: dict[Path, Part] = {}
    given = [expanded(path) for path in paths]
    for path in given:
        if sum(path.resolve() == other.resolve() for other in given) > 1:
            raise ValueError(f"{str(path)!r} is given twice: give each path once.")
        for place, part in _parts(path):
            found.setdefault(place.resolve(), part)  # a folder and a file in it show the file once
    parts = list(found.values())
    text = page(parts, title="tailgrad report", footer=f"Written by tailgrad {__version__}.")
    write_text(out, text)
    return parts


def _parts(path: Path) -> Iterator[tuple[Path, Part]]:
    """The parts that a path stands for, each with the file that it is known by."""
    if not path.exists():
        raise FileNotFoundError(f"{str(path)!r}: there is no such file or folder.")
    if path.is_dir():
        yield from _of_folder(path)
    elif (log := log_file(path)) is not None:
        yield log, _of_training(log, path)
    elif path.suffix.lower() in _OF_REPORTS and _is_report(text := path.with_suffix(".md")):
        yield text, _of_report(text)
    elif path.suffix.lower() in _TABLES:
        yield path, _of_table(path)
    else:
        raise ValueError(f"{str(path)!r} cannot be shown: {_ALLOWED}.")


def _of_folder(folder: Path) -> Iterator[tuple[Path, Part]]:
    """Every report in a folder and below, then every training; tables only say that they are there."""
    reports: list[tuple[Path, Part]] = []
    trainings: list[tuple[Path, Part]] = []
    tables: list[str] = []
    for root, folders, names in os.walk(folder):
        place = Path(root)
        log = log_file(place)
        folders[:] = sorted(name for name in folders if name[0] != "." and not (log and name.startswith("checkpoint-")))
        texts = [place / name for name in sorted(names) if name.endswith(".md") and _is_report(place / name)]
        reports += [(text, _of_report(text)) for text in texts]
        trainings += [] if log is None else _trained(log, place)
        drawn = {figure for text in texts for figure in [f"{text.stem}.svg", *_figures_in(text)]}
        if left := sorted(name for name in names if name.endswith(".svg") and name not in drawn):
            warnings.warn(f"{root}: no table stands beside {', '.join(left)}; left out.", stacklevel=2)
        tables += [str(place / name) for name in sorted(names) if name.endswith((".parquet", ".npy"))]
    if not reports and not trainings:
        more = (
            f" Of the rollout tables in it ({len(tables)}) name those to draw, such as {tables[0]}." if tables else ""
        )
        raise ValueError(
            f"{str(folder)!r} holds no report and no training.{more or f' To show something, {_ALLOWED}.'}"
        )
    yield from [*reports, *trainings]


def _trained(log: Path, folder: Path) -> list[tuple[Path, Part]]:
    """The learning curve of a training in a folder; of one that cannot be drawn, a warning."""
    try:
        return [(log, _of_training(log, folder))]
    except ValueError as error:
        warnings.warn(f"{error} Left out.", stacklevel=2)
        return []


def _is_report(text: Path) -> bool:
    """Whether it is the text of a report: a figure or the numbers stand beside it under the same name."""
    return text.is_file() and any(text.with_suffix(ending).is_file() for ending in (".svg", ".json"))


def _figures_in(text: Path) -> list[str]:
    """The figures beside a text that it names in lines of their own."""
    named = re.findall(r"^!\[.*\]\(([^()/\\]+\.svg)\)$", text.read_text(encoding="utf-8"), re.MULTILINE)
    return [name for name in named if (text.parent / name).is_file()]


def _of_report(text: Path) -> Part:
    markdown, figures = text.read_text(encoding="utf-8"), _figures_in(text)
    if not figures and text.with_suffix(".svg").is_file():
        figures = [f"{text.stem}.svg"]
        markdown = f"![{text.stem}](<{figures[0]}>)\n\n{markdown}"
    drawn = {name: (text.parent / name).read_text(encoding="utf-8") for name in figures}
    return Part(text.stem.replace("_", " ").capitalize(), str(text.with_suffix("")), markdown, drawn)


def _of_training(log: Path, path: Path) -> Part:
    with tempfile.TemporaryDirectory() as folder:
        stem = Path(folder, "training")
        table = save_learning_curve(read_log(log), stem)
        svg = stem.with_suffix(".svg").read_text(encoding="utf-8")
    name = (path if path.is_dir() else path.parent if path.name == STATE else path).resolve().name
    markdown = f"![Learning curve](training.svg)\n\n{table}"
    return Part(f"Training: {name.removesuffix(EVENTS_ENDING)}", str(log), markdown, {"training.svg": svg})


def _of_table(path: Path) -> Part:
    with tempfile.TemporaryDirectory() as folder:
        write_report([read_rollouts(path, name=path.stem)], folder)
        part = _of_report(Path(folder, "curve.md"))
    return Part(f"Rollouts: {path.stem}", str(path), part.markdown, part.figures)
