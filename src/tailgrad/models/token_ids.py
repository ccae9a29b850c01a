"""Token ids of many prompts in little memory, and whether a model can take them."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any, overload

import numpy as np


class TokenIds(Sequence[list[int]]):
    """Token ids of prompts, read like a list of lists and held in four bytes each.

    Args:
        rows: The token ids, one list per prompt.

    Examples:
        >>> ids = TokenIds([[5, 6], [], [7]])
        >>> ids[0], len(ids), ids[1:], ids == [[5, 6], [], [7]]
        ([5, 6], 3, [[], [7]], True)
    """

    def __init__(self, rows: Iterable[Sequence[int]]) -> None:
        self._ids, ends = array("i"), array("q", [0])
        for row in rows:
            self._ids.extend(row)
            ends.append(len(self._ids))
        self._ends = np.asarray(ends)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, key: int) -> list[int]: ...

    @overload
    def __getitem__(self, key: slice) -> list[list[int]]: ...

    def __getitem__(self, key: int | slice) -> list[int] | list[list[int]]:
        rows = range(len(self))[key]
        if isinstance(rows, range):
            return [self[row] for row in rows]
        return self._ids[self._ends[rows] : self._ends[rows + 1]].tolist()

    def __eq__(self, other: object) -> bool:
        return list(self) == other

    __hash__ = None  # type: ignore[assignment]  # like a list

    @property
    def lengths(self) -> np.ndarray:
        """The number of tokens of each prompt `[P]`."""
        return np.diff(self._ends)

    def first_at_least(self, limit: int) -> tuple[int, int] | None:
        """Return the first row with a token of at least `limit`, and that token; None where there is none."""
        found = np.flatnonzero(np.asarray(self._ids) >= limit)
        if not len(found):
            return None
        return int(np.searchsorted(self._ends, found[0], side="right")) - 1, self._ids[found[0]]


def check_fit(
    token_ids: TokenIds,
    tokenizer: Any,
    config: Any,
    *,
    model: str,
    new_tokens: int | None = 0,
    source: str = "the data set",
) -> None:
    """Refuse prompts that a model cannot take: tokens without an embedding, or more tokens than it has positions.

    Args:
        token_ids: The prompts' tokens.
        tokenizer: What made them.
        config: The model's transformers config.
        model: The model's name, for error messages.
        new_tokens: The most tokens of a response; None is no limit, and only the prompts are looked at.
        source: Where the prompts are from, the first words of error messages.

    Raises:
        ValueError: The message names the row, and the token or both lengths.
    """
    config = config.get_text_config()
    size = getattr(config, "vocab_size", None)
    unknown = None if size is None else token_ids.first_at_least(size)
    if unknown is not None:
        row, token = unknown
        text = tokenizer.convert_ids_to_tokens(token)
        raise ValueError(
            f"{source}: the prompt in row {row} (counted from 0) "
            f"has the token {text!r} with id {token}, and model {model!r} has "
            f"embeddings for {size} tokens (its tokenizer has {len(tokenizer)}). "
            "Use the tokenizer that the model was trained with, or resize the model's embeddings."
        )
    limit = getattr(config, "max_position_embeddings", None)
    longest = int(token_ids.lengths.argmax())
    length = int(token_ids.lengths[longest])
    if limit is not None and length + (new_tokens or 0) > limit:
        raise ValueError(
            f"{source}: the prompt in row {longest} (counted from 0) "
            f"has {length} tokens; with max_completion_length {new_tokens} that "
            f"is more than the {limit} positions of model {model!r}. Lower it, or drop long prompts."
        )
