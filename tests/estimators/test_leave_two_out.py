"""The leave-two-out wrapper against its definition, the estimators it is known to make, and enumerated expectations."""

import math
from typing import Any

import pytest
import torch
from contract_rows import eighths
from test_unbiased import LOGITS, REWARDS, all_tuples, gradient_of_v
from torch import Tensor

from tailgrad.estimators import _groups, advantages_ragged, bind, leave_two_out
from tailgrad.tails import expected_max_normal

ESTIMATORS: list[tuple[str, dict[str, Any]]] = [
    ("max_at_k", {"k": 3, "baseline": "none"}),
    ("max_at_k", {"k": 2, "baseline": "subset"}),
    ("tea", {"deploy_n": 64, "tail_fraction": 0.5}),
    ("grpo", {}),
    ("rs_grpo", {"risk_beta": 1.0, "units": "spread"}),
]


def normal(prompts: int, rollouts: int) -> Tensor:
    return torch.randn(prompts, rollouts, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def by_definition(group: list[float], name: str, options: dict[str, Any]) -> list[float]:
    """Pair by pair, for a group without unscored rollouts."""
    m = len(group)
    without = []
    for j in range(m):
        advantages = bind(name, **options)(torch.tensor([group[:j] + group[j + 1 :]], dtype=torch.float64))[0].tolist()
        without.append([*advantages[:j], 0.0, *advantages[j:]])
    return [sum(without[j][i] - without[i][j] for j in range(m) if j != i) / (m - 1) for i in range(m)]


@pytest.mark.parametrize(("name", "options"), ESTIMATORS)
def test_pair_by_pair(name: str, options: dict[str, Any]) -> None:
    rewards = normal(3, 7)
    rewards[1] = rewards[1].round()
    rewards[2, [0, 4]] = math.nan
    actual = leave_two_out(bind(name, **options))(rewards)
    scored = rewards[2].isfinite()
    expected = [by_definition(group, name, options) for group in rewards[:2].tolist()]
    expected += [by_definition(rewards[2, scored].tolist(), name, options)]
    torch.testing.assert_close(actual[:2], torch.tensor(expected[:2], dtype=torch.float64))
    torch.testing.assert_close(actual[2, scored], torch.tensor(expected[2], dtype=torch.float64) * 7 / 5)
    assert not actual[2, ~scored].any()
    torch.testing.assert_close(actual.sum(1), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("baseline", ["none", "subset", "loo"])
def test_makes_max_at_k_the_leave_one_out_one_whatever_its_baseline(baseline: str) -> None:
    """All three differ by baselines that leave-two-out replaces, where groups of m - 1 have one."""
    rewards = normal(20, 9)
    rewards[3, 2] = math.nan
    for k in range(1, 6):
        actual = leave_two_out(bind("max_at_k", k=k, baseline=baseline))(rewards)
        torch.testing.assert_close(actual, bind("max_at_k", k=k, baseline="loo")(rewards))


def test_turns_rewards_into_rloo() -> None:
    rewards = normal(20, 5)
    torch.testing.assert_close(leave_two_out(lambda table: table)(rewards), bind("rloo")(rewards))
    rewards[0, 0] = math.nan
    assert leave_two_out(lambda table: table)(rewards).isfinite().all()


@pytest.mark.parametrize("k", [1, 2, 4])
def test_is_unbiased_where_the_estimator_is(k: int) -> None:
    """Over all tuples of 5 rollouts: the mean scale stays, whatever the scale of a group of 4."""
    probabilities, tuples = LOGITS.softmax(0), all_tuples(5)
    scores = torch.eye(4, dtype=torch.float64)[tuples] - probabilities
    weights = probabilities[tuples].prod(dim=1)[:, None]
    for baseline in ("none", "subset")[: 1 + (k > 1)]:
        advantages = leave_two_out(bind("max_at_k", k=k, baseline=baseline))(REWARDS[tuples])
        expected = (weights * (advantages[:, :, None] * scores).mean(dim=1)).sum(dim=0)
        torch.testing.assert_close(expected, gradient_of_v(k), rtol=0, atol=1e-12)


def test_keeps_the_bias_of_a_group_that_is_one_smaller() -> None:
    probabilities = LOGITS.softmax(0)
    estimate = bind("tea", deploy_n=64, tail_fraction=0.5)

    def expected(m: int, estimate: Any) -> Tensor:
        tuples = all_tuples(m)
        scores = torch.eye(4, dtype=torch.float64)[tuples] - probabilities
        weights = probabilities[tuples].prod(dim=1)[:, None]
        return (weights * (estimate(REWARDS[tuples])[:, :, None] * scores).mean(dim=1)).sum(dim=0)

    torch.testing.assert_close(expected(6, leave_two_out(estimate)), expected(5, estimate), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "options", "alone", "leaving"),
    [
        ("tea", {"tail_fraction": 1.0}, 2.37, 3.51),
        ("tea", {"tail_fraction": 1.0, "center": True}, 3.64, 3.64),
        ("flat_tea", {}, 3.27, 3.26),
        ("flat_tea", {"tail_fraction": 0.5}, 3.18, 3.21),
    ],
)
def test_what_it_gains_on_gaussian_rewards(name: str, options: dict[str, Any], alone: float, leaving: float) -> None:
    """Expected gradient along that of V_128 over the noise of one group, in units where both scores have variance 1."""
    rewards = normal(20_000, 16)
    scores = torch.stack([rewards, (rewards**2 - 1) / math.sqrt(2)])
    truth = torch.tensor([1.0, expected_max_normal(128) / math.sqrt(2)], dtype=torch.float64)

    def signal(advantages: Tensor) -> float:
        along = (advantages * scores).mean(dim=(1, 2)) @ truth / truth.norm()
        return float(along / (advantages**2).mean().sqrt() * math.sqrt(16))

    estimate = bind(name, deploy_n=128, validate=False, **options)
    assert signal(estimate(rewards)) == pytest.approx(alone, abs=0.006)
    assert signal(leave_two_out(estimate)(rewards)) == pytest.approx(leaving, abs=0.006)


def test_a_large_table_is_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rewards, calls = eighths(10, 8), []

    def estimate(table: Tensor) -> Tensor:
        calls.append(len(table))
        return bind("rloo")(table)

    whole = leave_two_out(estimate)(rewards)
    over_batch = leave_two_out(bind("cat_bon", deploy_n=8))(rewards)
    monkeypatch.setattr(_groups, "_CPU_ENTRIES", 8 * 8 * 4)
    assert torch.equal(leave_two_out(estimate)(rewards), whole)
    assert calls == [80, 32, 32, 16]
    assert torch.equal(leave_two_out(bind("cat_bon", deploy_n=8))(rewards), over_batch), "which sees the whole batch"
    assert over_batch.any()


@pytest.mark.parametrize(("name", "prompts"), [("pass_at_n", 1), ("pass_at_n", 5), ("cat_bon", 5)])
def test_what_looks_at_the_whole_batch_sees_each_prompt_once(name: str, prompts: int) -> None:
    """By definition, with the batch: without one rollout of each prompt at a time. `pass_at_n` fits a prior to it."""
    rewards = torch.rand(prompts, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    rewards = (rewards > 0.6).double() if name == "pass_at_n" else rewards
    estimate, m = bind(name, deploy_n=16), 6
    without = torch.zeros(m, prompts, m, dtype=torch.float64)
    for j in range(m):
        kept = [i for i in range(m) if i != j]
        without[j][:, kept] = estimate(rewards[:, kept])
    expected = [(without[:, :, i].sum(dim=0) - without[i].sum(dim=1)) / (m - 1) for i in range(m)]
    actual = leave_two_out(estimate)(rewards)
    torch.testing.assert_close(actual, torch.stack(expected, dim=1))
    assert actual.any()


def test_dtype_device_and_empty_tables() -> None:
    estimate = leave_two_out(bind("max_at_k", k=2, validate=False))
    assert estimate(eighths(3)).dtype == torch.float32
    assert estimate(torch.ones(2, 4, dtype=torch.int64)).dtype == torch.float32
    assert estimate(torch.zeros(0, 5)).shape == (0, 5)
    assert estimate(torch.zeros(3, 5, device="meta"), validate=False).shape == (3, 5)
    assert not estimate(torch.full((2, 5), math.nan)).any()
    assert torch.equal(estimate(eighths(3) + 1e4), estimate(eighths(3)))


def test_in_a_flat_batch() -> None:
    rewards, ids = normal(1, 9)[0], [0, 0, 0, 0, 1, 1, 1, 2, 2]
    advantages = advantages_ragged(rewards, ids, leave_two_out(bind("max_at_k", k=2)))
    torch.testing.assert_close(advantages[:4], bind("max_at_k", k=2)(rewards[None, :4])[0])
    assert not advantages[7:].any(), "leaving two out of two leaves none"


@pytest.mark.parametrize(
    ("name", "options", "smallest"),
    [
        ("cat_bon", {"deploy_n": 64}, 3),
        ("max_at_k", {"k": 1, "baseline": "none", "validate": False}, 3),
        ("max_at_k", {"k": 4, "baseline": "none"}, 5),
        ("prefix_tea", {"deploy_n": 64}, 13),
    ],
)
def test_in_a_flat_batch_each_group_gets_what_it_gets_alone(name: str, options: dict[str, Any], smallest: int) -> None:
    """Also where all groups are too small, for which the estimator would have no table."""
    estimate, sizes = leave_two_out(bind(name, **options)), (5, 15, 2, 14)
    rewards, ids = normal(1, sum(sizes))[0], torch.repeat_interleave(torch.arange(4), torch.tensor(sizes))
    advantages = advantages_ragged(rewards, ids, estimate)
    for group, size in enumerate(sizes):
        own = rewards[ids == group]
        alone = advantages_ragged(own, [0] * size, estimate)
        torch.testing.assert_close(advantages[ids == group], alone)
        assert bool(alone.any()) == (size >= smallest)
        if size >= 14 and name != "prefix_tea":  # which takes tables of 17 or more
            torch.testing.assert_close(alone, estimate(own[None])[0])


def test_wrong_rewards() -> None:
    estimate = leave_two_out(bind("rloo"))
    with pytest.raises(ValueError, match="needs at least 3 rollouts per group, got 2: use more rollouts"):
        estimate(torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"rewards\[1, 3\] is inf \(prompt 1, rollout 3\)"):
        estimate(torch.tensor([[0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, math.inf]]))
    with pytest.raises(ValueError, match="k = 4 needs at least 4 rollouts per group, got 3"):
        leave_two_out(bind("max_at_k", k=4))(torch.zeros(2, 4))
