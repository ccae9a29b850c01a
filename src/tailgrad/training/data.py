"""What `tailgrad train` trains on and what it evaluates on, never the same rows unnoticed."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

from datasets import Dataset

logger = logging.getLogger(__name__)

_HOLD_OUT = "Hold rows of the training split out: --test_split_size 0.1 (a share) or 32 (rows)."


def train_and_test(
    load: Callable[[str], Any], *, train_split: str, test_split: str | None, test_size: float | None, seed: int
) -> tuple[Any, Any]:
    """Return the rows to train on and those to evaluate on.

    Args:
        load: Returns one split by name.
        train_split: The split to train on.
        test_split: The split to evaluate on; None where there is no evaluation.
        test_size: How much of `train_split` to hold out in the place of `test_split`: a share below 1, or so many rows.
        seed: Which rows are held out.

    Returns:
        Both; None for the second where there is no evaluation.

    Raises:
        ValueError: There is no such split, too little to hold out, or every prompt to evaluate on is trained on.
    """
    train = load(train_split)
    if test_size is not None:
        train, test = _held_out(train, test_size, seed)
        return train, None if test_split is None else _checked(train, test)
    if test_split is None:
        return train, None
    try:
        test = load(test_split)
    except (KeyError, ValueError) as error:
        raise ValueError(f"The rows to evaluate on cannot be read: {error} {_HOLD_OUT}") from error
    return train, _checked(train, test)


def _held_out(rows: Any, test_size: float, seed: int) -> tuple[Any, Any]:
    if not isinstance(rows, Dataset):
        raise ValueError("test_split_size holds out rows of a data set that is read whole, not of a stream.")
    size = test_size if test_size < 1 else int(test_size)
    if not 0 < size < len(rows) or size != test_size:
        raise ValueError(
            f"test_split_size = {test_size:g} must be a share between 0 and 1, or a whole number of rows below the "
            f"{len(rows)} that there are."
        )
    parts = rows.train_test_split(test_size=size, seed=seed)
    return parts["train"], parts["test"]


def _checked(train: Any, test: Any) -> Any:
    """The rows to evaluate on, compared with those to train on by their prompts."""
    if not (isinstance(train, Dataset) and isinstance(test, Dataset)):
        return test
    held = [*_texts(test)]
    trained = {*held}.intersection(_texts(train))
    shared = sum(prompt in trained for prompt in held)
    if len(test) and shared == len(test):
        raise ValueError(
            f"All {len(test)} prompts of the evaluation are trained on too, so it would say nothing of new ones. "
            f"{_HOLD_OUT} Or leave --eval_strategy out."
        )
    if shared:
        logger.warning("%d of the %d prompts of the evaluation are trained on too.", shared, len(test))
    return test


def _texts(rows: Dataset) -> Iterator[str]:
    return (json.dumps(prompt, sort_keys=True, default=str) for prompt in rows["prompt"])
