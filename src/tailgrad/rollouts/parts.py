"""A table made in parts of a few prompts: each appears complete or not at all, and all are proved before the merge."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np

from tailgrad.events import progress_bar
from tailgrad.files import FOREVER, claimed, expanded, locked, remove_unfinished
from tailgrad.processes import num_processes, process_index
from tailgrad.rollouts.parquet import naming
from tailgrad.rollouts.same_settings import check_same_settings
from tailgrad.rollouts.table import COLUMNS, merge_tables, read_metadata, write_table

_LOCK: Final = "lock"


class TableMaker(Protocol):
    """What makes the rows of a table, a few prompts at a time."""

    @property
    def prompt_ids(self) -> Sequence[int]:
        """The prompts in the order of the table."""

    @property
    def n(self) -> int:
        """Responses per prompt."""

    @property
    def part_size(self) -> int:
        """Prompts of a part that is still to be made."""

    @property
    def metadata(self) -> dict[str, Any]:
        """Goes into every part and the table."""

    def rows(self, part: range) -> dict[str, list[Any]]:
        """The columns of the prompts at these places in `prompt_ids`."""


@runtime_checkable
class ManyAtOnce(Protocol):
    """What makes several parts at once, and is the only process to do so."""

    def made_at_once(self, parts: Sequence[range]) -> Iterator[tuple[range, dict[str, list[Any]]]]:
        """Parts and the columns of their prompts, as they are finished; an error comes after what was finished."""


def make_table(out: Path, load: Callable[[], TableMaker], *, verb: str) -> Path:
    """Make a table part by part in `<out>.parts/`, merge the parts and remove them.

    What an interruption left is gone on with: parts are checked and kept; a table that was merged already is checked,
    and its parts are removed. Two commands never write one table. The processes of one command, as a launcher counts
    them, share the parts: each part is made by whoever takes it first, and by another one if that one is killed. All
    end once the table is there.

    Args:
        out: The table to write.
        load: Gives what makes the table; called once `out` is known to be free.
        verb: Stands before the progress bar.

    Returns:
        The path of the table.

    Raises:
        ValueError: `out` exists or is being written, or a part was made otherwise, is damaged or holds other rows than
            it says.
    """
    out = expanded(out)
    parts = _folder_of(out)
    begun = parts.exists() or num_processes() > 1  # the others may have made it already
    with _joined(parts, out):
        if out.exists() and not begun:
            raise ValueError(f"{str(out)!r} exists already. Delete it or choose another --out.")
        maker = load()
        try:
            _make_missing(maker, parts, out, verb)
        except (FileNotFoundError, ValueError):
            if not out.exists():  # else it looked at parts that another process has merged and removed
                raise
        with locked(parts / f"{_LOCK}-merge", repr(str(out)), wait=FOREVER):
            remove_unfinished(out.parent, out.name)
            if out.exists():
                _check_merged(out, maker, parts)
            else:
                _merge(maker, parts, out)
            _remove_parts(parts)
    return out


def num_finished(out: Path) -> int:
    """How many parts of a table are there already.

    Args:
        out: The table.
    """
    return sum(path.name.startswith("part-") for path in _listed(_folder_of(expanded(out))))


def _folder_of(out: Path) -> Path:
    """Where the parts of a table are."""
    return out.with_name(f"{out.name}.parts")


@contextmanager
def _joined(parts: Path, out: Path) -> Iterator[None]:
    """Hold the lock of this process of a command among the parts; who leaves nothing but locks removes the folder."""
    index = process_index()
    with locked(parts / (f"{_LOCK}-process-{index}" if index else _LOCK), repr(str(out))):
        try:
            yield
        finally:
            left = _listed(parts)
            if all(map(_is_lock, left)):
                for path in left:
                    path.unlink(missing_ok=True)
                with suppress(OSError):  # another process has begun, or was faster
                    parts.rmdir()


def _remove_parts(parts: Path) -> None:
    """Remove the parts and what killed processes left of some; the locks stay for those who wait for them."""
    for path in _listed(parts):
        if not _is_lock(path):
            path.unlink(missing_ok=True)


def _listed(parts: Path) -> list[Path]:
    """What is among the parts; nothing once another process has removed their folder."""
    try:
        return [*parts.iterdir()]
    except FileNotFoundError:
        return []


def _is_lock(path: Path) -> bool:
    return path.name.startswith(_LOCK)


def _make_missing(maker: TableMaker, parts: Path, out: Path, verb: str) -> None:
    """Make the parts that nobody is making, then wait for the others', and make those that their makers leave."""
    if out.exists():
        return
    done = [part for part, _ in _finished(maker, parts)]
    missing = [*_missing(done, len(maker.prompt_ids), maker.part_size)]
    first = len(missing) * process_index() // num_processes()  # so that each begins elsewhere
    left = set(missing)
    with progress_bar(len(maker.prompt_ids), done=sum(map(len, done)), name=verb, unit="prompt") as move:
        if isinstance(maker, ManyAtOnce):
            for part, rows in maker.made_at_once(missing):
                write_table(parts / _name(part), rows, maker.metadata)
                move(len(part))
            return
        for wait in (0.0, FOREVER):
            for part in missing[first:] + missing[:first]:
                if part in left:
                    _make(maker, parts, out, part, wait=wait)
                    names = {*os.listdir(parts)}
                    made = {one for one in left if _name(one) in names}
                    left -= made
                    move(sum(map(len, made)))


def _make(maker: TableMaker, parts: Path, out: Path, part: range, *, wait: float) -> None:
    """Make one part, unless another process is making it still after `wait` or has made it."""
    path = parts / _name(part)
    with claimed(path.with_name(f"{_LOCK}-{path.stem}"), wait=wait) as ours:
        if ours and not path.exists() and not out.exists():
            write_table(path, maker.rows(part), maker.metadata)


def _name(part: range) -> str:
    return f"part-{part.start:06d}-{part.stop:06d}.parquet"


def _missing(done: list[range], count: int, size: int) -> Iterator[range]:
    """What lies between the parts that are done, in pieces of at most `size`."""
    starts = [0, *(part.stop for part in done)]
    stops = [*(part.start for part in done), count]
    for start, stop in zip(starts, stops, strict=True):
        yield from (range(at, min(at + size, stop)) for at in range(start, stop, size))


def _merge(maker: TableMaker, parts: Path, out: Path) -> None:
    """Merge the parts, once it is proved that each row of the table is in one of them, made as we would."""
    found = _finished(maker, parts)
    for part in _missing([part for part, _ in found], len(maker.prompt_ids), len(maker.prompt_ids)):
        raise ValueError(f"{str(parts)!r} has lost the prompts {part.start} to {part.stop - 1}; run the command again.")
    merge_tables([path for _, path in found], out, maker.metadata)


def _finished(maker: TableMaker, parts: Path) -> list[tuple[range, Path]]:
    """The parts that are there in the order of the table, all of them made as we would and with the rows they name."""
    found = sorted(((_range_of(path, len(maker.prompt_ids)), path) for path in parts.glob("part-*")), key=_start)
    end = 0
    for part, path in found:
        if part.start < end:
            raise ValueError(f"{str(path)!r} has prompts that another part there has too. Delete one of the two.")
        end = part.stop
        check_same_settings(parts, read_metadata(path), maker.metadata)
        _check_rows(path, maker, part)
    return found


def _start(found: tuple[range, Path]) -> int:
    return found[0].start


def _range_of(path: Path, count: int) -> range:
    """The places of a part's prompts, which its name says."""
    match = re.fullmatch(r"part-(\d+)-(\d+)\.parquet", path.name)
    part = range(int(match[1]), int(match[2])) if match else range(0)
    if not part or part.stop > count:
        raise ValueError(
            f"{str(path)!r} is not a part of this table of {count} prompts. Delete it, or choose another --out."
        )
    return part


def _check_merged(out: Path, maker: TableMaker, parts: Path) -> None:
    """Refuse a table that is not the one that the parts beside it were merged into."""
    try:
        check_same_settings(out, read_metadata(out), maker.metadata)
        _check_rows(out, maker, range(len(maker.prompt_ids)), whole=not all(map(_is_lock, _listed(parts))))
    except ValueError as error:
        raise ValueError(
            f"{str(out)!r} exists already and is not the table of {str(parts)!r}. Delete it or choose another --out. "
            f"({error})"
        ) from error


def _check_rows(path: Path, maker: TableMaker, part: range, *, whole: bool = False) -> None:
    """Refuse a file that cannot be read or holds other rows than n responses to each prompt of a part, in order.

    Args:
        path: A rollout table.
        maker: Knows the prompts and n.
        part: Places of the prompts.
        whole: Read all columns; else those that name the rows.
    """
    import pyarrow.parquet as pq

    named = ["prompt_id", "response_index"]
    with naming(repr(str(path))):
        rows = pq.read_table(path, columns=list(COLUMNS) if whole else named, page_checksum_verification=True)
    found = [rows[name].to_numpy() for name in named]
    prompts, n = maker.prompt_ids[part.start : part.stop], maker.n
    if not all(map(np.array_equal, found, (np.repeat(prompts, n), np.tile(np.arange(n), len(prompts))))):
        raise ValueError(
            f"{str(path)!r} does not hold responses 0 to {n - 1} of each of the prompts {prompts[0]} to {prompts[-1]}, "
            f"once each and in order ({rows.num_rows} rows there, {n * len(prompts)} expected). Delete it, and the "
            "same command makes it anew."
        )
