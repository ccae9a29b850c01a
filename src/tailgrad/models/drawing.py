"""Draw the next token on a CPU, where torch's `multinomial` takes a random number for each token of the vocabulary."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

_BLOCK: Final = 256
"""Tokens whose probabilities are summed up first."""


_NO_NUMBERS: Final = (
    "the policy gives probabilities that are no numbers, so its weights hold NaN or infinity: take an earlier "
    "checkpoint, or load it with another dtype."
)


def draw(logits: Float[Tensor, "b V"]) -> Int[Tensor, " b"]:
    """Draw one token per row with torch's global random numbers: two for each row, in float64.

    Args:
        logits: Of the tokens, up to a constant per row.

    Returns:
        Token ids. A token of probability 0 is never drawn.

    Raises:
        ValueError: A row has a logit that is NaN, or infinitely large.
    """
    probabilities = logits.softmax(-1)
    if not bool(probabilities[:, 0].isfinite().all()):  # one such logit makes the whole row NaN
        raise ValueError(_NO_NUMBERS)
    weights = torch.nn.functional.pad(probabilities, (0, -logits.shape[-1] % _BLOCK))
    blocks = weights.unflatten(-1, (-1, _BLOCK))  # [b, V / 256, 256]
    block = _place(blocks.sum(-1).double())
    within = blocks.take_along_dim(block[:, None, None], dim=1).squeeze(1).double()  # [b, 256]
    return block * _BLOCK + _place(within)


def _place(weights: Float[Tensor, "b w"]) -> Int[Tensor, " b"]:
    """Draw a place per row in proportion to its weight; never one of weight 0."""
    upper = weights.cumsum(-1)
    point = torch.rand(len(weights), 1, dtype=weights.dtype, device=weights.device) * upper[:, -1:]
    last = weights.shape[-1] - 1 - (weights.flip(-1) > 0).byte().argmax(-1)  # where rounding may go no further
    return torch.searchsorted(upper, point, right=True).squeeze(-1).minimum(last)


@contextmanager
def probabilities_are_numbers() -> Iterator[None]:
    """Say in the same words what torch's `multinomial` finds wrong on a CPU.

    Raises:
        ValueError: Probabilities are NaN or infinite.
    """
    try:
        yield
    except RuntimeError as error:
        if "probability tensor" not in str(error):
            raise
        raise ValueError(_NO_NUMBERS) from None


class DrawToken:
    """A logits processor of transformers' `generate` after which the most likely token is one that was drawn.

    Args:
        temperature: Divides the logits; above 0.
    """

    def __init__(self, temperature: float) -> None:
        self._temperature = temperature

    def __call__(self, input_ids: Int[Tensor, "b L"], scores: Float[Tensor, "b V"]) -> Float[Tensor, "b V"]:
        """Draw, and leave the other tokens out.

        Args:
            input_ids: All tokens so far.
            scores: The next token's logits.

        Returns:
            0 for the token that was drawn, minus infinity for the others.
        """
        drawn = draw(scores / self._temperature)
        return torch.full_like(scores, -torch.inf).scatter_(-1, drawn.unsqueeze(-1), 0.0)
