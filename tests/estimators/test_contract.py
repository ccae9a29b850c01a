"""What every estimator promises, checked row by row: an estimator is a row that declares its properties."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from contract_rows import ROWS, M, Row, eighths
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tailgrad.estimators import ESTIMATORS, bind, smallest_group

every_row = pytest.mark.parametrize("row", ROWS, ids=str)


def close(actual: Tensor, expected: Tensor, *, rtol: float) -> None:
    """Equal up to rounding, relative to the largest advantage of the group."""
    scale = expected.abs().amax(dim=1, keepdim=True).clamp(min=1e-30)
    torch.testing.assert_close(actual / scale, expected / scale, rtol=0, atol=rtol)


def test_every_estimator_has_a_row() -> None:
    assert {row.name for row in ROWS} == set(ESTIMATORS)


def test_over_batch_is_what_some_row_of_the_estimator_is() -> None:
    assert {row.name for row in ROWS if not row.independent} == {n for n, row in ESTIMATORS.items() if row.over_batch}


@pytest.mark.parametrize("row", [row for row in ROWS if ESTIMATORS[row.name].follows_mean], ids=str)
def test_what_follows_the_mean_rises_in_a_line_with_the_reward(row: Row) -> None:
    """A group's advantages are its rewards, times a positive number, plus a number."""
    rewards = row.allowed(eighths(5).double())
    centred = [values - values.mean(dim=1, keepdim=True) for values in (row.estimate(rewards), rewards)]
    slope = (centred[0] * centred[1]).sum(dim=1, keepdim=True) / centred[1].square().sum(dim=1, keepdim=True)
    assert bool((slope > 0).all())
    torch.testing.assert_close(centred[0], slope * centred[1])


@every_row
@pytest.mark.parametrize(
    ("given", "returned"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.int64, torch.float32),
        (torch.int8, torch.float32),
        (torch.bool, torch.float32),
    ],
)
def test_dtype_is_promoted_and_never_truncated(row: Row, given: torch.dtype, returned: torch.dtype) -> None:
    rewards = row.allowed(eighths(3).mul(4).round().to(given))
    advantages = row.estimate(rewards)
    assert advantages.dtype == returned
    assert advantages.shape == (3, M)
    close(advantages.double(), row.estimate(rewards.double()), rtol=1e-6)


@every_row
def test_no_prompts_give_no_advantages(row: Row) -> None:
    assert row.estimate(torch.zeros(0, M)).shape == (0, M)


@every_row
def test_prompts_do_not_see_each_other(row: Row) -> None:
    rewards = row.allowed(eighths(5))
    rewards[0] = rewards[0].round()  # ties
    alone = torch.cat([row.estimate(group[None]) for group in rewards])
    assert torch.equal(row.estimate(rewards), alone) == row.independent


@every_row
def test_order_of_the_rollouts(row: Row) -> None:
    rewards = row.allowed(torch.randn(4, M, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    permutation = torch.randperm(M, generator=torch.Generator().manual_seed(2))
    expected = row.estimate(rewards)
    cyclic = torch.allclose(row.estimate(rewards.roll(7, dims=1)), expected.roll(7, dims=1), atol=1e-10)
    anything = torch.allclose(row.estimate(rewards[:, permutation]), expected[:, permutation], atol=1e-10)
    assert (anything, cyclic) == (row.permutations == "all", row.permutations in ("all", "cyclic"))


@every_row
@pytest.mark.parametrize("offset", [-3.0, 1e4])
def test_offset_does_not_matter(row: Row, offset: float) -> None:
    rewards = eighths(200)
    shifted = rewards + offset
    assert torch.equal(shifted.double() - offset, rewards.double()), "the offset must be exact"
    if row.binary:
        with pytest.raises(ValueError, match=r"takes rewards 0(, 0\.5)? and 1 only"):
            row.estimate(shifted)
    elif not row.offsets:
        assert not torch.allclose(row.estimate(shifted), row.estimate(rewards))
    elif row.name == "grpo":  # float32 inside: the last bits of the mean may differ
        close(row.estimate(shifted), row.estimate(rewards), rtol=4e-6)
    else:
        assert torch.equal(row.estimate(shifted), row.estimate(rewards))


@every_row
def test_small_spread_on_a_large_offset(row: Row) -> None:
    rewards = row.allowed(18.93 + 0.01 * torch.randn(200, M, generator=torch.Generator().manual_seed(3)))
    close(row.estimate(rewards).double(), row.estimate(rewards.double()), rtol=4e-6)


@every_row
def test_scale_of_the_rewards(row: Row) -> None:
    rewards = eighths(5).double()
    assert ESTIMATORS[row.name].has_scale == (row.scales != "invariant")
    if row.binary:
        with pytest.raises(ValueError, match=r"takes rewards 0(, 0\.5)? and 1 only"):
            row.estimate(1024 * row.allowed(rewards))
        return
    for factor in (0.25, 1024.0):
        scaled, plain = row.estimate(factor * rewards), row.estimate(rewards)
        scale = plain.abs().amax(dim=1, keepdim=True)
        linear = bool(((scaled - factor * plain).abs() <= 1e-12 * factor * scale).all())
        invariant = bool(((scaled - plain).abs() <= 5e-3 * scale).all())
        assert (linear, invariant) == (row.scales == "linear", row.scales == "invariant")


@every_row
@pytest.mark.parametrize("value", [0.0, 0.3, -18.93, 1e4])
def test_equal_rewards_give_no_signal(row: Row, value: float) -> None:
    rewards = torch.full((2, M), float(value > 0) if row.binary else value)
    advantages = row.estimate(rewards)
    assert bool((advantages == 0).all()) == (row.zero_when_equal or value == 0)
    rewards[1, :] = row.allowed(torch.arange(float(M)) - M // 2)
    assert torch.equal(row.estimate(rewards)[0], advantages[0])
    assert bool((row.estimate(rewards)[1] != 0).any())


@every_row
def test_unscored_rollouts_are_left_out_of_the_group(row: Row) -> None:
    rewards = row.allowed(eighths(6).double())
    for prompt, unscored in enumerate([[], [0], [M - 1], [3, 4, 11], [2, 20]]):
        rewards[prompt, unscored] = math.nan
    rewards[5] = math.nan
    advantages = row.estimate(rewards)
    assert bool((advantages[torch.isnan(rewards)] == 0).all())
    for group, actual in zip(rewards[:5], advantages[:5], strict=True):
        scored = ~torch.isnan(group)
        expected = row.estimate(group[scored][None]) * M / int(scored.sum())
        others = 1 if row.independent else actual[scored].abs().max() / expected.abs().max()
        close(actual[scored][None], expected * others, rtol=1e-12)


@every_row
def test_smallest_group(row: Row) -> None:
    smallest = smallest_group(row.name, **row.options)
    rewards = row.allowed(torch.arange(M).repeat(2, 1).double() - smallest + 1.5)
    rewards[0, smallest - 1 :] = math.nan
    rewards[1, smallest:] = math.nan
    advantages = row.estimate(rewards)
    assert bool((advantages[0] == 0).all()), "fewer scored rollouts than the smallest group give zeros"
    assert bool((advantages[1] != 0).any())
    row.estimate(rewards[:, : max(smallest, 2)])
    if smallest > 2 and row.name != "pass_at_k":  # which takes k = m and gives zeros, as its formula does
        with pytest.raises(ValueError, match=r"needs?|needed"):
            row.estimate(rewards[:, : smallest - 1])


@every_row
def test_validation_does_not_change_the_result(row: Row) -> None:
    rewards = row.allowed(eighths(4))
    rewards[2, 5] = math.nan
    assert torch.equal(bind(row.name, **row.options, validate=False)(rewards), row.estimate(rewards))


@every_row
@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_infinity_is_an_error_that_names_prompt_and_rollout(row: Row, value: float) -> None:
    rewards = eighths(4)
    rewards[2, 5] = value
    with pytest.raises(ValueError, match=rf"rewards\[2, 5\] is {value} \(prompt 2, rollout 5\)"):
        row.estimate(rewards)


@every_row
@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("rewards", "error", "message"),
    [
        (torch.zeros(M), ValueError, r"shape \[P, M\].*got \(24,\)"),
        (torch.zeros(2, M, 1), ValueError, r"shape \[P, M\].*got \(2, 24, 1\)"),
        (torch.zeros(3, 1), ValueError, r"at least 2 rollouts.*\(3, 1\)"),
        (torch.zeros(3, 0), ValueError, r"at least 2 rollouts.*\(3, 0\)"),
        (torch.zeros(2, M, dtype=torch.complex64), TypeError, "complex64"),
        ([[0.0] * M], TypeError, "torch tensor.*list"),
    ],
)
def test_malformed_rewards_are_refused(row: Row, rewards: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        row.estimate(rewards)


@every_row
@pytest.mark.parametrize("exponent", [-140, -70, 40, 70, 124])
def test_float32_rewards_from_end_to_end_of_their_range(row: Row, exponent: int) -> None:
    """Up to 2^127 and down to where float32 has three digits left: as in float64, or the largest float32."""
    rewards = row.allowed(eighths(6) * torch.tensor(2.0, dtype=torch.float64).pow(exponent).float())
    rewards[2] = row.allowed(rewards[2].where(rewards[2] > 0, -(2.0**exponent)))  # ties
    rewards[3, 5] = math.nan
    advantages = row.estimate(rewards)
    largest = torch.finfo(torch.float32).max
    assert bool(advantages.isfinite().all())
    close(advantages.double(), row.estimate(rewards.double()).clamp(-largest, largest), rtol=4e-6)


@every_row
def test_rewards_whose_squares_no_float_holds_are_refused(row: Row) -> None:
    rewards = eighths(4).double()
    rewards[2, 5] = -1e101
    with pytest.raises(ValueError, match=r"rewards\[2, 5\] is -1e\+101 .*at most 1e\+100 in size"):
        row.estimate(rewards)


@every_row
def test_kernels_never_read_a_value(row: Row) -> None:
    """Tensors on the meta device have no values, so reading one, which would wait for a GPU, is an error."""
    estimate = bind(row.name, **row.options, validate=False)
    rewards = torch.zeros(3, M, device="meta")
    with pytest.raises(RuntimeError, match="meta"):
        bool(rewards.isinf().any())
    advantages = estimate(rewards)
    assert advantages.shape == (3, M)
    assert advantages.dtype == torch.float32
    if "deploy_n" in row.options:
        budgets = torch.full((3,), 128.0, device="meta")
        options = {**row.options, "deploy_n": budgets, "validate": False}
        assert bind(row.name, **options)(rewards).shape == (3, M)


REWARDS = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([0.0, 1.0, -0.0, 1e-300, math.nan]))


@every_row
@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_rewards_give_finite_advantages_in_their_places(row: Row, data: st.DataObject) -> None:
    """Whatever the rewards: finite, 0 where unscored, and moved with the rollouts as the row declares."""
    table = data.draw(st.lists(st.lists(REWARDS, min_size=M, max_size=M), min_size=1, max_size=3))
    rewards = row.allowed(torch.tensor(table, dtype=torch.float64))
    advantages = row.estimate(rewards)
    assert bool(advantages.isfinite().all())
    assert bool((advantages[rewards.isnan()] == 0).all())
    if row.permutations == "all":
        order = torch.tensor(data.draw(st.permutations(range(M))))
        scale = advantages.abs().amax(dim=1, keepdim=True) + 1e-300
        moved = row.estimate(rewards[:, order])
        assert bool(((moved - advantages[:, order]).abs() <= 1e-6 * scale).all())


@every_row
def test_vmap(row: Row) -> None:
    estimate = bind(row.name, **row.options, validate=False)
    rewards = row.allowed(torch.stack([eighths(3, seed=seed) for seed in range(4)]))
    rewards[1, 2, 5] = math.nan
    expected = torch.stack([estimate(table) for table in rewards])
    torch.testing.assert_close(torch.func.vmap(estimate)(rewards), expected)


@pytest.mark.parametrize("names", ["grpo max_at_k tea", pytest.param("", marks=pytest.mark.nightly, id="all")])
def test_compile(names: str) -> None:
    script = Path(__file__).with_name("contract_rows.py")
    result = subprocess.run([sys.executable, str(script), *names.split()], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_kernels_agree_on_the_gpu_and_never_wait_for_it() -> None:
    for row in ROWS:
        rewards = row.allowed(eighths(6))
        rewards[1, 4] = math.nan
        on_device = rewards.cuda()
        estimate = bind(row.name, **row.options, validate=False)
        torch.cuda.set_sync_debug_mode("error")
        try:
            advantages = estimate(on_device)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert advantages.device.type == "cuda"
        close(advantages.cpu(), estimate(rewards), rtol=4e-6 if row.name == "grpo" else 1e-6)
