"""The stopping rule on hand-made rewards, what it may not see, and what it saves."""

import itertools
import math

import pytest
import torch

from tailgrad.serving.expected_gain import expected_gain, spread_of
from tailgrad.serving.priors import LevelPrior, SpreadPrior, prior_of
from tailgrad.serving.stopping import FixedBudget, StoppingRule
from tailgrad.serving.tail_stopping import TailStopping

PRIOR = SpreadPrior(location=0.0, location_weight=1.0, spread=1.0, spread_weight=8.0)
VERIFIER = prior_of((torch.rand(24, 16, generator=torch.Generator().manual_seed(0)) < 0.15).float())
RULES = [
    TailStopping(price=0.03, most=64),
    TailStopping(price=0.03, most=64, batch=1, first=3, tail="exponential"),
    TailStopping(price=0.03, most=64, batch=3, first=1, prior=PRIOR),
    TailStopping(price=0.01, most=64, first=2, top=1.0),
    TailStopping(price=0.01, most=50, batch=4, first=2, prior=VERIFIER),
]


def drawn_by(rule: StoppingRule, rewards: torch.Tensor) -> list[int]:
    """How many of the rewards are drawn after each batch."""
    counts = [0]
    while more := rule.more(rewards[: counts[-1]]):
        counts.append(counts[-1] + more)
    return counts[1:]


@pytest.mark.parametrize("rule", RULES, ids=range(len(RULES)))
@pytest.mark.parametrize("kind", ["graded", "levels"])
def test_rewards_that_are_not_drawn_change_no_decision(rule: TailStopping, kind: str) -> None:
    generator = torch.Generator().manual_seed(3)
    for _ in range(3):
        rewards = torch.randn(64, generator=generator)
        rewards = rewards if kind == "graded" else (rewards > 1.5).float()
        counts = drawn_by(rule, rewards)
        for place in {0, len(counts) // 2, len(counts) - 1}:
            end = counts[place]
            others = torch.cat([rewards[:end], 1e6 * torch.rand(64 - end, generator=generator)])
            expected = counts if end == counts[-1] else counts[: place + 2]
            assert drawn_by(rule, others)[: len(expected)] == expected


@pytest.mark.parametrize("rule", RULES, ids=range(len(RULES)))
def test_the_order_of_the_drawn_does_not_matter(rule: TailStopping) -> None:
    generator = torch.Generator().manual_seed(0)
    rewards = torch.randn(17, generator=generator)
    for _ in range(3):
        assert rule.more(rewards[torch.randperm(17, generator=generator)]) == rule.more(rewards)


def test_batches_grow_with_what_is_drawn() -> None:
    rewards = torch.randn(64, generator=torch.Generator().manual_seed(0))
    for options, counts in (
        ({}, [8, 12, 16, 20, 25, 31, 38, 47, 58, 64]),
        ({"growth": 0.0, "batch": 20}, [8, 28, 48, 64]),
        ({"growth": 1.0, "first": 3}, [3, 7, 14, 28, 56, 64]),
    ):
        assert drawn_by(TailStopping(price=1e-12, most=64, **options), rewards) == counts


def test_it_stops_where_the_next_batch_is_not_worth_its_price() -> None:
    rewards = torch.randn(12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gain = float(expected_gain(rewards[None], draws=4, prior=PRIOR)) / 4
    assert TailStopping(price=gain * 0.999, most=64, prior=PRIOR).more(rewards) == 4
    assert TailStopping(price=gain * 1.001, most=64, prior=PRIOR).more(rewards) == 0
    own = float(expected_gain(rewards[None], draws=4) / spread_of(rewards[None])) / 4
    assert TailStopping(price=own * 0.999, most=64).more(100 * rewards) == 4
    assert TailStopping(price=own * 1.001, most=64).more(100 * rewards) == 0


def test_an_outlier_stops_and_a_wide_prompt_goes_on() -> None:
    rule = TailStopping(price=0.02, most=64, prior=PRIOR)
    narrow = torch.tensor([0.0, 0.1, -0.1, 0.05, -0.05, 0.1, 0.0, -0.1])
    outlier, wide = torch.cat([narrow, torch.tensor([3.5])]), 20 * narrow
    assert rule.more(outlier) == 0
    assert rule.more(wide) == 4


def test_first_batch_and_most_are_kept() -> None:
    rule = TailStopping(price=1e-9, most=11, batch=4, first=6, prior=PRIOR)
    generator = torch.Generator().manual_seed(0)
    assert drawn_by(rule, torch.randn(11, generator=generator)) == [6, 10, 11]
    assert rule.more(torch.randn(12, generator=generator)) == 0
    assert TailStopping(price=1e-9, most=4, first=6).more(torch.zeros(0)) == 4
    assert drawn_by(FixedBudget(5), torch.zeros(5)) == [5]


def test_unscored_samples_are_paid_for() -> None:
    rule = TailStopping(price=1e-9, most=8, batch=4, first=4, prior=PRIOR)
    assert rule.more(torch.full((4,), math.nan)) == 4
    assert rule.more(torch.full((8,), math.nan)) == 0


def test_a_verifier_stops_at_its_top_and_gives_up_the_sooner_the_more_a_sample_costs() -> None:
    assert isinstance(VERIFIER, LevelPrior)
    for knows in ({"top": 1.0}, {"prior": VERIFIER}):
        ends = []
        for price in (0.002, 0.01, 0.05):
            rule = TailStopping(price=price, most=400, batch=1, first=1, **knows)
            assert rule.more(torch.tensor([0.0, 0.0, 1.0])) == 0
            ends.append(drawn_by(rule, torch.zeros(400))[-1])
        assert 400 >= ends[0] > ends[1] > ends[2] >= 1, knows


def test_equal_rewards_stop() -> None:
    assert TailStopping(price=0.01, most=64).more(torch.full((8,), 0.7)) == 0
    assert TailStopping(price=0.01, most=64, top=0.7).more(torch.full((8,), 0.7)) == 0


def test_it_finds_more_with_the_same_samples() -> None:
    """Prompts of different location and spread: against the same number of samples for all."""
    generator = torch.Generator().manual_seed(0)
    spreads = torch.exp(0.5 * torch.randn(150, 1, generator=generator))
    rewards = spreads * torch.randn(150, 96, generator=generator) + torch.randn(150, 1, generator=generator)
    rule = TailStopping(price=0.025, most=96, batch=2, first=2, prior=prior_of(rewards[:50, :16]))
    counts = [drawn_by(rule, row)[-1] for row in rewards[50:]]
    found = sum(float(row[:count].max()) for row, count in zip(rewards[50:], counts, strict=True)) / 100
    mean = round(sum(counts) / 100)
    assert 8 < mean < 40
    even = torch.stack(
        [rewards[50:, torch.randperm(96, generator=generator)][:, : mean + 1].amax(1) for _ in range(50)]
    )
    assert found > float(even.mean()) + 0.1


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"price": 0.0}, "price"),
        ({"price": math.nan}, "price"),
        ({"most": 0}, "most"),
        ({"batch": 0}, "batch"),
        ({"first": 0}, "first"),
        ({"top": math.nan}, "top"),
        ({"tail": "cauchy"}, "tail"),
    ],
)
def test_what_is_refused(wrong: dict[str, float], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        TailStopping(**({"price": 0.1, "most": 8} | wrong))


def test_rules_compare_and_hash_by_value() -> None:
    assert len(set(itertools.chain(RULES, RULES))) == len(RULES)
