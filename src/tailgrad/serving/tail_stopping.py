"""Stop sampling a prompt where the next batch is expected to gain less than it costs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from tailgrad.serving.expected_gain import expected_gain, spread_of
from tailgrad.serving.priors import LevelPrior, SpreadPrior
from tailgrad.tails.shapes import tail_shape


class Weighed(NamedTuple):
    """What a rule weighs before a batch."""

    samples: int
    """Of the batch."""
    expected_gain: float
    """What they are expected to add to the best, in the units of the rewards; infinite where too little is known."""
    price: float
    """What they cost, in the same units."""


@dataclass(frozen=True)
class TailStopping:
    """Draw on while the expected gain of the next batch exceeds its price.

    After each batch the tail of the prompt's rewards so far tells what k more are expected to add to the best of them
    (`expected_gain`). The prompt stops where that is at most k times the price, and in any case at `most`. No reward is
    seen before it is drawn.

    The price is in spreads (`spread_of`), so that one price fits any reward. With a prior that is the prior's spread,
    the same for all prompts: price x prior.spread is what one sample may cost in the units of the rewards, and prompts
    of wider rewards draw more. Without one it is the spread of the prompt's own rewards: a few rewards tell it too
    badly to weigh one prompt against another.

    Attributes:
        price: What one sample costs, in spreads of the rewards, above 0: 0.03 draws about 16 per prompt.
        most: Samples per prompt that are never exceeded.
        batch: Samples of a batch after the first, at least. The smaller, the fewer are drawn in vain, and the longer
            a prompt waits.
        first: Samples of the first batch. Without a prior at least three are drawn.
        tail: A key of `tailgrad.tails.TAIL_SHAPES`.
        prior: What other prompts tell, from `prior_of`: most of what there is to save.
        top: The largest reward that there can be, 1 of a verifier: a prompt that has it stops.
        growth: A batch has this share of the samples so far, where that is more than `batch`. With 0 all batches are
            alike, and a long prompt waits for many of them.

    Raises:
        ValueError: If a value is out of range, or the shape unknown.

    Examples:
        >>> rule = TailStopping(price=0.05, most=64, batch=4)
        >>> rule.more(torch.zeros(0))
        8
        >>> rule.more(torch.tensor([0.1, 0.1, 0.2, 0.3, 0.2, 0.3, 0.2, 0.9])), rule.more(torch.arange(8.0))
        (0, 4)
    """

    price: float
    most: int
    batch: int = 4
    first: int = 8
    tail: str = "gaussian"
    prior: SpreadPrior | LevelPrior | None = None
    top: float = math.inf
    growth: float = 0.25

    def __post_init__(self) -> None:
        tail_shape(self.tail)
        if not 0 < self.price < math.inf:
            raise ValueError(f"price = {self.price} must be above 0 and finite: what one sample costs, in spreads")
        for name in ("most", "batch", "first"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} must be at least 1 sample")
        if not 0 <= self.growth < math.inf:
            raise ValueError(f"growth = {self.growth} must be 0 or more and finite: a share of the samples so far")
        if math.isnan(self.top):
            raise ValueError("top is not a number: give the largest reward that there can be, or leave it out")

    def more(self, rewards: Float[Tensor, " M"]) -> int:
        """Return how many samples to draw next; 0 stops.

        Args:
            rewards: Those of all samples of the prompt so far; NaN where one could not be scored.
        """
        drawn = len(rewards)
        left = self.most - drawn
        if left > 0 and drawn < self.first:
            return min(self.first - drawn, left)
        weighed = self.weigh(rewards)
        return 0 if weighed is None or weighed.expected_gain <= weighed.price else weighed.samples

    def weigh(self, rewards: Float[Tensor, " M"]) -> Weighed | None:
        """Return what the next batch is expected to gain and what it costs; None where no more may be drawn.

        Args:
            rewards: As for `more`; at least one.
        """
        draws = min(max(self.batch, int(self.growth * len(rewards))), self.most - len(rewards))
        if draws <= 0:
            return None
        group = torch.as_tensor(rewards).unsqueeze(0)
        gain = expected_gain(group, draws=draws, tail=self.tail, prior=self.prior, top=self.top)
        unit = spread_of(group, tail=self.tail, prior=self.prior)
        return Weighed(draws, float(gain), float(self.price * draws * unit))
