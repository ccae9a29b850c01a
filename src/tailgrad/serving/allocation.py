"""A fixed number of samples for a batch of prompts: they go where they are expected to gain most."""

from __future__ import annotations

import heapq
import math

import torch
from jaxtyping import Int
from torch import Tensor

from tailgrad.serving.expected_gain import expected_gain
from tailgrad.serving.priors import LevelPrior, SpreadPrior, prior_of
from tailgrad.types import Rewards, check_rewards


def allocate(
    rewards: Rewards,
    *,
    samples: int,
    batch: int = 1,
    tail: str = "gaussian",
    prior: SpreadPrior | LevelPrior | None = None,
    top: float = math.inf,
) -> Int[Tensor, " P"]:
    """Say how many of the next samples each prompt gets, so that their expected gains add up to the most.

    Batches are given one after the other to the prompt that gains most by the next one. As each prompt's batches gain
    less and less, no other division of the samples into batches is expected to gain more. The rewards of
    what is drawn change the expectation: give a few samples at a time, draw them, and ask again.

    Args:
        rewards: Rewards `[P, M]` so far; NaN where not drawn or not scored.
        samples: How many to give away, over all prompts.
        batch: Samples of a batch; the last batch is smaller where they do not divide.
        tail: A key of `tailgrad.tails.TAIL_SHAPES`.
        prior: What other prompts tell, from `prior_of`; by default what these tell, `prior_of(rewards)`, if they do.
        top: The largest reward that there can be.

    Returns:
        One number per prompt; they sum to `samples`, or to 0 where no prompt can gain anything.

    Raises:
        TypeError: If `rewards` is not a real tensor.
        ValueError: If an argument is out of range, or the shape unknown.

    Examples:
        >>> rewards = torch.tensor([[0.0, 1.0, 2.0, 3.0], [0.0, 0.1, 0.2, 0.3], [0.5, 0.5, 0.5, 0.5]])
        >>> allocate(rewards, samples=12)
        tensor([12,  0,  0])
    """
    check_rewards(rewards)
    for name, value in (("samples", samples), ("batch", batch)):
        if value < (name == "batch"):
            raise ValueError(f"{name} = {value} must be at least {int(name == 'batch')}")
    prior = prior or _own_prior(rewards, tail)
    given = [0] * len(rewards)

    def gain(prompt: int, draws: int) -> float:
        row = rewards[prompt : prompt + 1]
        return float(expected_gain(row, draws=draws, tail=tail, prior=prior, top=top)) if draws else 0.0

    size = min(batch, samples)
    start = expected_gain(rewards, draws=size, tail=tail, prior=prior, top=top).tolist() if size else []
    # The largest increment first; of equal ones the prompt that has been given less, then the first.
    queue = [(-one, 0, prompt, one) for prompt, one in enumerate(start)]
    heapq.heapify(queue)
    left = samples
    while left and queue and queue[0][0] < 0:
        _, _, prompt, so_far = heapq.heappop(queue)
        size = min(batch, left)
        given[prompt] += size
        left -= size
        after = gain(prompt, given[prompt] + min(batch, left))
        increment = math.inf if math.isinf(after) else after - so_far
        heapq.heappush(queue, (-increment, given[prompt], prompt, after))
    return torch.tensor(given, dtype=torch.int64)


def _own_prior(rewards: Rewards, tail: str) -> SpreadPrior | LevelPrior | None:
    """What the prompts tell of each other; None where fewer than two have a spread."""
    try:
        return prior_of(rewards, tail=tail)
    except ValueError:
        return None
