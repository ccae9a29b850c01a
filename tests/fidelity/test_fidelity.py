"""Gradient fidelity against enumeration, plain loops, and a Gaussian policy for which everything is known."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from tailgrad.estimators import bind
from tailgrad.fidelity import check_fidelity, gradient_fidelity, population_influence
from tailgrad.fidelity.products import inner_products, measure
from tailgrad.statistics import mean_interval

MEASURES = ("direction", "step", "norm_ratio", "signal_to_noise")


# The truth


@pytest.mark.parametrize("deploy_n", [2, 3, 7, 9])
@pytest.mark.parametrize("ties", [False, True])
def test_the_influence_is_the_integral_with_the_other_responses(deploy_n: int, ties: bool) -> None:
    """N times the integral of C(c, N-1) / C(n-1, N-1), interval by interval between the other rewards."""
    rewards = np.random.default_rng(0).normal(size=9) if not ties else np.array([0, 1, 1, 1, 2, 2, 3, 3, 0.5])
    expected = []
    for i, reward in enumerate(rewards):
        others = np.delete(rewards, i)
        edges = sorted({value for value in others if value < reward} | {reward})
        total = 0.0
        for low, high in itertools.pairwise(edges):
            below = int((others <= low).sum())
            total += (high - low) * math.comb(below, deploy_n - 1) / math.comb(8, deploy_n - 1)
        expected.append(deploy_n * total)
    np.testing.assert_allclose(population_influence(rewards[None], deploy_n)[0], expected, atol=1e-12)


def test_the_truth_is_unbiased_where_the_plug_in_is_not() -> None:
    """A softmax policy over five rewards, two of them equal: the gradient of V_N by a numerical derivative.

    Small pools, n = 12 and N = 8, so that N / n is far from 0 and the bias of F to the power N - 1 shows.
    """
    values, logits = np.array([0.0, 1.0, 1.0, 2.5, 4.0]), np.array([0.5, 0.2, -0.3, 0.0, -1.0])
    n, deploy_n, pools = 12, 8, 40_000

    def best_of_n(logits: np.ndarray) -> float:
        p = np.exp(logits) / np.exp(logits).sum()
        levels = np.unique(values)
        cdf = np.array([p[values <= level].sum() for level in levels])
        return float((levels * np.diff(cdf**deploy_n, prepend=0.0)).sum())

    step = 1e-5 * np.eye(5)
    exact = np.array([(best_of_n(logits + e) - best_of_n(logits - e)) / 2e-5 for e in step])
    p = np.exp(logits) / np.exp(logits).sum()
    responses = np.random.default_rng(0).choice(5, size=(pools, n), p=p)
    rewards = values[responses]
    scores = np.eye(5)[responses] - p
    estimates = (population_influence(rewards, deploy_n)[..., None] * scores).mean(axis=1)
    error = estimates.std(axis=0) / math.sqrt(pools)
    assert (np.abs(estimates.mean(axis=0) - exact) < 4 * error).all()
    levels = np.unique(values)
    cdf = (rewards[:, :, None] <= levels).mean(axis=1)  # [pools, levels]
    psi = np.cumsum(np.diff(levels, prepend=levels[0]) * np.roll(cdf, 1, axis=1) ** (deploy_n - 1), axis=1) * deploy_n
    plug_in = (psi[np.arange(pools)[:, None], np.searchsorted(levels, rewards)][..., None] * scores).mean(axis=1)
    assert (np.abs(plug_in.mean(axis=0) - exact) > 8 * error).any()


def test_the_influence_of_a_large_pool_is_that_of_its_distribution() -> None:
    """Of N(0, 1): psi_N(u) = N times the integral of Phi^(N-1) up to u."""
    rewards = np.random.default_rng(1).normal(size=(1, 200_000))
    found = population_influence(rewards, 32)[0]
    grid = np.linspace(-6, 6, 120_001)
    psi = 32 * np.cumsum(stats.norm.cdf(grid) ** 31) * (grid[1] - grid[0])
    inside = np.abs(rewards[0]) < 3
    expected = np.interp(rewards[0], grid, psi)
    np.testing.assert_allclose(found[inside], expected[inside], atol=0.03 * psi[np.searchsorted(grid, 3.0)])


def test_unscored_responses_have_no_influence() -> None:
    rewards = np.array([[0.0, np.nan, 3.0, 1.0]])
    np.testing.assert_allclose(population_influence(rewards, 2), [[0.0, 0.0, 5.0 * 4 / 3, 1.0 * 4 / 3]])


# The measures


def naive(rewards: np.ndarray, gradients: np.ndarray, name: str, options: dict, m: int, deploy_n: int) -> list[float]:
    """The four measures as they are defined, in loops."""
    prompts, n = rewards.shape
    half = n // 2
    parts = [slice(0, half), slice(n - half, n)]
    truth, steps, noise = [], [[], []], 0.0
    for part in parts:
        weights = population_influence(rewards[:, part], deploy_n)
        truth.append(np.mean([weights[p] @ gradients[p, part] / half for p in range(prompts)], axis=0))
    for h, part in enumerate(parts):
        by_prompt = [[] for _ in range(prompts)]
        for start in range(0, half - m + 1, m):
            group = range(part.start + start, part.start + start + m)
            advantages = bind(name, **options)(torch.from_numpy(rewards[:, group])).numpy()
            for p in range(prompts):
                by_prompt[p].append(advantages[p] @ gradients[p, group] / m)
            steps[h].append(np.mean([by_prompt[p][-1] for p in range(prompts)], axis=0))
        noise += sum(np.var(group, axis=0, ddof=1).sum() for group in by_prompt) / prompts**2 / 2
    first, second = np.mean(steps[0], axis=0), np.mean(steps[1], axis=0)
    truth_norm, norm = math.sqrt(truth[0] @ truth[1]), math.sqrt(first @ second)
    cosines = [g @ truth[1 - h] / np.linalg.norm(g) / truth_norm for h in (0, 1) for g in steps[h]]
    direction = (first @ truth[1] + second @ truth[0]) / 2 / norm / truth_norm
    return [direction, float(np.mean(cosines)), norm / truth_norm, first @ second / noise]


@pytest.fixture(scope="module")
def small() -> tuple[np.ndarray, np.ndarray]:
    """Rewards of 5 prompts with 49 responses (an odd number), and correlated gradients of length 6."""
    rng = np.random.default_rng(3)
    rewards = rng.normal(size=(5, 49))
    direction = rng.normal(size=(5, 1, 6)) + 2
    gradients = rewards[:, :, None] * direction + rng.normal(size=(5, 49, 6))
    rewards[2, 7] = np.nan
    return rewards, gradients


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("tea", "tea", {"deploy_n": 16}),
        ("prefix_tea:tail_fraction=0.5", "prefix_tea", {"deploy_n": 16, "tail_fraction": 0.5}),
        ("max_at_k:k=4", "max_at_k", {"k": 4}),
        ("cat_bon", "cat_bon", {"deploy_n": 16}),  # normalises over the prompts of a step
    ],
)
def test_the_measures_are_those_of_their_definition(
    small: tuple[np.ndarray, np.ndarray], text: str, name: str, options: dict
) -> None:
    rewards, gradients = small
    point = gradient_fidelity(rewards, gradients, estimators=[text], m=[8], deploy_n=[16]).points[0]
    expected = dict(zip(MEASURES, naive(rewards, gradients, name, options, 8, 16), strict=True))
    assert (point.estimator, point.m, point.deploy_n, point.steps) == (text, 8, 16, 6)
    for key in MEASURES:
        if key == "norm_ratio" and name == "cat_bon":
            assert np.isnan([part[0] for part in point.measures[key][:3]]).all()
        else:
            np.testing.assert_allclose(point.measures[key].mean[0], expected[key], rtol=1e-9, err_msg=key)


def test_the_intervals_are_those_of_the_jackknife(small: tuple[np.ndarray, np.ndarray]) -> None:
    rewards, gradients = small
    asked = {"estimators": ["cvar"], "m": [8], "deploy_n": [16]}
    every = gradient_fidelity(rewards, gradients, **asked).points[0].measures
    without = []
    for p in range(5):
        rest = gradient_fidelity(np.delete(rewards, p, 0), np.delete(gradients, p, 0), **asked).points[0].measures
        without.append([rest[key].mean[0] for key in MEASURES])
    values = np.array([every[key].mean[0] for key in MEASURES])
    of_others = np.array(without) * [1, 1, 1, 5 / 4]  # a step of 5 prompts has 5/4 of the signal to noise of one of 4
    interval = mean_interval((5 * values - 4 * of_others)[None])
    for column, key in enumerate(MEASURES):
        np.testing.assert_allclose(every[key].low[0], interval.low[column] - interval.mean[column] + values[column])
        np.testing.assert_allclose(every[key].high[0], interval.high[column] - interval.mean[column] + values[column])


def gaussian_policy(prompts: int, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rewards N(0, 1) and their scores for mean and log standard deviation, r and r^2 - 1."""
    rewards = np.random.default_rng(seed).normal(size=(prompts, n))
    return rewards, np.stack([rewards, rewards**2 - 1], axis=2)


TRUTH = np.array([1.0, 2.594597])  # the gradient of V_128
TEA_16 = TRUTH + np.array([-0.345, -1.314])  # what TEA makes of it with m = 16 (see tests/estimators/test_bias.py)
TEA_16_VARIANCE = 0.84**2 + 2.26**2


def test_a_gaussian_policy_gives_what_is_known() -> None:
    """Truth (1, c_N); TEA's bias and spread; the direction of Dr. GRPO is (1, 0), its expected size (m - 1) / m."""
    rewards, scores = gaussian_policy(40, 16_384)
    fidelity = gradient_fidelity(rewards, scores, estimators=["tea", "dr_grpo", "grpo"], m=[16], deploy_n=[128])
    tea, dr_grpo, grpo = (point.measures for point in fidelity.points)
    norm = np.linalg.norm(TRUTH)
    assert fidelity.truth_agreement[128] > 0.99
    expected = {
        "direction": TEA_16 @ TRUTH / np.linalg.norm(TEA_16) / norm,
        "norm_ratio": np.linalg.norm(TEA_16) / norm,
        "signal_to_noise": 40 * TEA_16 @ TEA_16 / TEA_16_VARIANCE,
    }
    tolerance = {"direction": 0.005, "norm_ratio": 0.03, "signal_to_noise": 1.2}
    for key, value in expected.items():
        assert tea[key].mean[0] == pytest.approx(value, abs=tolerance[key]), key
    assert tea["step"].mean[0] == pytest.approx(
        expected["direction"], abs=0.03
    )  # a step of 40 prompts has little noise
    for measures in (dr_grpo, grpo):
        assert measures["direction"].mean[0] == pytest.approx(1 / norm, abs=0.01)
        assert np.isnan(measures["norm_ratio"].mean[0]) == (measures is grpo)
    assert dr_grpo["norm_ratio"].mean[0] == pytest.approx(15 / 16 / norm, rel=0.04)
    # Var of (1/m) sum (r_i - rbar) (r_i, r_i^2 - 1), by simulation elsewhere and here from 400,000 groups
    groups = np.random.default_rng(5).normal(size=(400_000, 16))
    deviations = groups - groups.mean(axis=1, keepdims=True)
    plain = np.stack([(deviations * groups).mean(1), (deviations * (groups**2 - 1)).mean(1)], axis=1)
    snr = 40 * (15 / 16) ** 2 / plain.var(axis=0).sum()
    assert dr_grpo["signal_to_noise"].mean[0] == pytest.approx(snr, rel=0.03)


def test_noise_of_the_pool_is_taken_out() -> None:
    """With 60 more parameters that only add noise, nothing but the cosine of one step changes on average."""
    rewards, scores = gaussian_policy(24, 8192, seed=2)
    noise = 12 * np.random.default_rng(3).normal(size=(24, 8192, 60))
    asked = {"estimators": ["max_at_k:k=8"], "m": [16], "deploy_n": [64]}
    plain = gradient_fidelity(rewards, scores, **asked)
    noisy = gradient_fidelity(rewards, np.concatenate([scores, noise], axis=2), **asked)
    assert plain.truth_agreement[64] - noisy.truth_agreement[64] > 0.1
    for key, tolerance in (("direction", 0.04), ("norm_ratio", 0.06)):
        before, after = (fidelity.points[0].measures[key].mean[0] for fidelity in (plain, noisy))
        assert after == pytest.approx(before, abs=tolerance)
    assert noisy.points[0].measures["step"].mean[0] < plain.points[0].measures["step"].mean[0] - 0.1


def test_gradients_that_have_nothing_to_do_with_rewards() -> None:
    rng = np.random.default_rng(4)
    rewards, noise = rng.normal(size=(6, 256)), rng.normal(size=(6, 256, 50))
    points = gradient_fidelity(rewards, noise, estimators=["dr_grpo"], m=[8, 16], deploy_n=[32]).points
    for point in points:
        snr = point.measures["signal_to_noise"]
        assert snr.low[0] < 0 < snr.high[0]


def test_what_cannot_be_known_is_nan() -> None:
    steps = np.stack([np.ones((3, 4, 2)), -np.ones((3, 4, 2))], axis=1)  # the halves point apart: all of it is noise
    measures = measure(inner_products(steps, np.ones((3, 2, 2))), has_scale=True)
    for key in ("direction", "norm_ratio", "signal_to_noise"):
        assert np.isnan(measures[key].mean[0]), key
    one = measure(
        inner_products(np.random.default_rng(0).normal(2, 1, (1, 2, 5, 3)), np.ones((1, 2, 3))), has_scale=True
    )
    assert np.isfinite([one[key].mean[0] for key in MEASURES]).all()
    assert np.isnan([one[key].low[0] for key in MEASURES]).all()


def test_steps_without_signal_have_cosine_zero() -> None:
    rewards, scores = gaussian_policy(2, 64)
    point = gradient_fidelity(np.zeros_like(rewards), scores, estimators=["tea"], m=[8], deploy_n=[16]).points[0]
    assert np.isnan([point.measures[key].mean[0] for key in MEASURES]).all()
    products = inner_products(np.zeros((2, 2, 3, 4)), np.ones((2, 2, 4)))
    assert measure(products, has_scale=True)["step"].mean[0] == 0


def test_several_m_and_n_come_in_order_and_n_matters_only_where_it_is_taken() -> None:
    rewards, scores = gaussian_policy(3, 128)
    names = ["tea", "dr_grpo"]
    points = gradient_fidelity(rewards, scores, estimators=names, m=[16, 8], deploy_n=[64, 32]).points
    assert [(p.deploy_n, p.m, p.estimator) for p in points] == list(itertools.product((32, 64), (8, 16), names))
    for point in points:
        single = gradient_fidelity(
            rewards, scores, estimators=[point.estimator], m=[point.m], deploy_n=[point.deploy_n]
        )
        for key in MEASURES:
            np.testing.assert_array_equal(single.points[0].measures[key], point.measures[key])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"deploy_n": [64]}, r"deploy_n = 64 must lie between 2 and 31, the scored responses in half .*'s 64"),
        ({"deploy_n": [1]}, "deploy_n = 1 must lie between 2"),
        ({"m": [17]}, "m = 17 must lie between 2 and 16: each half of a prompt's 64 responses must give at least two"),
        ({"m": [4]}, "tea needs at least 5 rollouts per prompt, got m = 4"),
        (
            {"estimators": ["max_at_k:k=12"], "m": [8, 16]},
            "max_at_k:k=12 needs at least 12 rollouts per prompt, got m = 8",
        ),
        ({"estimators": ["max_at_k:k=1,baseline=none"], "m": [1]}, "m = 1 must lie between 2 and 16"),
        ({"estimators": ["max_at_k"]}, "max_at_k needs the option k: give it a value"),
        ({"estimators": ["tea:deploy_n=8"]}, "every estimator gets the N that it is compared at"),
        ({"estimators": ["ppo"]}, "unknown estimator 'ppo'"),
        ({"estimators": ["tea", "tea"]}, "estimators must name at least one and none twice"),
        ({"m": []}, "m must name at least one"),
    ],
)
def test_what_cannot_be_done_is_refused(changes: dict, message: str) -> None:
    rewards, _ = gaussian_policy(2, 64)
    rewards[1, 3] = np.nan
    with pytest.raises(ValueError, match=message):
        check_fidelity(rewards, **{"estimators": ["tea"], "m": [8], "deploy_n": [16]} | changes)


def test_gradients_of_other_responses_are_refused() -> None:
    rewards, scores = gaussian_policy(2, 64)
    asked = {"estimators": ["tea"], "m": [8], "deploy_n": [16]}
    with pytest.raises(ValueError, match=r"got 1 prompts with 64 responses"):
        gradient_fidelity(rewards, scores[:1], **asked)
    with pytest.raises(ValueError, match=r"got 2 prompts with 62 responses"):
        gradient_fidelity(rewards, scores[:, 2:], **asked)
    with pytest.raises(ValueError, match="deploy_n = 65 must lie between 2 and the 64 responses"):
        population_influence(rewards, 65)
