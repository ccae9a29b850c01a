"""From rows in any order to P prompts with n responses each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Shaped

from tailgrad.rollouts.parquet import ParquetColumns


class Groups(NamedTuple):
    """Which rows of a rollout table are the responses to which prompt.

    Attributes:
        order: The rows, those of a prompt together in the order of `response_index`; None where they are so already.
        prompt_ids: The id of each prompt `[P]`, ascending.
        prompts: The prompts.
        n: Responses per prompt.
    """

    order: Int[np.ndarray, " rows"] | None
    prompt_ids: Shaped[np.ndarray, " P"]
    prompts: list[str]
    n: int


def groups_of(columns: ParquetColumns) -> Groups:
    """Bring the rows of a rollout table together by `prompt_id`.

    Args:
        columns: The table; `prompt_id` holds whole numbers or texts.

    Returns:
        Where the responses to each prompt are.

    Raises:
        ValueError: A response is there twice, prompts have different numbers of responses, or an id has two prompts.
    """
    texts = columns.kind_of("prompt_id") == "string"
    ids = _text_ids(columns) if texts else _whole_numbers(columns, "prompt_id", "int64")
    order, prompt_ids, n = _sorted(columns, ids, _whole_numbers(columns, "response_index", "int32"))
    return Groups(order, prompt_ids, _prompts(columns, order, prompt_ids, n), n)


def _whole_numbers(columns: ParquetColumns, name: str, kind: str) -> Int[np.ndarray, " rows"]:
    numbers = columns.numbers(name, kind)
    if (numbers < 0).any():
        raise ValueError(f"{columns.name}: column {name!r} has {numbers.min()}; it counts from 0.")
    return numbers


def _text_ids(columns: ParquetColumns) -> Shaped[np.ndarray, " rows"]:
    numbers, texts = columns.encoded("prompt_id")
    return np.array(texts)[numbers]


def _sorted(
    columns: ParquetColumns, ids: Shaped[np.ndarray, " rows"], indices: Int[np.ndarray, " rows"]
) -> tuple[Int[np.ndarray, " rows"] | None, Shaped[np.ndarray, " P"], int]:
    """Return the order of the rows by prompt id and response index (None: as they are), the prompt ids and n."""
    order = None
    if not _ascending(ids, indices):
        order = np.lexsort((indices, ids))
        ids, indices = ids[order], indices[order]
    repeated = (ids[1:] == ids[:-1]) & (indices[1:] == indices[:-1])
    if repeated.any():
        at = int(repeated.argmax())
        raise ValueError(f"{columns.name} has response {indices[at]} of prompt {ids[at]} more than once.")
    prompt_ids, counts = np.unique(ids, return_counts=True)
    if counts.min() != counts.max():
        few, many = int(counts.argmin()), int(counts.argmax())
        raise ValueError(
            f"{columns.name} has different numbers of responses per prompt: {counts[few]} for "
            f"prompt {prompt_ids[few]}, {counts[many]} for prompt {prompt_ids[many]}. Sample all with one n."
        )
    return order, prompt_ids, int(counts[0])


def _ascending(ids: Shaped[np.ndarray, " rows"], indices: Int[np.ndarray, " rows"]) -> bool:
    same = ids[1:] == ids[:-1]
    return bool(((ids[1:] > ids[:-1]) | (same & (indices[1:] >= indices[:-1]))).all())


def _prompts(
    columns: ParquetColumns, order: Int[np.ndarray, " rows"] | None, prompt_ids: Shaped[np.ndarray, " P"], n: int
) -> list[str]:
    """The prompt of each id, which must be the same in all its rows."""
    numbers, texts = columns.encoded("prompt")
    numbers = (numbers if order is None else numbers[order]).reshape(-1, n)
    differ = (numbers != numbers[:, :1]).any(axis=1)
    if differ.any():
        at = int(differ.argmax())
        two = [texts[number][:80] for number in dict.fromkeys(numbers[at].tolist())]
        raise ValueError(
            f"{columns.name} has more than one prompt with prompt_id {prompt_ids[at]}: {two[0]!r} and {two[1]!r}. "
            "Give every prompt its own prompt_id."
        )
    return [texts[number] for number in numbers[:, 0].tolist()]
