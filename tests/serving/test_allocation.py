"""A fixed number of samples over prompts: against every division there is."""

import itertools
import math

import pytest
import torch

from tailgrad.serving.allocation import allocate
from tailgrad.serving.expected_gain import expected_gain
from tailgrad.serving.priors import SpreadPrior, prior_of

PRIOR = SpreadPrior(location=0.0, location_weight=1.0, spread=1.0, spread_weight=8.0)


def best_division(rewards: torch.Tensor, samples: int, batch: int, prior: object) -> float:
    """The largest sum of expected gains over all divisions of the samples into batches."""
    gains = [torch.zeros(len(rewards), dtype=torch.float64)]
    gains += [expected_gain(rewards, draws=k, prior=prior) for k in range(1, samples + 1)]
    every = itertools.product(range(0, samples + 1, batch), repeat=len(rewards))
    return max(sum(float(gains[k][prompt]) for prompt, k in enumerate(one)) for one in every if sum(one) == samples)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("seed", range(5))
def test_no_division_is_expected_to_gain_more(seed: int, batch: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rewards = torch.randn(4, 5, generator=generator) * (0.3 + 2 * torch.rand(4, 1, generator=generator))
    given = allocate(rewards, samples=8, batch=batch, prior=PRIOR)
    assert int(given.sum()) == 8
    assert (given % batch == 0).all()
    gain = sum(
        float(expected_gain(rewards[p : p + 1], draws=int(k), prior=PRIOR)) for p, k in enumerate(given) if int(k)
    )
    assert gain == pytest.approx(best_division(rewards, 8, batch, PRIOR))


def test_of_a_verifier_the_prompts_that_have_failed_less_often_come_first() -> None:
    table = (
        torch.rand(20, 16, generator=torch.Generator().manual_seed(0)) < torch.linspace(0, 0.6, 20)[:, None]
    ).float()
    rewards = torch.zeros(3, 12)
    rewards[0, 4:] = math.nan
    rewards[2, 5] = 1.0
    given = allocate(rewards, samples=6, prior=prior_of(table))
    assert given[0] > given[1]
    assert given[2] == 0
    assert int(given.sum()) == 6


def test_prompts_are_each_others_prior() -> None:
    generator = torch.Generator().manual_seed(0)
    rewards = torch.randn(12, 6, generator=generator)
    assert torch.equal(allocate(rewards, samples=30), allocate(rewards, samples=30, prior=prior_of(rewards)))


def test_nothing_is_given_where_nothing_is_to_gain() -> None:
    assert allocate(torch.ones(2, 6), samples=5).tolist() == [0, 0]
    assert allocate(torch.ones(2, 6), samples=0).tolist() == [0, 0]


def test_what_is_not_known_is_shared_evenly() -> None:
    rewards = torch.full((3, 2), math.nan)
    assert allocate(rewards, samples=6, prior=PRIOR).tolist() == [2, 2, 2]


def test_the_last_batch_is_smaller() -> None:
    rewards = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    assert int(allocate(rewards, samples=7, batch=4, prior=PRIOR).sum()) == 7


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="samples"):
        allocate(torch.ones(2, 6), samples=-1)
    with pytest.raises(ValueError, match="batch"):
        allocate(torch.ones(2, 6), samples=1, batch=0)
