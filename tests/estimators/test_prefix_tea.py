import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.linalg import null_space

from tailgrad.estimators import prefix_tea, smallest_group, tea
from tailgrad.estimators._prefixes import default_prefix_sizes, jackknife_weights, prefix_plan
from tailgrad.tails import extrapolation_coefficient
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


def one_shift(group: torch.Tensor, sizes: tuple[int, ...], order: int, evaluation: str) -> torch.Tensor:
    """The definition, one prefix at a time, for N = 128 and alpha = 0.25."""
    m = len(group)
    total = torch.zeros(m, dtype=torch.float64)
    for n, weight in zip(sizes, jackknife_weights(sizes, order), strict=True):
        if evaluation == "in_sample":
            total[:n] += weight * m / n * tea(group[None, :n], deploy_n=128)[0]
            continue
        tail = group[:n].topk(n // 4).values
        slope = extrapolation_coefficient(128, 0.25) / (2 * tail.std(correction=0))
        curve = slope * ((group - tail.mean()) ** 2 - (tail.min() - tail.mean()) ** 2)
        outside = 4 * (group > tail.min()) * (group - tail.min() + curve)
        total[n:] += weight * m / (m - n) * outside[n:]
    return total


@pytest.mark.parametrize(
    ("m", "sizes", "order", "evaluation"),
    [
        (16, (8, 12, 16), 2, "in_sample"),
        (17, (8, 12, 16), 3, "in_sample"),
        (24, (8, 24), 2, "in_sample"),
        (48, (32, 36, 40, 44), 2, "held_out"),
    ],
)
def test_against_the_definition(m: int, sizes: tuple[int, ...], order: int, evaluation: str) -> None:
    rewards = randn(3, m)
    options = {"deploy_n": 128, "order": order, "prefix_sizes": sizes, "evaluation": evaluation}
    plain = torch.stack([one_shift(group, sizes, order, evaluation) for group in rewards])
    torch.testing.assert_close(prefix_tea(rewards, **options, cyclic_shifts=False), plain)
    every = torch.zeros_like(rewards)
    for shift in range(m):
        rolled = rewards.roll(-shift, dims=1)
        results = torch.stack([one_shift(group, sizes, order, evaluation) for group in rolled])
        every += results.roll(shift, dims=1) / m
    torch.testing.assert_close(prefix_tea(rewards, **options), every)


def test_order_one_with_the_whole_group_is_tea() -> None:
    rewards = randn(3, 16)
    whole = prefix_tea(rewards, deploy_n=128, order=1, num_prefixes=1)
    torch.testing.assert_close(whole, tea(rewards, deploy_n=128))
    whole = prefix_tea(rewards, deploy_n=128, order=1, prefix_sizes=(16,), ddof=1, center=True)
    torch.testing.assert_close(whole, tea(rewards, deploy_n=128, ddof=1, center=True))


def test_explicit_sizes_of_a_group_with_unscored_rollouts_are_those_that_fit() -> None:
    rewards = randn(2, 16)
    rewards[0, [2, 7]] = math.nan
    rewards[1, 3:9] = math.nan
    advantages = prefix_tea(rewards, deploy_n=128, prefix_sizes=(8, 12, 16))
    scored = ~torch.isnan(rewards[0])
    fits = prefix_tea(rewards[0, scored][None], deploy_n=128, prefix_sizes=(8, 12))[0] * 16 / 14
    torch.testing.assert_close(advantages[0, scored], fits)
    assert bool((advantages[1] == 0).all()), "ten scored rollouts leave one size, order 2 needs two"


def test_a_prefix_of_equal_rewards_is_no_signal_for_the_rollouts_outside_it() -> None:
    """The mean of equal rewards may round, but sigma must be exactly 0, or those outside would get 1e16."""
    rewards = torch.full((1, 48), 0.3, dtype=torch.float64)
    rewards[0, 44:] = torch.tensor([0.7, 1.1, 0.1, 3.0], dtype=torch.float64)
    sizes = (32, 36, 40, 44)
    options = {"deploy_n": 128, "prefix_sizes": sizes, "evaluation": "held_out", "cyclic_shifts": False}
    assert bool((prefix_tea(rewards, **options) == 0).all())


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


def test_smallest_group_of_explicit_sizes() -> None:
    assert smallest_group("prefix_tea", deploy_n=128, prefix_sizes=(8, 12, 16)) == 12
    held_out = {"deploy_n": 128, "prefix_sizes": (32, 36, 40), "evaluation": "held_out", "order": 3}
    assert smallest_group("prefix_tea", **held_out) == 41


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prefix_sizes": (8, 13, 16)}, "prefix size 13 does not keep a whole number.*8, 12, 16"),
        ({"prefix_sizes": (4, 8, 16)}, "prefix size 4 does not keep a whole number of rollouts, at least 2"),
        ({"prefix_sizes": (16, 8)}, "must be ascending and distinct"),
        ({"prefix_sizes": (8, 8, 16)}, "must be ascending and distinct"),
        ({"prefix_sizes": (8, 16, 20)}, "must not exceed 16 with m = 16"),
        ({"prefix_sizes": (8, 16), "order": 3}, "order = 3 must lie between 1 and the number of prefixes, 2"),
        ({"order": 5}, "order = 5 must lie between 1 and the number of prefixes, 4"),
        ({"order": 0}, "order = 0 must lie between 1"),
        ({"evaluation": "held_out"}, "leave 0 prefix sizes.*smallest group that works has m = 37"),
        (
            {"evaluation": "held_out", "prefix_sizes": (8, 12)},
            "prefix size 8 .* at least 8.*held_out.*32, 36",
        ),
        ({"tail_fraction": 0.0}, "tail_fraction = 0"),
        ({"tail_fraction": 0.05}, "tail_fraction = 0.05 of m = 16 .* = 2/16"),
        ({"ddof": 2}, "ddof = 2"),
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
    sizes, weights = prefix_plan(
        16, tail_fraction=0.25, order=2, num_prefixes=4, prefix_sizes=None, evaluation="in_sample"
    )
    assert sizes.shape == weights.shape == (17, 3)
    assert not weights[:12].any()
    np.testing.assert_allclose(weights.sum(axis=1), [0.0] * 12 + [1.0] * 5)
    np.testing.assert_allclose(weights[13], [*jackknife_weights((8, 12), 2), 0.0])
