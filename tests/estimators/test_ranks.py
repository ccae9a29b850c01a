"""Ranks in a group, by counting one by one."""

import torch

from tailgrad.estimators._ranks import num_not_larger, num_smaller


def test_ranks_are_counts_over_the_scored_rollouts() -> None:
    rewards = torch.tensor([[2.0, 1.0, float("nan"), 2.0, -5.0], [0.0, 0.0, 0.0, 0.0, float("nan")]])
    scored = ~rewards.isnan()
    smaller = ((rewards.unsqueeze(1) < rewards.unsqueeze(2)) & scored.unsqueeze(1)).sum(-1)
    not_larger = ((rewards.unsqueeze(1) <= rewards.unsqueeze(2)) & scored.unsqueeze(1)).sum(-1)
    for found, expected in ((num_smaller(rewards), smaller), (num_not_larger(rewards), not_larger)):
        assert found.dtype == torch.float64
        assert torch.equal(found, expected.double())
