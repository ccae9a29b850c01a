"""What other prompts tell: the numbers that rewards were drawn from are found again."""

import math

import pytest
import torch

from tailgrad.serving.priors import LevelPrior, SpreadPrior, prior_of
from tailgrad.tails.levels import log_chance_of_none


@pytest.mark.parametrize("responses", [8, 16, 48])
def test_the_numbers_of_normal_rewards_are_found_again(responses: int) -> None:
    generator = torch.Generator().manual_seed(responses)
    prompts, weight = 4000, 10.0
    chi2 = torch.randn(prompts, int(weight), generator=generator).square().sum(dim=1, keepdim=True)
    spreads = 2.0 * (weight / chi2).sqrt()
    places = 5.0 + spreads / math.sqrt(1.5) * torch.randn(prompts, 1, generator=generator)
    prior = prior_of(places + spreads * torch.randn(prompts, responses, generator=generator))
    assert isinstance(prior, SpreadPrior)
    assert prior.location == pytest.approx(5.0, abs=0.15)
    assert prior.spread == pytest.approx(2.0, rel=0.03)
    assert prior.spread_weight == pytest.approx(weight, rel=0.2)
    # squared spread over the variance between prompts, which is spread^2 weight / (weight - 2) / 1.5
    assert prior.location_weight == pytest.approx(1.5 * (weight - 2) / weight, rel=0.15)


def test_prompts_that_agree_count_as_no_more_than_24_responses() -> None:
    rewards = torch.randn(400, 32, generator=torch.Generator().manual_seed(0))
    prior = prior_of(rewards)
    assert isinstance(prior, SpreadPrior)
    assert prior.spread_weight == pytest.approx(24.0, rel=1e-6)
    assert prior.location_weight == pytest.approx(24.0, rel=1e-6)


def test_it_moves_and_scales_with_the_rewards() -> None:
    rewards = torch.randn(40, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rewards = rewards * (1 + torch.arange(40)[:, None] / 20) + torch.arange(40)[:, None] / 10
    one, other = prior_of(rewards), prior_of(3 * rewards - 7)
    assert isinstance(one, SpreadPrior)
    assert isinstance(other, SpreadPrior)
    assert other.location == pytest.approx(3 * one.location - 7)
    assert other.spread == pytest.approx(3 * one.spread)
    assert other.spread_weight == pytest.approx(one.spread_weight, rel=1e-6)


def test_rewards_of_few_values_give_levels() -> None:
    rewards = torch.tensor([[0.0, 0.0, 1.0, math.nan], [0.0, 0.5, 0.0, 0.0]])
    prior = prior_of(rewards)
    assert isinstance(prior, LevelPrior)
    assert prior.levels == (0.0, 0.5, 1.0)
    assert prior.spread == 1.0
    assert all(abs(row[0]) < 1e-12 and list(row) == sorted(row, reverse=True) for row in prior.none)


def test_a_few_graded_rewards_are_no_levels() -> None:
    assert isinstance(prior_of(torch.tensor([[0.0, 1.0, 2.5, 0.7], [0.2, 1.2, 3.0, 0.4]])), SpreadPrior)


def test_a_level_that_comes_rarely_is_waited_for_longer() -> None:
    generator = torch.Generator().manual_seed(0)
    rewards = torch.stack([(torch.rand(16, generator=generator) < chance).float() for chance in (0.05, 0.1, 0.6, 0.9)])
    none = log_chance_of_none(rewards, trials=(0, 1, 8, 64))[0]
    assert none[0] == pytest.approx(0.0, abs=1e-12)
    assert (none[:-1] > none[1:]).all()
    often = log_chance_of_none((rewards + 1).clamp(max=1) * (torch.arange(16) % 4 > 0), trials=(0, 1, 8, 64))[0]
    assert (often[1:] < none[1:]).all()


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="two prompts"):
        prior_of(torch.tensor([[1.0, 2.0, 3.0] * 5]) + torch.rand(1, 15))
