"""What estimators do to location and spread, against closed forms, the contract's table and enumeration."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest
import torch
from scipy import integrate
from scipy.stats import norm

from tailgrad.estimators import bind, parse_estimator, with_budget
from tailgrad.planning.replay import Replay, _advantages, replay, scores
from tailgrad.planning.scoring import PolicyTraits, measures

VALUES, SHARES = np.array([0.0, 1.0, 3.0]), np.array([0.5, 0.3, 0.2])


def largest_of(n: int) -> float:
    """Expected largest of n standard normals, by quadrature."""
    return integrate.quad(lambda x: n * x * norm.pdf(x) * norm.cdf(x) ** (n - 1), -9, 9)[0]


def mean_and_error(per_prompt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return per_prompt.mean(axis=-2), per_prompt.std(axis=-2, ddof=1) / math.sqrt(per_prompt.shape[-2])


@pytest.mark.parametrize(("m", "deploy_n"), [(8, 16), (16, 128)])
def test_gaussian_rewards_against_closed_forms(m: int, deploy_n: int) -> None:
    """The mean moves the location alone, max@k and V_N the location by 1 and the spread by c_k / sqrt(2)."""
    pool = np.random.default_rng(0).normal(size=(64, 1024))
    found = replay(pool, [("dr_grpo", m), ("max_at_k:k=4,baseline=loo", m)], deploy_n=deploy_n)
    of_mean, of_four, truth = (np.array([1.0, c / math.sqrt(2)]) for c in (0.0, largest_of(4), largest_of(deploy_n)))
    of_mean = of_mean * (1 - 1 / m)
    for products, expected in (
        (found.truth, truth**2),
        (found.square[0], of_mean**2),
        (found.square[1], of_four**2),
        (found.along[0], of_mean * truth),
        (found.along[1], of_four * truth),
    ):
        value, error = mean_and_error(products)
        assert (np.abs(value - expected) < 4 * error + 0.01 * expected).all(), (value, expected, error)
    np.testing.assert_allclose(found.noise[0].mean(), (1 - 1 / m) / m, rtol=0.02)


@pytest.mark.parametrize(
    ("estimator", "location", "spread", "noise"),
    [
        ("cvar", 0.75, 1.02, 0.331),
        ("tea", 0.66, 1.29, 0.477),
        ("tea:tail_fraction=1,center=true", 0.94, 2.04, 0.471),
        ("rs_grpo:risk_beta=1,units=spread", 0.87, 0.66, 0.265),
    ],
)
def test_gaussian_rewards_against_the_table_of_the_contract(
    estimator: str, location: float, spread: float, noise: float
) -> None:
    """m = 16, N = 128, from another simulation; its column of the spread is sqrt(2) times the part here."""
    pool = np.random.default_rng(1).normal(size=(64, 1024))
    found = replay(pool, [(estimator, 16)], deploy_n=128)
    parts = np.sqrt(found.square[0].mean(axis=0))
    np.testing.assert_allclose(parts * [1, math.sqrt(2)], [location, spread], rtol=0.04)
    np.testing.assert_allclose(math.sqrt(found.noise[0].mean()), noise, rtol=0.03)


@pytest.mark.parametrize(
    "estimator", ["dr_grpo", "max_at_k:k=2", "tea:center=true,tail_fraction=1", "rs_grpo:risk_beta=1"]
)
def test_a_discrete_distribution_against_all_groups(estimator: str) -> None:
    m, deploy_n, prompts, n = 3, 4, 256, 256
    groups = np.array([*itertools.product(range(3), repeat=m)])
    shares = SHARES[groups].prod(axis=1)
    name, options = parse_estimator(estimator)
    pool = np.random.default_rng(0).choice(VALUES, p=SHARES, size=(prompts, n))
    advantages = bind(name, **with_budget(name, options, deploy_n))(torch.from_numpy(VALUES[groups])).numpy()
    mean = VALUES @ SHARES
    location = (VALUES - mean) / math.sqrt(SHARES @ (VALUES - mean) ** 2)
    rest = location**2 - 1 - location * (SHARES @ location**3)
    spread = rest / math.sqrt(SHARES @ rest**2)
    directions = np.stack([location, spread])
    expected = np.array([shares @ (advantages[:, 0] * one[groups[:, 0]]) for one in directions])
    below = np.array([0.0, SHARES[0], SHARES[:2].sum()])  # F just below each value
    influence = deploy_n * np.cumsum(np.diff(VALUES, prepend=0.0) * below ** (deploy_n - 1))
    truth = np.array([SHARES @ (influence * one) for one in directions])
    found = replay(pool, [(estimator, m)], deploy_n=deploy_n)
    for products, exact in (
        (found.square[0], expected**2),
        (found.along[0], expected * truth),
        (found.truth, truth**2),
    ):
        value, error = mean_and_error(products)
        assert (np.abs(value - exact) < 4.5 * error + 4 / n * np.abs(exact).max()).all(), (value, exact, error)
    noise = shares @ (advantages**2).sum(axis=1) / m**2
    np.testing.assert_allclose(found.noise[0].mean(), noise, rtol=0.03)


def test_scores_are_orthonormal_and_know_when_there_is_no_spread() -> None:
    rng = np.random.default_rng(0)
    location, spread = scores(rng.exponential(size=(5, 400)) + 1e6).swapaxes(0, 1)
    for one, other, product in ((location, location, 1.0), (spread, spread, 1.0), (location, spread, 0.0)):
        np.testing.assert_allclose((one * other).mean(axis=1), product, atol=1e-6)
    np.testing.assert_allclose(location.mean(axis=1), 0.0, atol=1e-9)
    binary = scores(rng.integers(0, 2, size=(5, 400)).astype(float))
    assert (binary[:, 1] == 0).all()
    assert (binary[:, 0] != 0).all()
    assert (scores(np.full((2, 10), 0.1)) == 0).all()


def test_advantages_are_scaled_as_a_training_scales_them() -> None:
    """Flat TEA's have root mean square 1 in each group."""
    found = replay(np.random.default_rng(0).normal(size=(4, 64)), [("flat_tea", 8)], deploy_n=16)
    np.testing.assert_allclose(found.noise, 1 / 8, rtol=1e-9)


def test_advantages_are_scaled_as_asked() -> None:
    """By group GRPO and Dr. GRPO are one; over the batch, what the root mean square of all is one of."""
    pool = np.random.default_rng(0).normal(size=(4, 64)) * np.array([[1.0], [2.0], [4.0], [8.0]])
    grpo, dr_grpo = replay(pool, [("grpo", 8), ("dr_grpo", 8)], deploy_n=16, scaling="group").square
    np.testing.assert_allclose(grpo, dr_grpo, rtol=1e-9)
    found = replay(pool, [("tea", 8)], deploy_n=16, scaling="batch")
    np.testing.assert_allclose(found.noise.mean(), 1 / 8, rtol=1e-9)


def test_the_same_seed_gives_the_same_numbers_in_any_company() -> None:
    pool = np.random.default_rng(0).normal(size=(4, 64))
    alone = replay(pool, [("cvar", 8)], deploy_n=16, seed=3)
    among = replay(pool, [("grpo", 4), ("cvar", 8), ("tea", 16)], deploy_n=16, seed=3)
    np.testing.assert_array_equal(alone.square[0], among.square[1])
    np.testing.assert_array_equal(alone.noise[0], among.noise[1])


def test_what_looks_at_the_whole_batch_sees_one_group_of_each_prompt() -> None:
    groups = np.random.default_rng(0).normal(size=(3, 5, 8))
    found = _advantages("cat_bon", 16)(groups).reshape(groups.shape)
    for step in range(5):
        expected = bind("cat_bon", deploy_n=16)(torch.from_numpy(groups[:, step]))
        np.testing.assert_array_equal(found[:, step], expected.numpy())


def test_a_plan_of_many_prompts_takes_memory_for_them_and_not_for_their_pairs() -> None:
    rng, prompts = np.random.default_rng(0), 20_000
    many = Replay(*(rng.random(shape) for shape in ((3, prompts, 2), (3, prompts, 2), (3, prompts), (prompts, 2))))
    tracemalloc.start()
    found = measures(many, PolicyTraits(600.0, 0.1, ""), np.full(3, 8.0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.value.shape == (3, 1 + prompts)
    assert peak < 50e6
    few = Replay(*(part[..., :9, :] if part.shape[-1] == 2 else part[..., :9] for part in many))
    of_eight = Replay(*(np.delete(part, 4, axis=-2 if part.shape[-1] == 2 else -1) for part in few))
    without, alone = (measures(part, PolicyTraits(600.0, 0.1, ""), np.full(3, 8.0)) for part in (few, of_eight))
    for left_out, whole in zip(without, alone, strict=True):
        np.testing.assert_allclose(left_out[:, 1 + 4], whole[:, 0], rtol=1e-12)
