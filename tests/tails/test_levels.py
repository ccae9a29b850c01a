"""The chance that a prompt's first responses all stay below a level."""

import math
from itertools import product

import mpmath
import numpy as np
import pytest
import torch

from tailgrad.tails.levels import level_forecast, log_chance_of_none

RATES = torch.tensor([0.0, 0.05, 0.1, 0.4, 0.9])


def chance_of_none(rewards: torch.Tensor, *, trials: tuple[int, ...]) -> np.ndarray:
    return np.exp(log_chance_of_none(rewards, trials=trials))


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


def counted(successes: list[int], trials: int) -> torch.Tensor:
    """Prompts with so many successes each."""
    return (torch.arange(trials) < torch.tensor(successes)[:, None]).double()


def by_definition(successes: list[int], trials: int, more: int) -> tuple[list[float], float]:
    """The forecast of each prompt, and the chance that one more prompt fails so often, in arithmetic that has room."""
    mpmath.mp.dps = 30
    hopeless = [mpmath.mpf(share) for share in (0.0, 0.1, 0.25, 0.5, 0.75, 0.9)]
    total, found, fails = mpmath.mpf(0), [mpmath.mpf(0)] * len(successes), mpmath.mpf(0)
    for a, b in product(2.0 ** np.arange(-6, 6.5, 0.5), 2.0 ** np.arange(-3, 12.5, 0.5)):
        a, b = mpmath.mpf(float(a)), mpmath.mpf(float(b))
        whole = mpmath.beta(a, b)
        seen = [mpmath.beta(a + s, b + trials - s) / whole for s in successes]
        then = [mpmath.beta(a + s, b + trials - s + more) / whole for s in successes]
        new = mpmath.beta(a, b + more) / whole
        for share in hopeless:
            chances = [(s == 0) * share + (1 - share) * one for s, one in zip(successes, seen, strict=True)]
            weight = mpmath.fprod(chances) * (mpmath.mpf(1) / 2 if share == 0 else mpmath.mpf(1) / 10)
            total += weight
            for i, (s, one) in enumerate(zip(successes, then, strict=True)):
                found[i] += weight * ((s == 0) * share + (1 - share) * one) / chances[i]
            fails += weight * (share + (1 - share) * new)
    return [float(1 - one / total) for one in found], float(fails / total)


@pytest.mark.parametrize(("successes", "trials"), [([0, 3, 11], 16), ([0, 300, 590, 600], 600), ([1990, 2000], 2000)])
def test_of_hundreds_of_successes_it_is_what_its_definition_says(successes: list[int], trials: int) -> None:
    """Their chances are below the smallest floating-point number; no prompt is lost for that."""
    rewards, more = counted(successes, trials), 40
    found, fails = by_definition(successes, trials, more)
    forecast = level_forecast(rewards, deploy_n=more)
    assert forecast.per_prompt == pytest.approx(found, rel=1e-9)
    assert chance_of_none(rewards, trials=(more,))[0] == pytest.approx([fails], rel=1e-9)
    assert forecast.low <= forecast.per_prompt.mean() <= forecast.high


@pytest.mark.parametrize("responses", [64, 512, 2048])
def test_a_forecast_is_not_below_what_is_known_however_many_responses_there_are(responses: int) -> None:
    """V_N does not fall with N, and lies in its own interval."""
    generator = torch.Generator().manual_seed(responses)
    rates = torch.rand(64, 1, generator=generator) * (torch.arange(64)[:, None] % 3 > 0)
    rewards = (torch.rand(64, responses, generator=generator) < rates).double()
    forecast = level_forecast(rewards, deploy_n=4 * responses)
    assert not np.isnan(forecast.per_prompt).any()
    assert forecast.per_prompt.mean() >= float(rewards.amax(dim=1).mean()) - 1e-9
    assert forecast.low <= forecast.per_prompt.mean() <= forecast.high
    logs = log_chance_of_none(rewards, trials=(0, 1, responses, 2**20))[0]
    assert np.isfinite(logs).all()
    assert (np.diff(logs) < 0).all()
