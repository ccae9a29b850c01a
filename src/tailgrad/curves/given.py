"""What `Rollouts` is given fits together."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

_BY_PROMPT: Final = ("prompt_ids", "prompts", "counts", "kl", "distinct", "responses")


def check_given(name: str, given: Mapping[str, Any]) -> None:
    """Refuse rewards that are no finite matrix, and all else whose shape is not theirs.

    Args:
        name: The name of the rollouts.
        given: Arguments of `Rollouts` by name, with `rewards` as an array; None and what is read later is passed over.

    Raises:
        ValueError: As said; the message names the rollouts.

    Examples:
        >>> check_given("base", {"rewards": np.zeros((2, 4)), "kl": np.zeros(2), "responses": None})
    """
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
