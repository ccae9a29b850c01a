"""Flat batches of groups that differ in size and come shuffled."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from contract_rows import ROWS, Row

from tailgrad.estimators import advantages_ragged, bind, dr_grpo, smallest_group, tea

SIZES = (24, 2, 17, 1, 48, 24)


def shuffled_batch(row: Row) -> tuple[torch.Tensor, torch.Tensor]:
    """Rewards and group ids of groups of `SIZES`, shuffled; three rollouts are unscored."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.repeat_interleave(torch.tensor([7, -3, 90, 4, 5, 1]), torch.tensor(SIZES))
    rewards = row.allowed(torch.randn(len(ids), dtype=torch.float64, generator=generator))
    rewards[[3, 30, 60]] = math.nan
    order = torch.randperm(len(ids), generator=generator)
    return rewards[order], ids[order]


@pytest.mark.parametrize("row", [row for row in ROWS if row.independent], ids=str)
def test_each_group_gets_what_it_would_get_alone(row: Row) -> None:
    rewards, ids = shuffled_batch(row)
    advantages = advantages_ragged(rewards, ids, row.estimate)
    smallest = max(2, smallest_group(row.name, **row.options))
    for group in ids.unique():
        members = ids == group
        if int((~torch.isnan(rewards[members])).sum()) < smallest:
            assert not advantages[members].any()
            continue
        alone = row.estimate(rewards[members][None])[0]
        torch.testing.assert_close(advantages[members], alone, rtol=1e-11, atol=1e-11)


def test_equal_sizes_in_order_are_the_table() -> None:
    table = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    ids = [f"prompt {i}" for i in range(5) for _ in range(16)]
    flat = advantages_ragged(table.flatten(), np.array(ids, dtype=object), tea, deploy_n=128)
    torch.testing.assert_close(flat, tea(table, deploy_n=128).flatten())


def test_one_deploy_n_a_rollout() -> None:
    table = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    budgets = torch.tensor([64.0, 128.0, 512.0])
    order = torch.randperm(48, generator=torch.Generator().manual_seed(1))
    ids = torch.arange(3).repeat_interleave(16)[order]
    flat = advantages_ragged(table.flatten()[order], ids, tea, deploy_n=budgets.repeat_interleave(16)[order])
    torch.testing.assert_close(flat, tea(table, deploy_n=budgets).flatten()[order])


def test_whole_numbers_and_empty_batches() -> None:
    advantages = advantages_ragged(torch.tensor([0, 1, 4, 2]), [0, 1, 0, 1], dr_grpo)
    assert advantages.dtype == torch.float32
    assert advantages.tolist() == [-2.0, -0.5, 2.0, 0.5]
    assert advantages_ragged(torch.zeros(0), [], dr_grpo).shape == (0,)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("rewards", "ids", "options", "error", "message"),
    [
        ([1.0, 2.0], [0, 0], {}, TypeError, "torch tensor.*list"),
        (torch.zeros(2, 2), [0, 0], {}, ValueError, r"must be flat, \[B\], got shape \(2, 2\)"),
        (torch.zeros(3), [0, 0], {}, ValueError, "3 rewards need as many group ids, got 2"),
        (torch.zeros(2), [0, 0], {"deploy_n": torch.ones(3)}, ValueError, "one N a rollout, 2, got 3"),
        (torch.tensor([0.0, math.inf]), [0, 0], {}, ValueError, "is inf"),
    ],
)
def test_malformed_batches_are_refused(
    rewards: Any, ids: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    estimator = bind("tea", deploy_n=128, tail_fraction=1.0) if not options else tea
    with pytest.raises(error, match=message):
        advantages_ragged(rewards, ids, estimator, **options)
