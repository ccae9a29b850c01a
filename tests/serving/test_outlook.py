"""What an answer tells of its rewards' tail, against closed forms, the rule that stopped, and known distributions."""

import math
from itertools import pairwise

import pytest
import torch

from tailgrad.serving.best import Best, Candidate
from tailgrad.serving.expected_gain import expected_gain
from tailgrad.serving.outlook import outlook
from tailgrad.serving.priors import SpreadPrior
from tailgrad.serving.stopping import FixedBudget
from tailgrad.serving.tail_stopping import TailStopping

PRIOR = SpreadPrior(location=0.0, location_weight=1.0, spread=1.0, spread_weight=8.0)


def best_of(rewards: list[float | None], failed: int = 0) -> Best:
    candidates = tuple(Candidate("text", reward, True, 1) for reward in rewards)
    winner = max((one for one in candidates if one.reward is not None), key=lambda one: one.reward or 0.0)
    return Best(winner, candidates, asked=len(rewards) + failed)


def test_the_tail_of_few_rewards_is_their_own_normal_distribution() -> None:
    found = outlook(best_of([1.0, None, 2.0, 4.0, 5.0], failed=2), FixedBudget(7))
    assert found["tail"] == pytest.approx({"location": 3.0, "scale": math.sqrt(10 / 3), "threshold": 1.0}, rel=1e-12)
    assert found["next_batch"] is None


def test_the_tail_of_many_is_that_which_they_come_from() -> None:
    rewards = 5 + 2 * torch.randn(40_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = outlook(best_of(rewards.tolist()), FixedBudget(40_000))
    # A quarter is fitted: 10,000 rewards with 0.55 degrees of freedom each, and four standard errors.
    assert found["tail"]["location"] == pytest.approx(5.0, abs=4 * 2 * 1.27 / math.sqrt(2 * 0.55 * 10_000))
    assert found["tail"]["scale"] == pytest.approx(2.0, abs=4 * 2 / math.sqrt(2 * 0.55 * 10_000))
    assert found["tail"]["threshold"] == sorted(rewards.tolist())[-10_000]


@pytest.mark.parametrize("rule", [FixedBudget(24), TailStopping(price=0.03, most=24, prior=PRIOR)])
def test_the_expected_best_begins_at_the_best_and_adds_the_expected_gains(rule: FixedBudget | TailStopping) -> None:
    rewards = torch.randn(24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    pairs = outlook(best_of(rewards.tolist()), rule)["expected_best"]
    assert pairs[0] == (24, float(rewards.max()))
    assert pairs[-1][0] == 96
    assert all(earlier[0] < later[0] and earlier[1] < later[1] for earlier, later in pairwise(pairs))
    prior = rule.prior if isinstance(rule, TailStopping) else None
    for n, best in pairs[1:]:
        assert best - pairs[0][1] == pytest.approx(float(expected_gain(rewards[None], draws=n - 24, prior=prior)))


@pytest.mark.parametrize("failed", [0, 3])
def test_what_was_weighed_last_is_why_the_rule_stopped(failed: int) -> None:
    rule = TailStopping(price=0.05, most=256, prior=PRIOR)
    rewards = torch.randn(256, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    rewards[:failed] = math.nan
    drawn = 0
    while more := rule.more(rewards[:drawn]):
        drawn += more
    assert failed < drawn < 256
    weighed = outlook(best_of(rewards[failed:drawn].tolist(), failed), rule)["next_batch"]
    assert weighed["expected_gain"] <= weighed["price"] == pytest.approx(4 * 0.05)  # four samples, spreads of one
    before = rule.weigh(rewards[: drawn - 4])
    assert before is not None
    assert before.expected_gain > before.price
    assert rule.weigh(rewards) is None  # the most are drawn


@pytest.mark.parametrize(
    "rewards", [[2.0], [1.0, 2.0], [3.0] * 8, [0.0, 1.0, 1.0, 0.0, 1.0, 0.0], [*range(24), *[24.0] * 16]]
)
def test_few_values_and_a_top_of_one_value_have_no_tail(rewards: list[float | None]) -> None:
    found = outlook(best_of(rewards), FixedBudget(len(rewards)))
    assert found["tail"] is None
    if len(rewards) < 3:
        assert found["expected_best"] == []  # nothing is known yet
    else:
        assert found["expected_best"][-1][1] >= max(reward or 0.0 for reward in rewards)


def test_no_number_is_one_that_json_lacks() -> None:
    for rule in (FixedBudget(4), TailStopping(price=0.03, most=64)):
        for rewards in ([1.0], [None, 1.0], [1.0, 1.0, 1.0], [1.0, 2.0, 3.0, None]):
            found = outlook(best_of(rewards, failed=1), rule)
            numbers = [value for pair in found["expected_best"] for value in pair]
            numbers += [value for part in ("tail", "next_batch") for value in (found[part] or {}).values()]
            assert all(map(math.isfinite, numbers))
