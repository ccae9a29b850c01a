"""The chance that a prompt's first responses all stay below a level."""

import math

import numpy as np
import pytest
import torch

from tailgrad.tails.levels import chance_of_none, level_forecast

RATES = torch.tensor([0.0, 0.05, 0.1, 0.4, 0.9])


def verifier(seed: int, responses: int = 20) -> torch.Tensor:
    return (torch.rand(5, responses, generator=torch.Generator().manual_seed(seed)) < RATES[:, None]).float()


@pytest.mark.parametrize(("seen", "draws"), [(1, 1), (4, 16), (30, 200)])
def test_what_comes_after_failures_is_the_forecast_of_a_prompt_that_failed(seen: int, draws: int) -> None:
    known = verifier(seen)
    with_one_more = torch.full((6, max(20, seen)), math.nan)
    with_one_more[:5, :20], with_one_more[5, :seen] = known, 0.0
    before, after = chance_of_none(known, trials=(seen, seen + draws))[0]
    assert 1 - after / before == pytest.approx(level_forecast(with_one_more, deploy_n=draws).per_prompt[5], rel=1e-9)


def test_of_rates_that_are_uniform_over_prompts() -> None:
    """The chance that n responses all fail is then the integral of (1 - p)^n, 1 / (n + 1)."""
    generator = torch.Generator().manual_seed(0)
    many = (torch.rand(400, 64, generator=generator) < torch.rand(400, 1, generator=generator)).float()
    none = chance_of_none(many, trials=(0, 1, 2, 9))[0]
    assert none == pytest.approx([1.0, 1 / 2, 1 / 3, 1 / 10], abs=0.025)


def test_every_level_has_its_row_and_unscored_rewards_do_not_count() -> None:
    levels = torch.tensor([0.0, 0.25, 1.0])[torch.randint(3, (6, 12), generator=torch.Generator().manual_seed(0))]
    both = chance_of_none(levels, trials=(1, 8))
    for row, level in zip(both, (0.25, 1.0), strict=True):
        assert row == pytest.approx(chance_of_none((levels >= level).float(), trials=(1, 8))[0])
    padded = torch.cat([levels, torch.full((6, 3), math.nan)], dim=1)
    assert np.array_equal(chance_of_none(padded, trials=(1, 8)), both)


def test_what_is_refused() -> None:
    for graded in (torch.zeros(3, 4), torch.rand(3, 14)):
        with pytest.raises(ValueError, match="2 to 10 values"):
            chance_of_none(graded, trials=(1,))
