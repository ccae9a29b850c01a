"""What `Rollouts` is given fits together."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

_BY_PROMPT: Final = ("prompt_ids", "prompts", "counts", "kl", "distinct", "responses")


def unmasked(values: Any) -> np.ndarray:
    """Give values as an array, what `numpy.ma` masks as NaN.

    Args:
        values: An array, or what becomes one.
    """
    if isinstance(values, np.ma.MaskedArray):
        return np.ma.filled(values.astype(np.float64), np.nan)
    return np.asarray(values)


def check_given(name: str, given: Mapping[str, Any]) -> None:
    """Refuse prompt ids that repeat, rewards that are no finite matrix, and all else whose shape is not theirs.

    Args:
        name: The name of the rollouts.
        given: Arguments of `Rollouts` by name, arrays as such; None and what is read later is passed over, and where
            that is the rewards, all shapes.

    Raises:
        ValueError: As said; the message names the rollouts.

    Examples:
        >>> check_given("base", {"rewards": np.zeros((2, 4)), "kl": np.zeros(2), "responses": None})
    """
    prompt_ids = given.get("prompt_ids")
    if prompt_ids is not None and len(np.unique(prompt_ids)) < len(prompt_ids):
        raise ValueError(f"rollouts {name!r}: prompt ids repeat; give every prompt its own.")
    if callable(given["rewards"]):
        return
    shape = given["rewards"].shape
    if len(shape) != 2 or 0 in shape:
        raise ValueError(
            f"rollouts {name!r}: rewards must be [P, n] with at least one prompt and one response, got {shape}."
        )
    if np.isinf(given["rewards"]).any():
        raise ValueError(f"rollouts {name!r}: a reward is infinite; use NaN for an unscored response.")
    for key, value in given.items():
        wanted = shape[:1] if key in _BY_PROMPT else shape
        found = (len(value),) if key in ("responses", "prompts") and isinstance(value, Sequence) else None
        found = np.shape(value) if found is None else found
        if value is not None and not callable(value) and found != wanted:
            raise ValueError(f"rollouts {name!r}: {key} has shape {found}, but rewards {shape} asks for {wanted}.")
    if given.get("counts") is not None:
        _check_counts(name, given["rewards"], np.asarray(given["counts"]))


def _check_counts(name: str, rewards: np.ndarray, counts: np.ndarray) -> None:
    """Refuse numbers of responses that a prompt cannot have, and rewards of responses beyond them."""
    n = rewards.shape[1]
    wrong = (counts < 0) | (counts > n)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"rollouts {name!r}: counts[{row}] is {counts[row]}; there are at most {n} responses.")
    beyond = ~np.isnan(rewards) & (np.arange(n) >= counts[:, None])
    if beyond.any():
        row, column = np.argwhere(beyond)[0]
        raise ValueError(
            f"rollouts {name!r}: counts[{row}] is {counts[row]}, and rewards[{row}, {column}] is a number: fill up "
            "with NaN."
        )
