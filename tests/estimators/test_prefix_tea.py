import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.linalg import null_space

from tailgrad.estimators import prefix_tea, smallest_group, tea
from tailgrad.estimators._prefixes import default_prefix_sizes, jackknife_weights, prefix_plan
from tailgrad.estimators.prefix_tea import _distances, _positions, _sum_over_shifts
from tailgrad.tails import extrapolation_coefficient
from tailgrad.tails.shapes import tail_shape
from tailgrad.tails.statistics import tail_size


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((16, 32, 48, 64), (-0.4872, 0.2821, 0.5385, 0.6667)),
        ((8, 12, 16), (-1.2143, 0.6429, 1.5714)),
    ],
)
def test_reference_weights(sizes: tuple[int, ...], expected: tuple[float, ...]) -> None:
    np.testing.assert_allclose(jackknife_weights(sizes, 2), expected, atol=5e-5)


@pytest.mark.parametrize("sizes", [(8, 12, 16), (16, 32, 48, 64), (6, 10, 13, 16, 20), (512, 768, 1024)])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_weights_by_algebra(sizes: tuple[int, ...], order: int) -> None:
    """They give 1 on constants, 0 on n^-1 .. n^-(order-1), and nothing shorter does."""
    weights = [Fraction(w) for w in jackknife_weights(sizes, order)]
    for power in range(order):
        total = sum(w * Fraction(sizes[-1], n) ** power for w, n in zip(weights, sizes, strict=True))
        assert float(total) == pytest.approx(1.0 if power == 0 else 0.0, abs=1e-11)
    if order < len(sizes):
        left_over = sum(w * Fraction(sizes[-1], n) ** order for w, n in zip(weights, sizes, strict=True))
        assert abs(float(left_over)) > 1e-3
    constraints = np.array([[n**-power for n in sizes] for power in np.arange(float(order))])
    shorter = null_space(constraints / constraints.max(axis=1, keepdims=True)).T @ jackknife_weights(sizes, order)
    np.testing.assert_allclose(shorter, 0, atol=1e-11)


@pytest.mark.parametrize(
    ("m", "alpha", "prefixes", "expected"),
    [
        (16, 0.25, 4, (8, 12, 16)),
        (32, 0.25, 4, (8, 16, 24, 32)),
        (64, 0.25, 4, (16, 32, 48, 64)),
        (128, 0.25, 4, (32, 64, 96, 128)),
        (256, 0.25, 4, (64, 128, 192, 256)),
        (67, 0.25, 4, (16, 32, 48, 64)),
        (64, 0.25, 2, (32, 64)),
        (64, 0.25, 1, (64,)),
        (8, 0.25, 4, (8,)),
        (7, 0.25, 4, ()),
        (20, 0.3, 4, (6, 10, 16, 20)),
        (6, 1.0, 4, (2, 3, 5, 6)),
    ],
)
def test_default_sizes(m: int, alpha: float, prefixes: int, expected: tuple[int, ...]) -> None:
    sizes = default_prefix_sizes(m, tail_fraction=alpha, num_prefixes=prefixes)
    assert sizes == expected
    for size in sizes:  # one rollout more would put one more in the tail
        assert tail_size(size + 1, alpha) == tail_size(size, alpha) + 1


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.25, 0.3, 1 / 3, 0.7, 1.0])
@pytest.mark.parametrize("evaluation", ["in_sample", "held_out"])
def test_the_last_size_is_the_largest_that_fits(alpha: float, evaluation: str) -> None:
    least = 2 if evaluation == "in_sample" else 8
    for m in range(2, 200):
        longest = m if evaluation == "in_sample" else m - 1
        whole = [n for n in range(1, longest + 1) if tail_size(n + 1, alpha) > tail_size(n, alpha) >= least]
        sizes = default_prefix_sizes(m, tail_fraction=alpha, num_prefixes=4, evaluation=evaluation)
        assert sizes[-1:] == tuple(whole[-1:])
        assert len(sizes) == min(4, len(whole))
        assert set(sizes) <= set(whole)


def one_shift(group: torch.Tensor, sizes: tuple[int, ...], order: int, evaluation: str, tail: str) -> torch.Tensor:
    """The definition, one prefix at a time, for N = 128 and alpha = 0.25."""
    m = len(group)
    total = torch.zeros(m, dtype=torch.float64)
    for n, weight in zip(sizes, jackknife_weights(sizes, order), strict=True):
        if evaluation == "in_sample":
            total[:n] += weight * m / n * tea(group[None, :n], deploy_n=128, tail=tail)[0]
            continue
        top, k = group[:n].topk(n // 4).values, n // 4
        if tail == "gaussian":
            slope = extrapolation_coefficient(128, 0.25) / (2 * top.std(correction=0))
            curve = slope * ((group - top.mean()) ** 2 - (top.min() - top.mean()) ** 2)
            influence = 4 * (group - top.min() + curve)
        else:
            s, extrapolation = (top - top.min()).sum() / (k - 1), harmonic(128) - harmonic(n) + harmonic(k - 1)
            trigamma = math.pi**2 / 6 - sum(j**-2 for j in range(1, k))
            influence = extrapolation * (group - top.min() - s) * n / (k - 1) + s * n * trigamma
        total[n:] += weight * m / (m - n) * ((group > top.min()) * influence)[n:]
    return total


def harmonic(n: int) -> float:
    return sum(1 / j for j in range(1, n + 1))


@pytest.mark.parametrize("tail", ["gaussian", "exponential"])
@pytest.mark.parametrize(
    ("m", "sizes", "order", "evaluation"),
    [
        (16, (8, 12, 16), 2, "in_sample"),
        (17, (8, 12, 16), 3, "in_sample"),
        (24, (12, 24), 2, "in_sample"),
        (48, (32, 36, 40, 44), 2, "held_out"),
    ],
)
def test_against_the_definition(m: int, sizes: tuple[int, ...], order: int, evaluation: str, tail: str) -> None:
    rewards = randn(3, m)
    expected = torch.zeros_like(rewards)
    for shift in range(m):
        rolled = rewards.roll(-shift, dims=1)
        results = torch.stack([one_shift(group, sizes, order, evaluation, tail) for group in rolled])
        expected += results.roll(shift, dims=1) / m
    options = {"order": order, "num_prefixes": len(sizes), "evaluation": evaluation, "tail": tail}
    torch.testing.assert_close(prefix_tea(rewards, deploy_n=128, **options), expected)


@pytest.mark.parametrize("evaluation", ["in_sample", "held_out"])
@pytest.mark.parametrize("m", [10_922, 10_923, 16_384, 33_000])
def test_a_few_shifts_of_a_group_too_large_for_short_integers(m: int, evaluation: str) -> None:
    """From 10,923 rollouts on the counters are wider. Each shift is taken alone, with the scored rollouts in a row."""
    group = randn(m)
    group[::7] = math.nan
    scored = group[~torch.isnan(group)]
    n, sizes, weights = len(scored), (m // 2 // 4 * 4, m * 3 // 4 // 4 * 4), (-0.5, 1.5)
    shifts = torch.tensor([0, 1, n // 3, n // 2 + 1, n - 1, n, m - 1])  # the last two are none of n scored rollouts
    positions = _positions(~torch.isnan(group)[None])
    short = positions.dtype
    assert short == (torch.int16 if m < 10_923 else torch.int32)
    descending, order = group.nan_to_num(nan=-math.inf)[None].sort(dim=1, descending=True)
    behind, used = _distances(positions.gather(1, order), torch.tensor([[n]], dtype=short), shifts.to(short))
    evaluated = sizes if evaluation == "in_sample" else [n - size for size in sizes]
    factors = n * torch.tensor([weights], dtype=torch.float64) / torch.tensor([evaluated])
    tables = (descending.nan_to_num(neginf=0.0), behind, used, torch.tensor([sizes]), factors)
    shape, coefficient = tail_shape("gaussian"), extrapolation_coefficient(128, 0.25)
    options = {"shape": shape, "tail_fraction": 0.25, "evaluation": evaluation}
    found = _sum_over_shifts(*tables, torch.tensor([coefficient], dtype=torch.float64), **options)
    found = torch.zeros_like(found).scatter(1, order, found)[0]

    expected = torch.zeros(n, dtype=torch.float64)
    for shift in shifts[:5].tolist():
        rolled = scored.roll(-shift)
        for size, weight in zip(sizes, weights, strict=True):
            top = rolled[:size].topk(size // 4).values
            slope = coefficient / (2 * top.std(correction=0))
            curve = slope * ((rolled - top.mean()) ** 2 - (top.min() - top.mean()) ** 2)
            influence = 4 * (rolled - top.min() + curve) * (rolled > top.min())
            inside = torch.arange(n) < size
            share = inside / size if evaluation == "in_sample" else ~inside / (n - size)
            expected += (weight * n * share * influence).roll(shift)
    torch.testing.assert_close(found[~torch.isnan(group)], expected)
    assert not found[torch.isnan(group)].any()


def test_shifts_in_parts_give_what_they_give_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rewards = randn(3, 16)
    rewards[0, [2, 7]] = math.nan
    at_once = prefix_tea(rewards, deploy_n=128)
    monkeypatch.setattr("tailgrad.estimators._groups._CPU_ENTRIES", 50)  # three shifts of 16 rollouts
    torch.testing.assert_close(prefix_tea(rewards, deploy_n=128), at_once, rtol=1e-12, atol=1e-12)


def test_order_one_with_the_whole_group_is_tea() -> None:
    rewards = randn(3, 16)
    whole = prefix_tea(rewards, deploy_n=128, order=1, num_prefixes=1)
    torch.testing.assert_close(whole, tea(rewards, deploy_n=128))
    whole = prefix_tea(rewards, deploy_n=128, order=1, num_prefixes=1, tail="exponential")
    torch.testing.assert_close(whole, tea(rewards, deploy_n=128, tail="exponential"))


def test_a_group_with_unscored_rollouts_takes_the_sizes_of_those_that_are_scored() -> None:
    rewards = randn(2, 16)
    rewards[0, [2, 7]] = math.nan
    rewards[1, 3:9] = math.nan
    advantages = prefix_tea(rewards, deploy_n=128)
    scored = ~torch.isnan(rewards[0])
    torch.testing.assert_close(advantages[0, scored], prefix_tea(rewards[0, scored][None], deploy_n=128)[0] * 16 / 14)
    assert bool((advantages[1] == 0).all()), "ten scored rollouts leave one size, order 2 needs two"


def test_a_prefix_of_equal_rewards_is_no_signal_for_the_rollouts_outside_it() -> None:
    """The mean of equal rewards may round, but sigma must be exactly 0, or those outside would get 1e16."""
    rewards = torch.full((1, 48), 0.3, dtype=torch.float64)
    rewards[0, 0] = 3.0
    for evaluation in ("in_sample", "held_out"):
        advantages = prefix_tea(rewards, deploy_n=128, evaluation=evaluation)
        assert bool((advantages[0, 1:] == 0).all())
        assert (advantages[0, 0] == 0) == (evaluation == "held_out")


def test_one_budget_a_prompt() -> None:
    rewards = randn(2, 16)
    expected = torch.cat([prefix_tea(rewards[:1], deploy_n=64), prefix_tea(rewards[1:], deploy_n=512)])
    torch.testing.assert_close(prefix_tea(rewards, deploy_n=torch.tensor([64, 512])), expected)


@pytest.mark.parametrize(
    ("alpha", "order", "evaluation"),
    [
        (0.25, 2, "in_sample"),
        (0.25, 4, "in_sample"),
        (0.1, 3, "in_sample"),
        (0.7, 2, "in_sample"),
        (1.0, 1, "in_sample"),
        (0.5, 2, "held_out"),
        (0.3, 3, "held_out"),
    ],
)
def test_too_small_a_group_names_the_smallest_that_works(alpha: float, order: int, evaluation: str) -> None:
    options = {"deploy_n": 1000, "tail_fraction": alpha, "order": order, "evaluation": evaluation}
    smallest = smallest_group("prefix_tea", **options)
    prefix_tea(randn(1, smallest), **options)
    if smallest > 2:
        with pytest.raises(ValueError, match=f"smallest group that works has m = {smallest} rollouts"):
            prefix_tea(randn(1, smallest - 1), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 5}, "order = 5 must lie between 1 and the number of prefixes, 4"),
        ({"order": 0}, "order = 0 must lie between 1"),
        ({"evaluation": "held_out"}, "leave 0 prefix sizes.*smallest group that works has m = 37"),
        ({"tail_fraction": 0.0}, "tail_fraction = 0"),
        ({"tail_fraction": 0.05}, "tail_fraction = 0.05 of m = 16 .* = 2/16"),
        ({"tail": "pareto"}, "unknown tail 'pareto'"),
        ({"deploy_n": 0.5}, "deploy_n = 0.5 must lie between"),
    ],
)
def test_options_out_of_range(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prefix_tea(torch.zeros(2, 16), **{"deploy_n": 128, **options})


@pytest.mark.usefixtures("without_shape_checks")
def test_unknown_evaluation() -> None:
    with pytest.raises(ValueError, match="unknown evaluation 'both': choose one of in_sample, held_out"):
        prefix_tea(torch.zeros(2, 16), deploy_n=128, evaluation="both")  # type: ignore[arg-type]


def test_a_budget_within_the_group_warns() -> None:
    with pytest.warns(UserWarning, match="max_at_k"):
        prefix_tea(randn(1, 16), deploy_n=16)


def test_the_plan_has_a_row_for_every_number_of_scored_rollouts() -> None:
    sizes, weights = prefix_plan(16, tail_fraction=0.25, order=2, num_prefixes=4, evaluation="in_sample")
    assert sizes.shape == weights.shape == (17, 3)
    assert not weights[:12].any()
    np.testing.assert_allclose(weights.sum(axis=1), [0.0] * 12 + [1.0] * 5)
    np.testing.assert_allclose(weights[13], [*jackknife_weights((8, 12), 2), 0.0])
