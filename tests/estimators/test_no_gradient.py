"""Advantages are numbers of the loss: nothing is differentiated through them."""

import pytest
import torch
from contract_rows import ROWS, M, Row

from tailgrad.estimators import advantages_ragged, bind, find_estimator


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_advantages_are_weights_through_which_no_gradient_flows(row: Row) -> None:
    """Neither from rewards nor from ratios, which are made of the log-probabilities that the loss differentiates."""
    rewards = row.allowed(torch.randn(3, M, generator=torch.Generator().manual_seed(0))).requires_grad_()
    assert not row.estimate(rewards).requires_grad
    assert not advantages_ragged(rewards.flatten(), torch.arange(3).repeat_interleave(M), row.estimate).requires_grad
    if find_estimator(row.name).takes_ratios and row.options.get("tail", "gaussian") == "gaussian":
        ratios = torch.rand(3, M, generator=torch.Generator().manual_seed(1)).requires_grad_()
        advantages = bind(row.name, **row.options)(rewards.detach(), ratios=ratios)
        assert advantages.any()
        assert not advantages.requires_grad
