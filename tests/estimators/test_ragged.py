"""Flat batches of groups that differ in size and come shuffled."""

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from contract_rows import ROWS, Row

from tailgrad.estimators import ESTIMATORS, advantages_ragged, bind, dr_grpo, smallest_group, tea

SIZES = (24, 2, 17, 1, 48, 24)


def shuffled_batch(row: Row) -> tuple[torch.Tensor, torch.Tensor]:
    """Rewards and group ids of groups of `SIZES`, shuffled; three rollouts are unscored."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.repeat_interleave(torch.tensor([7, -3, 90, 4, 5, 1]), torch.tensor(SIZES))
    rewards = row.allowed(torch.randn(len(ids), dtype=torch.float64, generator=generator))
    rewards[[3, 30, 60]] = math.nan
    order = torch.randperm(len(ids), generator=generator)
    return rewards[order], ids[order]


every_row = pytest.mark.parametrize("row", ROWS, ids=str)


@every_row
def test_the_other_groups_of_the_batch_do_not_matter(row: Row) -> None:
    """Also not whether any of them is large enough for the estimator."""
    rewards, ids = shuffled_batch(row)
    advantages = advantages_ragged(rewards, ids, row.estimate)
    for groups in (ids.unique()[:, None], torch.tensor([[-3, 4], [7, -3], [90, 4], [5, 4]])):
        for some in groups:
            members = torch.isin(ids, some)
            apart = advantages_ragged(rewards[members], ids[members], row.estimate)
            torch.testing.assert_close(apart, advantages[members], rtol=1e-11, atol=1e-11)


@every_row
def test_a_batch_of_groups_that_are_all_too_small_gets_zeros(row: Row) -> None:
    smallest = smallest_group(row.name, **row.options)
    for size in {1, smallest - 1}:
        rewards = row.allowed(torch.arange(3.0 * size) - 1)
        assert not advantages_ragged(rewards, torch.arange(3).repeat(size), row.estimate).any() or size >= smallest
    empty = advantages_ragged(torch.zeros(0), [], row.estimate)
    assert empty.shape == (0,)


def test_a_mean_over_the_batch_is_one_over_the_group() -> None:
    """CAT's weights have mean one in every group; without ties that is also their mean over any table."""
    rewards, ids = shuffled_batch(Row("cat_bon"))
    advantages = advantages_ragged(rewards, ids, bind("cat_bon", deploy_n=128))
    standardised = advantages_ragged(rewards, ids, bind("grpo"))
    for group in (7, 90, 5, 1):
        weights = (advantages / standardised)[(ids == group) & ~rewards.isnan()]
        assert weights.mean().item() == pytest.approx(1.0)
    table = torch.randn(5, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    flat = advantages_ragged(table.flatten(), torch.arange(5).repeat_interleave(16), bind("cat_bon", deploy_n=128))
    torch.testing.assert_close(flat, bind("cat_bon", deploy_n=128)(table).flatten())
    budgets = torch.tensor([4.0, 8.0, 16.0, 64.0, 128.0])
    options = {"deploy_n": budgets.repeat_interleave(16)}
    flat = advantages_ragged(table.flatten(), torch.arange(5).repeat_interleave(16), ESTIMATORS["cat_bon"], **options)
    alone = [bind("cat_bon", deploy_n=n)(group[None]) for n, group in zip(budgets.tolist(), table, strict=True)]
    torch.testing.assert_close(flat, torch.cat(alone).flatten())


@every_row
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


@pytest.mark.parametrize("ids", [torch.tensor([1.0, 1.0, math.nan]), np.array([1, 1, math.nan]), [1, 1, math.nan]])
def test_a_missing_number_is_no_group(ids: Any) -> None:
    with pytest.raises(ValueError, match="the group id of rollout 2 is nan"):
        advantages_ragged(torch.tensor([1.0, 2.0, 3.0]), ids, bind("rloo"))


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
        (torch.zeros(2), [0, 0], {"deploy_n": torch.ones(3)}, ValueError, "one N per rollout, 2, got 3"),
        (torch.tensor([0.0, 1.0, 2.0, -math.inf]), [1, 0, 1, 0], {}, ValueError, r"rewards\[3\] is -inf: rewards must"),
    ],
)
def test_malformed_batches_are_refused(
    rewards: Any, ids: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    estimator = bind("tea", deploy_n=128, tail_fraction=1.0) if not options else tea
    with pytest.raises(error, match=message):
        advantages_ragged(rewards, ids, estimator, **options)


@pytest.mark.parametrize("bound", [False, True])
def test_rewards_are_looked_at_unless_they_need_not_be(bound: bool) -> None:
    """An infinite reward passes where the caller says so, by an option or in the estimator, and only there."""
    rewards, ids = torch.tensor([0.0, 1.0, 2.0, math.inf]), [0, 0, 0, 1]
    given: dict[bool, tuple[Any, dict[str, bool]]] = {
        looked: (partial(dr_grpo, validate=looked), {}) if bound else (dr_grpo, {"validate": looked})
        for looked in (False, True)
    }
    estimator, options = given[False]
    assert advantages_ragged(rewards, ids, estimator, **options).tolist()[:3] == [-1.0, 0.0, 1.0]
    estimator, options = given[True]
    with pytest.raises(ValueError, match=r"rewards\[3\] is inf"):
        advantages_ragged(rewards, ids, estimator, **options)


def test_each_group_is_scaled_by_its_own_rollouts_alone() -> None:
    rewards, ids = shuffled_batch(Row("tea"))
    estimate = bind("tea", deploy_n=128)
    plain = advantages_ragged(rewards, ids, estimate)
    scaled = advantages_ragged(rewards, ids, estimate, scaling="group")
    for group in ids.unique():
        own = plain[ids == group]
        expected = own / own.square().mean().sqrt() if own.any() else own
        torch.testing.assert_close(scaled[ids == group], expected)
    batch = advantages_ragged(rewards, ids, estimate, scaling="batch")
    torch.testing.assert_close(batch, plain / plain.square().mean().sqrt())


def test_rounding_is_not_scaled_up_and_counts_for_nothing() -> None:
    """0.1 + 0.2 is not 0.3: the first group has no signal, the second counts with all of its three rollouts."""
    rewards = torch.tensor([0.1 + 0.2, 0.3, 0.0, 1.0, 5.0], dtype=torch.float64)
    for scaling, size in (("group", 3), ("batch", 5)):
        scaled = advantages_ragged(rewards, [0, 0, 1, 1, 1], dr_grpo, scaling=scaling)
        assert scaled[:2].tolist() == [0, 0]
        centred = rewards[2:] - 2
        torch.testing.assert_close(scaled[2:], centred / (centred.square().sum() / size).sqrt())


def test_an_unknown_scaling_is_refused() -> None:
    with pytest.raises(ValueError, match="advantage_scaling = 'std' is unknown"):
        advantages_ragged(torch.arange(4.0), [0, 0, 1, 1], dr_grpo, scaling="std")


@pytest.mark.parametrize(
    "labels", [["b", "a", "b", "a"], [("task", 2), ("task", 1), ("task", 2), ("task", 1)], [3, -1, 3, -1]]
)
def test_any_labels_that_sort_are_groups(labels: list[Any]) -> None:
    rewards = torch.tensor([1.0, 5.0, 3.0, 9.0])
    found = advantages_ragged(rewards, labels, ESTIMATORS["rloo"].function)
    assert found.tolist() == [-2.0, -4.0, 2.0, 4.0]
    assert advantages_ragged(rewards[:2], [("a", 1), ("a", 1)], ESTIMATORS["rloo"].function).tolist() == [-4.0, 4.0]


def test_a_rollout_without_a_group_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the group id of rollout 1 is None"):
        advantages_ragged(torch.ones(3), ["a", None, "a"], ESTIMATORS["rloo"].function)
