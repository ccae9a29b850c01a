"""From rows in any order to P prompts with their responses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from jaxtyping import Int, Shaped

from tailgrad.rollouts.parquet import ParquetColumns

_WHOLE: Final = re.compile(r"0|[1-9]\d{0,17}")


class Groups(NamedTuple):
    """Which rows of a file are the responses to which prompt.

    Attributes:
        order: The rows, those of a prompt together in the order of `response_index`; None where they are so already.
        prompt_ids: The id of each prompt `[P]`: ascending, or in the order of the file where the prompts are the ids.
        prompts: The prompts; None where the file has none.
        counts: Responses to each prompt `[P]`.
    """

    order: Int[np.ndarray, " rows"] | None
    prompt_ids: Shaped[np.ndarray, " P"]
    prompts: list[str] | None
    counts: Int[np.ndarray, " P"]

    @property
    def n(self) -> int:
        """Responses to the prompt that has most."""
        return int(self.counts.max())

    def matrix(self, values: Shaped[np.ndarray, " rows"], padding: Any) -> Shaped[np.ndarray, "P n"]:
        """Bring one value per row into one row per prompt, with padding where a prompt has fewer than n responses."""
        ordered = values if self.order is None else values[self.order]
        if len(ordered) == len(self.counts) * self.n:
            return ordered.reshape(-1, self.n)
        padded = np.full((len(self.counts), self.n), padding, dtype=ordered.dtype)
        padded[np.arange(self.n) < self.counts[:, None]] = ordered
        return padded


def groups_of(columns: ParquetColumns, roles: Mapping[str, str]) -> Groups:
    """Bring the rows of a file together by prompt.

    Args:
        columns: The file.
        roles: Its columns by their names in a rollout table. Prompts are told apart by `prompt_id`, whole numbers or
            texts, else by `prompt`. Without a `response_index` every row is a response, in the order of the file.

    Returns:
        Where the responses to each prompt are.

    Raises:
        ValueError: A response is there twice, or an id has two prompts.
    """
    if "prompt_id" in roles:
        ids, labels = _ids(columns, roles["prompt_id"])
    else:
        ids, texts = columns.encoded(roles["prompt"])
        labels = _labels(texts)
    indices = _whole_numbers(columns, roles["response_index"], "int32") if "response_index" in roles else None
    order, ids = _sorted(columns.name, ids, indices, labels)
    numbers, counts = np.unique(ids, return_counts=True)
    prompt_ids = numbers if labels is None else labels[numbers]
    if "prompt_id" not in roles:
        return Groups(order, prompt_ids, texts, counts)
    prompts = _prompts(columns, roles["prompt"], order, prompt_ids, counts) if "prompt" in roles else None
    return Groups(order, prompt_ids, prompts, counts)


def _ids(columns: ParquetColumns, name: str) -> tuple[Int[np.ndarray, " rows"], Shaped[np.ndarray, " P"] | None]:
    """Numbers that are in the order of the ids, and what each stands for; None: itself."""
    if columns.kind_of(name) != "string":
        return _whole_numbers(columns, name, "int64"), None
    numbers, texts = columns.encoded(name)
    labels = _labels(texts)
    places = np.argsort(labels)
    return np.argsort(places)[numbers], labels[places]


def _labels(texts: list[str]) -> Shaped[np.ndarray, " P"]:
    """Ids as the whole numbers that they are, else as texts; not in numpy's strings, which are all as long as one."""
    if all(map(_WHOLE.fullmatch, texts)):
        return np.array([int(text) for text in texts])
    labels = np.empty(len(texts), dtype=object)
    labels[:] = texts
    return labels


def _whole_numbers(columns: ParquetColumns, name: str, kind: str) -> Int[np.ndarray, " rows"]:
    numbers = columns.numbers(name, kind)
    if (numbers < 0).any():
        raise ValueError(f"{columns.name}: column {name!r} has {numbers.min()}; it counts from 0.")
    return numbers


def _sorted(
    source: str,
    ids: Int[np.ndarray, " rows"],
    indices: Int[np.ndarray, " rows"] | None,
    labels: Shaped[np.ndarray, " P"] | None,
) -> tuple[Int[np.ndarray, " rows"] | None, Int[np.ndarray, " rows"]]:
    """Return the order of the rows by prompt and response index (None: as they are), and the ids in it."""
    order = None
    if not _ascending(ids, indices):
        order = np.argsort(ids, kind="stable") if indices is None else np.lexsort((indices, ids))
        ids, indices = ids[order], None if indices is None else indices[order]
    if indices is not None:
        repeated = (ids[1:] == ids[:-1]) & (indices[1:] == indices[:-1])
        if repeated.any():
            at = int(repeated.argmax())
            prompt = ids[at] if labels is None else labels[ids[at]]
            raise ValueError(f"{source} has response {indices[at]} of prompt {prompt} more than once.")
    return order, ids


def _ascending(ids: Int[np.ndarray, " rows"], indices: Int[np.ndarray, " rows"] | None) -> bool:
    same = ids[1:] == ids[:-1]
    in_order = same if indices is None else same & (indices[1:] >= indices[:-1])
    return bool(((ids[1:] > ids[:-1]) | in_order).all())


def _prompts(
    columns: ParquetColumns,
    name: str,
    order: Int[np.ndarray, " rows"] | None,
    prompt_ids: Shaped[np.ndarray, " P"],
    counts: Int[np.ndarray, " P"],
) -> list[str]:
    """The prompt of each id, which must be the same in all its rows."""
    numbers, texts = columns.encoded(name)
    numbers = numbers if order is None else numbers[order]
    first = numbers[np.cumsum(counts) - counts]
    differ = numbers != np.repeat(first, counts)
    if differ.any():
        at = int(differ.argmax())
        place = int(np.searchsorted(np.cumsum(counts), at, side="right"))
        two = [texts[number][:80] for number in (first[place], numbers[at])]
        raise ValueError(
            f"{columns.name} has more than one prompt with prompt_id {prompt_ids[place]}: {two[0]!r} and {two[1]!r}. "
            "Give every prompt its own prompt_id."
        )
    return [texts[number] for number in first.tolist()]
