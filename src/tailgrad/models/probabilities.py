"""What is said of a policy whose probabilities are no numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def probabilities_are_numbers() -> Iterator[None]:
    """Say in plain words what torch's `multinomial` finds wrong on a CPU.

    Raises:
        ValueError: Probabilities are NaN or infinite.
    """
    try:
        yield
    except RuntimeError as error:
        if "probability tensor" not in str(error):
            raise
        raise ValueError(
            "the policy gives probabilities that are no numbers, so its weights hold NaN or infinity: take an earlier "
            "checkpoint, or load it with another dtype."
        ) from None
