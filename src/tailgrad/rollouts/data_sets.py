"""Data sets by hub name, folder or file: their rows, memory-mapped, and a hash of what is in them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tailgrad.files import expanded
from tailgrad.rollouts.text_files import BATCH, read_text_files, without_cache_files

FILE_FORMATS: Final = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}
"""Endings of data set files (each also with .gz) and how they are read."""


def load_rows(dataset: str, config: str | None = None) -> Any:
    """Return a data set's rows, or a dict of its splits where it has splits.

    Args:
        dataset: A hub name, a folder (of `save_to_disk`, or of data files), or one file.
        config: The hub data set's configuration.

    Returns:
        A `datasets.Dataset`, or splits by their names.

    Raises:
        FileNotFoundError: There is no such file or folder, or the hub does not give the data set.
        ValueError: It cannot be read, or has no rows.
    """
    import datasets

    path = local_path(dataset)
    if path is not None and path.is_file():
        if config is not None:
            raise ValueError(
                f"dataset_config is {config!r}, and {dataset!r} is one file, which has none: leave it out."
            )
        return _load_file(path, dataset)
    is_saved = path is not None and any((path / name).exists() for name in ("dataset_dict.json", "state.json"))
    if is_saved and config is not None:
        raise ValueError(f"dataset_config is {config!r}, and {dataset!r} was saved to disk with none: leave it out.")
    if path is not None:
        return _load_saved(path, dataset) if is_saved else _load_folder(path, dataset, config)
    with reading(f"data set {dataset!r}"):
        splits = datasets.load_dataset(dataset, config)
    return without_guessed_dates(splits, f"data set {dataset!r}")


def local_path(dataset: str) -> Path | None:
    """Return the file or folder that a data set's name stands for, None for a hub name.

    Args:
        dataset: A hub name, a folder or a file.

    Returns:
        The path, or None.

    Raises:
        FileNotFoundError: The name is written as a path and nothing is there.
    """
    path = expanded(dataset)
    if path.exists():
        return path
    looks_local = dataset.startswith((".", "/", "~")) or dataset.count("/") > 1 or path.suffix in (*FILE_FORMATS, ".gz")
    if looks_local:
        raise FileNotFoundError(f"data set {dataset!r}: there is no such file or folder.")
    return None


def stream_rows(dataset: str, config: str | None, split: str) -> Any:
    """Return the rows of a hub data set's split as a stream.

    Args:
        dataset: A hub name.
        config: The data set's configuration.
        split: The split.

    Returns:
        A `datasets.IterableDataset`.

    Raises:
        FileNotFoundError: The hub does not give the data set.
        ValueError: It cannot be read.
    """
    import datasets

    with reading(f"data set {dataset!r}"):
        rows = datasets.load_dataset(dataset, config, split=split, streaming=True)
    return without_guessed_dates({split: rows}, f"data set {dataset!r}")[split]


def content_sha256(rows: Any) -> str:
    """Return a hash of everything in a data set whose prompts are in the column `prompt`.

    It is that of the JSON `[prompts, {column: values}]`, made a few rows at a time; a picture, a sound and the like
    count by their bytes. The same values have the same hash, wherever and in whichever format they lie.

    Args:
        rows: A `datasets.Dataset`.

    Returns:
        64 hexadecimal digits.

    Examples:
        >>> from datasets import Dataset
        >>> content_sha256(Dataset.from_dict({"prompt": ["one"], "answer": [1]}))[:8]
        '2565aca3'
    """
    digest = hashlib.sha256(b"[")
    _hash_column(digest, rows, "prompt")
    digest.update(b", {")
    for i, name in enumerate(sorted(set(rows.column_names) - {"prompt"})):
        digest.update(f"{', ' if i else ''}{json.dumps(name)}: ".encode())
        _hash_column(digest, rows, name)
    digest.update(b"}]")
    return digest.hexdigest()


def _hash_column(digest: Any, rows: Any, name: str) -> None:
    column = rows.select_columns([name])
    has_files = _has_files(rows.features[name])
    if has_files:
        column = column.with_format("arrow")
    digest.update(b"[")
    for start in range(0, len(column), BATCH):
        values = column[start : start + BATCH][name]
        values = _with_hashed_files(values.to_pylist()) if has_files else values
        text = json.dumps(values, sort_keys=True, default=_plain)[1:-1]
        digest.update((", " + text if start else text).encode())
    digest.update(b"]")


def _plain(value: Any) -> Any:
    """What stands for a value that JSON does not have: of an array all of its values, which its text leaves out."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _has_files(feature: Any) -> bool:
    """Whether a column holds pictures, sounds or the like, which become objects without a value of their own."""
    from datasets import Json

    if isinstance(feature, dict):
        return any(map(_has_files, feature.values()))
    if hasattr(feature, "feature"):
        return _has_files(feature.feature)
    return hasattr(feature, "decode_example") and not isinstance(feature, Json)


def _with_hashed_files(value: Any) -> Any:
    """Put the hash of its bytes in the place of a stored file; its name and place do not count."""
    if isinstance(value, list):
        return [_with_hashed_files(part) for part in value]
    if not isinstance(value, dict):
        return value
    if value.keys() != {"bytes", "path"}:
        return {key: _with_hashed_files(part) for key, part in value.items()}
    content = Path(value["path"]).read_bytes() if value["bytes"] is None else value["bytes"]
    return {"sha256": hashlib.sha256(content).hexdigest()}


@contextmanager
def reading(source: str) -> Iterator[None]:
    """Turn the errors of `datasets` into short ones that name the data set.

    Args:
        source: What is read, the first words of error messages.

    Raises:
        FileNotFoundError: It is not here, and the hub does not give it.
        ValueError: It has no rows or cannot be read.
    """
    try:
        yield
    except (ConnectionError, FileNotFoundError) as error:
        raise FileNotFoundError(
            f"{source} is not a local file or folder and the hub did not give it: {error}"
        ) from error
    except Exception as error:
        if "corresponds to no data" in str(error):  # how datasets says that it found no rows
            raise ValueError(f"{source} is empty: there are no prompts in it.") from error
        raise ValueError(f"{source} could not be read: {error.__cause__ or error}") from error


def _load_file(path: Path, dataset: str) -> Any:
    """Read one file, so that no copy of it stays in the cache."""
    import datasets

    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if suffix not in FILE_FORMATS:
        raise ValueError(f"data set file {dataset!r}: allowed endings are {', '.join(FILE_FORMATS)}, also with .gz.")
    if path.stat().st_size == 0:
        raise ValueError(f"data set {dataset!r} is empty: the file has no bytes.")
    with reading(f"data set {dataset!r}"), tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:
        if FILE_FORMATS[suffix] != "parquet":
            return read_text_files([path], FILE_FORMATS[suffix])
        rows = datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=cache)
        return without_cache_files(rows)


def _load_saved(path: Path, dataset: str) -> Any:
    """Read what `save_to_disk` wrote; what it writes for no rows `load_from_disk` cannot read."""
    import datasets

    with reading(f"data set {dataset!r}"):
        states = list(path.glob("**/state.json"))
        empty = [state.parent for state in states if not json.loads(state.read_text()).get("_data_files")]
        if not empty:
            return datasets.load_from_disk(str(path)).with_format(None)  # a saved format would make arrays of lists
    raise ValueError(f"data set {dataset!r} is empty: there are no prompts in {str(empty[0])!r}.")


def _load_folder(path: Path, dataset: str, config: str | None) -> Any:
    """Read a folder of data files: `datasets` finds the splits, and reads whatever is not plain JSON or CSV."""
    import datasets

    with reading(f"data set {dataset!r}"):
        builder = datasets.load_dataset_builder(str(path), config)
        has_types = builder.info.features is not None
        options = _given_options(builder.config) - {"name", "version", "data_dir", "data_files", "sep"}
        if builder.name in ("json", "csv") and not has_types and not options:
            separator, files = getattr(builder.config, "sep", ","), builder.config.data_files.items()
            return {name: read_text_files([*map(Path, of)], builder.name, separator=separator) for name, of in files}
        splits = datasets.load_dataset(str(path), config)
    return splits if has_types else without_guessed_dates(splits, f"data set {dataset!r}")


def _given_options(config: Any) -> set[str]:
    """The options with which the files of a folder are to be read, as its card gives them."""
    default = type(config)()
    names = {field.name for field in dataclasses.fields(config)}
    return {name for name in names if getattr(config, name) != getattr(default, name)}


def without_guessed_dates(splits: Any, source: str) -> Any:
    """Refuse dates that `datasets` made out of strings of JSON files.

    Args:
        splits: Rows by the names of their splits.
        source: What they are, the first words of the error message.

    Returns:
        The same splits.

    Raises:
        ValueError: A column holds such dates.
    """
    for rows in splits.values():
        dates = [name for name, feature in (rows.features or {}).items() if "timestamp" in repr(feature)]
        if dates and rows.info.builder_name == "json":
            raise ValueError(
                f"{source}: the strings in column {dates[0]!r} of its JSON files look like dates, and `datasets` makes "
                "dates of them. A local file or folder that is named itself, not in a mixture, is read without that."
            )
    return splits
