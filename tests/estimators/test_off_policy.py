"""Rollouts of an older policy: the expected gradient must be that at the policy now.

For `max_at_k` all groups that a small behaviour policy can draw are enumerated. The forms whose weights are shares in
the group's ratios hold as groups grow: they are compared with a closed form, beside what ignoring the ratios gives.
"""

import math
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tailgrad.estimators import flat_tea, max_at_k, tea
from tailgrad.tails import expected_max_normal, extrapolation_coefficient

# Two of the four responses have equal rewards.
REWARDS = torch.tensor([0.3, -1.0, 2.0, 0.3], dtype=torch.float64)
OLD = torch.tensor([0.5, 0.1, -0.9, 0.0], dtype=torch.float64).softmax(0)
LOGITS = torch.tensor([0.1, -0.4, -0.2, 0.7], dtype=torch.float64)


def weighted_forecast(rewards: np.ndarray, weights: np.ndarray, deploy_n: float, alpha: float) -> float:
    """mu + ctilde sigma of the top alpha of the mass, an atom at the edge split."""
    order = np.argsort(-rewards, kind="stable")
    before = np.cumsum(weights[order]) - weights[order]
    mass = np.clip(alpha - before, 0, weights[order]) / alpha
    mean = (mass * rewards[order]).sum()
    std = math.sqrt((mass * (rewards[order] - mean) ** 2).sum())
    return mean + extrapolation_coefficient(deploy_n, alpha) * std


def gradient_of_v(k: int) -> Tensor:
    """Exact gradient of E[max of k] in the logits of the policy now."""
    logits = LOGITS.clone().requires_grad_()
    tuples = torch.tensor(list(product(range(4), repeat=k)))
    value = (logits.softmax(0)[tuples].prod(dim=1) * REWARDS[tuples].amax(dim=1)).sum()
    return torch.autograd.grad(value, logits)[0]


def expected_gradient(m: int, k: int, baseline: str, *, corrected: bool) -> Tensor:
    """Expectation over all groups of the old policy of (1/m) sum_i ratio_i A_i grad log pi(y_i)."""
    now = LOGITS.softmax(0)
    tuples = torch.tensor(list(product(range(4), repeat=m)))
    ratios = (now / OLD)[tuples]
    advantages = max_at_k(REWARDS[tuples], ratios if corrected else None, k=k, baseline=baseline)
    scores = torch.eye(4, dtype=torch.float64)[tuples] - now
    estimates = ((ratios * advantages)[:, :, None] * scores).mean(dim=1)
    return (OLD[tuples].prod(dim=1)[:, None] * estimates).sum(dim=0)


@pytest.mark.parametrize("baseline", ["subset", "loo", "none"])
@pytest.mark.parametrize("m", [3, 4, 5])
def test_max_at_k_is_unbiased_at_the_policy_now(m: int, baseline: str) -> None:
    for k in range(1, m + (baseline != "loo")):
        if k == m and (baseline == "loo" or k == 1):
            continue
        expected = expected_gradient(m, k, baseline, corrected=True)
        torch.testing.assert_close(expected, gradient_of_v(k), rtol=0, atol=1e-13)
        if k > 1:  # with the ratio of the rollout itself alone, the loss's own, it is not
            uncorrected = expected_gradient(m, k, baseline, corrected=False)
            assert (uncorrected - gradient_of_v(k)).abs().max() > 0.05 * gradient_of_v(k).abs().max()


@pytest.mark.parametrize("m", [2, 5, 7])
def test_max_at_k_subset_by_subset(m: int) -> None:
    rng = np.random.default_rng(m)
    rewards, ratios = rng.normal(5, 1, m), rng.lognormal(0, 1, m)
    for k in range(2, m + 1):
        expected = [
            sum(
                math.prod(ratios[j] for j in others) * max(0.0, rewards[i] - max(rewards[j] for j in others))
                for others in combinations([j for j in range(m) if j != i], k - 1)
            )
            * m
            / math.comb(m, k)
            for i in range(m)
        ]
        table = torch.from_numpy(rewards)[None], torch.from_numpy(ratios)[None]
        actual = max_at_k(*table, k=k, baseline="subset")
        torch.testing.assert_close(actual, torch.tensor([expected]), rtol=1e-11, atol=1e-12)


def test_max_at_k_with_ratios_of_one_is_as_without_them_bit_for_bit() -> None:
    rewards = torch.randn(20, 16, generator=torch.Generator().manual_seed(0))
    for k, baseline in ((4, "subset"), (4, "loo"), (3, "none"), (1, "loo"), (16, "subset")):
        plain = max_at_k(rewards, k=k, baseline=baseline)
        assert torch.equal(max_at_k(rewards, torch.ones(20, 16), k=k, baseline=baseline), plain)


@pytest.mark.parametrize(("m", "alpha"), [(8, 0.25), (16, 0.25), (12, 0.5), (6, 1.0)])
def test_tea_is_the_weight_derivative_of_the_forecast_at_the_ratios(m: int, alpha: float) -> None:
    rng = np.random.default_rng(m)
    rewards, ratios = rng.normal(3.0, 2.0, m), rng.lognormal(0, 0.5, m)
    table = torch.from_numpy(rewards)[None], torch.from_numpy(ratios)[None]
    advantages = tea(*table, deploy_n=64, tail_fraction=alpha)[0]
    weights = ratios / ratios.sum()

    def slope(rollout: int, step: float) -> float:
        moved = weights + step * (np.arange(m) == rollout)
        return (weighted_forecast(rewards, moved, 64, alpha) - weighted_forecast(rewards, weights, 64, alpha)) / step

    for rollout in range(m):
        derivative = 2 * slope(rollout, 1e-6) - slope(rollout, 2e-6)  # the error of order step cancels
        assert advantages[rollout].item() == pytest.approx(derivative, abs=1e-5)


@pytest.mark.parametrize("m", [9, 14, 20, 22, 31])
def test_with_equal_ratios_tea_and_its_flat_form_are_as_without_them(m: int) -> None:
    """Also with ties, unscored rollouts, alpha m not whole; and the scale of the ratios does not matter."""
    rewards = torch.randn(6, m, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rewards[1], rewards[2, [0, 7, 8]], rewards[3, 2:], rewards[4] = rewards[1].round(), math.nan, math.nan, math.nan
    for estimate, options in (
        *((tea, {}), (tea, {"tail_fraction": 0.5}), (tea, {"tail_fraction": 1.0, "center": True})),
        *((flat_tea, {}), (flat_tea, {"tail_fraction": 0.3}), (flat_tea, {"extrapolate_n": 1})),
    ):
        plain = estimate(rewards, deploy_n=64, **options)
        torch.testing.assert_close(estimate(rewards, torch.full_like(rewards, 0.3), deploy_n=64, **options), plain)


def test_flat_tea_by_its_formula() -> None:
    """The whole group: mean, standard deviation and centring with the shares in the ratios."""
    rng = np.random.default_rng(0)
    rewards, ratios = rng.normal(5, 2, 12), rng.lognormal(0, 0.5, 12)
    weights, c = ratios / ratios.sum(), expected_max_normal(128)
    mean = (weights * rewards).sum()
    std = math.sqrt((weights * (rewards - mean) ** 2).sum())
    z = np.maximum((rewards - mean) / std, -1 / c)
    influence = std * (z + c / 2 * z**2)
    advantages = flat_tea(torch.from_numpy(rewards)[None], torch.from_numpy(ratios)[None], deploy_n=128)
    torch.testing.assert_close(advantages, torch.from_numpy(influence - (weights * influence).sum())[None])


@pytest.mark.parametrize(("estimate", "options"), [(tea, {"center": True}), (flat_tea, {})])
def test_centring_is_by_the_ratios(estimate: Any, options: dict[str, Any]) -> None:
    rewards, ratios = drawn_by_another(16, 4, 0.3)
    advantages = estimate(rewards, ratios, deploy_n=64, tail_fraction=0.5, **options)
    assert bool(advantages.any(dim=1).all())
    torch.testing.assert_close(
        (ratios * advantages).sum(dim=1), torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-12
    )


def drawn_by_another(m: int, groups: int, shift: float) -> tuple[Tensor, Tensor]:
    """Rewards N(0, 1) of the old policy, N(shift, 1) of the policy now; ratios that tell them apart, with a noise."""
    generator = torch.Generator().manual_seed(m)
    rewards, other = torch.randn(2, groups, m, dtype=torch.float64, generator=generator)
    return rewards, (shift * rewards - shift**2 / 2 + 0.2 * other - 0.02).exp()


@pytest.mark.parametrize("alpha", [0.25, 1.0])
def test_teas_bias_at_the_policy_now_falls_as_groups_grow(alpha: float) -> None:
    """Of the derivative in the mean, which is 1: about a quarter from m to 4 m; without ratios it grows past 1.7."""
    biases = []
    for m, groups in ((64, 20_000), (256, 8_000), (1024, 2_000)):
        rewards, ratios = drawn_by_another(m, groups, 0.3)
        scores = ratios * (rewards - 0.3)
        advantages = tea(rewards, ratios, deploy_n=128, tail_fraction=alpha, center=True, validate=False)
        biases.append(abs((advantages * scores).mean().item() - 1))
    assert biases[0] > 2 * biases[1] > 4 * biases[2] or biases[2] < 0.015
    assert biases[2] < 0.06
    uncorrected = tea(rewards, deploy_n=128, tail_fraction=alpha, center=True, validate=False)
    assert (uncorrected * scores).mean().item() > 1.7


ROWS = [
    (max_at_k, {"k": 4}),
    (max_at_k, {"k": 4, "baseline": "loo"}),
    (tea, {"deploy_n": 128}),
    (tea, {"deploy_n": 128, "tail_fraction": 1.0, "center": True}),
    (flat_tea, {"deploy_n": 128}),
]
every_row = pytest.mark.parametrize(("estimate", "options"), ROWS)


@every_row
def test_unscored_rollouts_are_left_out_whatever_their_ratio(estimate: Any, options: dict[str, Any]) -> None:
    rewards, ratios = drawn_by_another(16, 3, 0.5)
    rewards[1, [2, 3, 11]] = math.nan
    rewards[2] = math.nan
    ratios[1, 2], ratios[1, 3] = math.nan, math.inf
    advantages, scored = estimate(rewards, ratios, **options), ~torch.isnan(rewards[1])
    alone = estimate(rewards[1:2, scored], ratios[1:2, scored], **options)
    torch.testing.assert_close(advantages[1:2, scored], alone * 16 / 13)
    assert not advantages[1, ~scored].any()
    assert not advantages[2].any()


@every_row
def test_offsets_order_and_device(estimate: Any, options: dict[str, Any]) -> None:
    rewards, ratios = drawn_by_another(16, 8, 0.5)
    rewards = (rewards * 512).round() / 512
    advantages = estimate(rewards, ratios, **options)
    assert torch.equal(estimate(rewards + 1e4, ratios, **options), advantages)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(estimate(rewards[:, order], ratios[:, order], **options), advantages[:, order])
    on_meta = torch.zeros(3, 16, device="meta")  # reading a value there, which would wait for a GPU, is an error
    assert estimate(on_meta, on_meta, **options, validate=False).shape == (3, 16)
    assert torch.equal(estimate(rewards, ratios, **options, validate=False), advantages)


@every_row
@pytest.mark.usefixtures("without_shape_checks")
def test_ratios_that_are_none_are_refused(estimate: Any, options: dict[str, Any]) -> None:
    rewards, ratios = drawn_by_another(16, 3, 0.5)
    for wrong in (math.nan, math.inf, -0.1):
        ratios[2, 5] = wrong
        with pytest.raises(
            ValueError, match=rf"ratios\[2, 5\] is {wrong} \(prompt 2, rollout 5\): ratios must be finite"
        ):
            estimate(rewards, ratios, **options)
    with pytest.raises(ValueError, match=r"ratios must have the shape of the rewards, \(3, 16\), got \(3, 15\)"):
        estimate(rewards, ratios[:, 1:], **options)


def test_a_rollout_with_all_the_mass_leaves_no_tail() -> None:
    rewards, ratios = torch.tensor([[0.0, 1.0, 2.0, 3.0]]), torch.tensor([[0.0, 0.0, 0.0, 2.0]])
    assert not tea(rewards, ratios, deploy_n=64, tail_fraction=0.5).any()
    assert not tea(rewards, 0 * ratios, deploy_n=64, tail_fraction=0.5, center=True).any()
