import asyncio
import contextvars
import functools
import math
import time
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from tailgrad.rewards import RewardTimeoutError, WeightedSum, checked, checked_for_trl
from tailgrad.rewards.reward import is_async


def returns(values: Any) -> Callable[..., Any]:
    def constant(**rollouts: Any) -> Any:
        return values

    return constant


def score(values: Any, count: int) -> list[float | None]:
    return checked(returns(values))(prompts=["p"] * count, completions=["c"] * count)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2, 2.0),
        (True, 1.0),
        (0.25, 0.25),
        (np.float32(0.5), 0.5),
        (np.int64(-3), -3.0),
        (np.bool_(True), 1.0),
        (np.array(1.5), 1.5),
        (torch.tensor(0.75), 0.75),
        (torch.tensor(2), 2.0),
        (Fraction(1, 4), 0.25),
        (Decimal("0.125"), 0.125),
        (None, None),
        (math.nan, None),
        (np.float64("nan"), None),
        (torch.tensor(math.nan), None),
    ],
)
def test_a_number_or_none_for_each_rollout(value: Any, expected: float | None) -> None:
    scores = score([1.0, value], 2)
    assert scores == [1.0, expected]
    assert all(type(one) in (float, type(None)) for one in scores)


@pytest.mark.parametrize(
    "values",
    [(1.0, 2.0), np.array([1, 2]), torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0], requires_grad=True)],
)
def test_any_flat_sequence(values: Any) -> None:
    assert score(values, 2) == [1.0, 2.0]


@pytest.mark.parametrize("values", [[1.0], [1.0, 2.0, 3.0], []])
def test_a_wrong_length_names_both_lengths(values: list[float]) -> None:
    with pytest.raises(ValueError, match=rf"'constant' returned {len(values)} values for 2 rollouts"):
        score(values, 2)


@pytest.mark.parametrize(
    "value",
    [
        "0.5",
        "good",
        b"1",
        1 + 2j,
        [1.0],
        {},
        np.array([1.0]),
        torch.tensor([1.0]),
        object(),
        math.inf,
        -math.inf,
    ],
)
def test_no_number_names_reward_and_position(value: Any) -> None:
    with pytest.raises(ValueError, match=r"'constant' returned .* at position 1"):
        score([1.0, value], 2)


@pytest.mark.parametrize("value", [1e39, -1e39, 10**400, torch.tensor(math.inf)])
def test_a_number_that_float32_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="position 0; rewards must be finite"):
        score([value], 1)


@pytest.mark.parametrize(
    "values",
    [
        "12",
        None,
        1.0,
        {"a": 1, "b": 2},
        {1, 2},
        np.ones((2, 1)),
        torch.ones(2, 1),
        torch.tensor(1.0),
        iter([1, 2]),
    ],
)
def test_anything_but_a_list_is_refused(values: Any) -> None:
    with pytest.raises(ValueError, match=r"'constant' returned a .*each of the 2 rollouts"):
        score(values, 2)


def test_a_reward_that_raises_is_named_and_chained() -> None:
    def fails(**rollouts: Any) -> list[float]:
        raise KeyError("answer")

    with pytest.raises(RuntimeError, match="reward 'fails' raised KeyError: 'answer'") as caught:
        checked(fails)(prompts=["p"], completions=["c"])
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_reward_that_takes_no_columns_is_told_to_take_them() -> None:
    def narrow(prompts: list[str], completions: list[str]) -> list[float]:
        return [1.0] * len(completions)

    async def narrow_too(prompts: list[str], completions: list[str]) -> list[float]:
        return [1.0] * len(completions)

    def errs_within(**rollouts: Any) -> list[float]:
        return [float(dict(**rollouts).get("x", default=1))]

    told = r"Take \*\*columns: every reward is called with prompts, completions and the data's columns\."
    given: dict[str, Any] = {"prompts": ["p"], "completions": ["c"], "answer": ["a"]}
    for reward in (narrow, narrow_too):
        with pytest.raises(RuntimeError, match=rf"'{reward.__name__}' raised TypeError: .*'answer'.*\. {told}$"):
            checked(reward)(**given)
    with pytest.raises(RuntimeError, match=told):
        asyncio.run(checked_for_trl(narrow_too)(**given))
    with pytest.raises(RuntimeError, match="Return None for a rollout that cannot be scored"):
        checked(errs_within)(**given)


def test_an_interrupt_is_not_an_error_of_the_reward() -> None:
    def interrupted(**rollouts: Any) -> list[float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checked(interrupted)(prompts=["p"], completions=["c"])


def test_columns_and_whatever_trl_passes_reach_the_reward() -> None:
    seen = {}

    def keeps(**rollouts: Any) -> list[float]:
        seen.update(rollouts)
        return [1.0]

    given = {
        "prompts": ["p"],
        "completions": ["c"],
        "completion_ids": [[1]],
        "trainer_state": None,
        "answer": ["a"],
    }
    checked(keeps)(**given)
    assert seen == given


def test_an_async_reward_is_run() -> None:
    async def slow(**rollouts: Any) -> list[float]:
        await asyncio.sleep(0)
        return [3.0]

    assert checked(slow)(prompts=["p"], completions=["c"]) == [3.0]


def test_an_async_reward_stays_async_for_trl_and_is_checked() -> None:
    from trl.trainer.utils import get_callable_name, is_async_callable

    class Judge:
        async def __call__(self, **rollouts: Any) -> list[Any]:
            await asyncio.sleep(0)
            return ["good"]

    async def judge(*, scale: float = 1.0, **rollouts: Any) -> list[Any]:
        await asyncio.sleep(0)
        return [torch.tensor(scale), None, math.nan]

    for reward in (Judge(), judge, functools.partial(judge, scale=2.0)):
        wrapped = checked_for_trl(reward)
        assert is_async(reward)
        assert is_async_callable(wrapped)
        assert get_callable_name(wrapped) == get_callable_name(reward)
    given = {"prompts": ["p"] * 3, "completions": ["c"] * 3}
    assert asyncio.run(checked_for_trl(functools.partial(judge, scale=2.0))(**given)) == [2.0, None, None]
    with pytest.raises(ValueError, match="'Judge' returned 1 values for 3 rollouts"):
        asyncio.run(checked_for_trl(Judge())(**given))
    assert not is_async_callable(checked_for_trl(returns([1.0])))


def hangs(**rollouts: Any) -> list[float]:
    time.sleep(30)
    return [1.0]


async def hangs_politely(**rollouts: Any) -> list[float]:
    await asyncio.sleep(30)
    return [1.0]


async def hangs_and_blocks_the_loop(**rollouts: Any) -> list[float]:
    return hangs(**rollouts)


@pytest.mark.parametrize("reward", [hangs, hangs_politely, hangs_and_blocks_the_loop])
def test_a_reward_that_hangs_is_named(reward: Callable[..., Any]) -> None:
    message = f"'{reward.__name__}' has not scored 2 rollouts within 0.1 seconds"
    given = {"prompts": ["p"] * 2, "completions": ["c"] * 2}
    start = time.monotonic()
    with pytest.raises(RewardTimeoutError, match=message):
        checked(reward, 0.1)(**given)
    with pytest.raises(RewardTimeoutError, match=message):
        WeightedSum([checked(reward, 0.1), returns([1.0])])(**given)
    if is_async(reward):
        with pytest.raises(RewardTimeoutError, match=message):
            asyncio.run(checked_for_trl(reward, 0.1)(**given))
    assert time.monotonic() - start < 10


def test_a_limit_of_time_changes_nothing_else() -> None:
    seen = []

    def looks(*, completions: list[str], **rollouts: Any) -> list[float]:
        seen.append((torch.is_grad_enabled(), variable.get()))
        return [len(text) for text in completions]

    def raises(**rollouts: Any) -> list[float]:
        raise TimeoutError("of its own")

    variable = contextvars.ContextVar("variable", default="")
    variable.set("of the caller")
    given = {"prompts": ["p"], "completions": ["abc"]}
    with torch.no_grad():
        assert checked(looks, 10)(**given) == [3.0]
    assert seen == [(False, "of the caller")]
    assert torch.is_grad_enabled()
    with pytest.raises(RuntimeError, match="'raises' raised TimeoutError: of its own"):
        checked(raises, 10)(**given)
    assert checked(checked(looks), 10).timeout == 10
    assert checked(checked(looks, 10)).timeout == 10


@pytest.mark.parametrize("timeout", [0.0, -1.0, math.inf, math.nan])
def test_a_limit_that_is_no_time_is_refused(timeout: float) -> None:
    with pytest.raises(ValueError, match=r"reward_timeout is .*; it must be a number of seconds above 0"):
        checked(returns([1.0]), timeout)


def test_weighted_sum_is_the_nansum_of_trl() -> None:
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(3, 40))
    scores[generator.random((3, 40)) < 0.4] = np.nan
    weights = [0.5, -2.0, 3.0]
    table = torch.tensor(scores.T)  # rollouts x rewards, as in TRL
    expected = (table * torch.tensor(weights, dtype=torch.float64)).nansum(dim=1)
    expected[table.isnan().all(dim=1)] = math.nan
    assert 0 < expected.isnan().sum() < 40
    total = WeightedSum([returns(list(row)) for row in scores], weights)(prompts=["p"] * 40, completions=["c"] * 40)
    assert [one is None for one in total] == expected.isnan().tolist()
    given = torch.tensor([math.nan if one is None else one for one in total], dtype=torch.float64)
    torch.testing.assert_close(given, expected, rtol=1e-14, atol=1e-14, equal_nan=True)


def test_weights_are_one_by_default_and_in_the_name() -> None:
    total = WeightedSum([returns([1.0, 2.0]), returns([10.0, None])])
    assert total(prompts=["p"] * 2, completions=["c"] * 2) == [11.0, 2.0]
    assert WeightedSum([returns([1.0])], [0.25]).__name__ == "0.25*constant"


def test_a_weighted_sum_checks_each_reward() -> None:
    with pytest.raises(ValueError, match="'constant' returned 1 values for 2 rollouts"):
        WeightedSum([returns([1.0, 2.0]), returns([1.0])])(prompts=["p"] * 2, completions=["c"] * 2)


@pytest.mark.parametrize(
    ("count", "weights", "message"),
    [
        (0, None, "at least one"),
        (2, [1.0], "1 reward weights given for 2"),
        (1, [math.nan], "must be finite"),
    ],
)
def test_wrong_weights(count: int, weights: list[float] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WeightedSum([returns([1.0])] * count, weights)
