"""The judgements on disk: a line for each, appended as it comes, so that a stopped command goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tailgrad.files import write_text
from tailgrad.judging.answers import Match
from tailgrad.judging.judgement import Asked, Judgement
from tailgrad.rollouts.same_settings import check_same_settings


def read_judgements(path: Path, settings: dict[str, Any], match: Match) -> dict[Asked, Judgement]:
    """Read what was judged before.

    Args:
        path: A file of `appending`; it need not exist.
        settings: All that decides a judgement; JSON types only.
        match: What is judged.

    Returns:
        The judgements, by what was asked. A last line that was cut off is left out.

    Raises:
        ValueError: They were made with other settings, or a line is damaged.
    """
    if not path.is_file():
        return {}
    lines = path.read_bytes().rpartition(b"\n")[0].split(b"\n")
    theirs = _read(path, 1, lines[0], lambda line: line["settings"])
    check_same_settings(path, theirs, settings)
    make = partial(_judgement, len(match.pairs))
    found = [_read(path, number, line, make) for number, line in enumerate(lines[1:], start=2)]
    return {(one.pair, one.order): one for one in found}


@contextmanager
def appending(
    path: Path, settings: dict[str, Any], match: Match, *, about: dict[str, Any]
) -> Iterator[Callable[[Judgement], None]]:
    """Give a function that appends a judgement to a file; the file is made if missing.

    Args:
        path: The file; nobody else writes it.
        settings: Stand in its first line.
        match: Names what was judged, for who reads the file.
        about: What stands in the first line besides.

    Yields:
        The function.
    """
    if not path.is_file():
        write_text(path, json.dumps({"settings": settings, **about}) + "\n")
    with path.open("r+b") as file:
        file.truncate(path.read_bytes().rfind(b"\n") + 1)
        file.seek(0, 2)

        def append(one: Judgement) -> None:
            pair = match.pairs[one.pair]
            names = {"prompt_id": pair.prompt_id, "draw": pair.draw, "first": match.names[one.order]}
            line = {"pair": one.pair, "order": one.order, **names, "score": one.score, "said": one.said}
            file.write(json.dumps(line).encode() + b"\n")
            file.flush()

        yield append


def _read(path: Path, number: int, line: bytes, make: Callable[[Any], Any]) -> Any:
    try:
        return make(json.loads(line))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{str(path)!r} is damaged in line {number} (counted from 1). Delete that line, or the file if it is the "
            "first: the same command asks again for what is missing."
        ) from error


def _judgement(count: int, line: Any) -> Judgement:
    score = line["score"]
    if score not in (None, 0, 0.5, 1) or line["pair"] not in range(count) or line["order"] not in (0, 1):
        raise ValueError("no judgement")
    return Judgement(line["pair"], line["order"], None if score is None else float(score), line["said"])
