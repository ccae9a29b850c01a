"""The robustness experiment: its exact influences, measures and variants."""

import math
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from experiment_scripts import importing_scripts
from tailgrad.estimators import dr_grpo, flat_tea, max_at_k
from tailgrad.tails import expected_max_normal

FOLDER = Path(__file__).resolve().parent.parent / "experiments" / "robustness"
C_128 = expected_max_normal(128)

pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, ModuleType]]:
    with importing_scripts() as load:
        yield {name: load(f"robustness/{name}") for name in ("shapes", "remedies", "run")}


def gaussian(prompts: int, rollouts: int, seed: int = 0) -> Tensor:
    return torch.randn(prompts, rollouts, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_exact_gradient_of_gaussian_rewards(modules: dict[str, ModuleType]) -> None:
    """1 along the mean, c_N along the log standard deviation, but for what 2^14 quantiles cut off."""
    shape = modules["shapes"].Shape("gaussian", 128)
    mean = (shape.influence * shape.latent).mean().item()
    log_sd = (shape.influence * (shape.latent**2 - 1)).mean().item()
    assert (mean, log_sd) == pytest.approx((1.0, C_128), abs=0.03)


def test_exact_influence_of_tied_rewards(modules: dict[str, ModuleType]) -> None:
    """With p successes, N (1 - p)^(N - 1) between success and failure; and one bin for each reward."""
    shape = modules["shapes"].Shape("0/1, p = .05", 128)
    low, high = shape.influence.unique().tolist()
    share = (shape.rewards == shape.rewards.max()).double().mean().item()
    step = (shape.rewards.max() - shape.rewards.min()).item()
    assert high - low == pytest.approx(128 * (1 - share) ** 127 * step)
    assert shape.bins.unique().tolist() == [0, 1]


def test_every_shape_rises_and_is_standardised(modules: dict[str, ModuleType]) -> None:
    for name in modules["shapes"].SHAPES:
        shape = modules["shapes"].Shape(name, 128)
        assert bool((shape.rewards.diff() >= 0).all()), name
        assert shape.rewards.std(correction=0).item() == pytest.approx(1)
        assert shape.rewards.mean().item() == pytest.approx(0, abs=1e-9)


def test_scores_of_a_location_and_scale_family(modules: dict[str, ModuleType]) -> None:
    """For the Gaussian they are the latent ones; for t3, the slope of SciPy's log density, and variance one."""
    shapes = modules["shapes"]
    gauss = shapes.Shape("gaussian", 128)
    torch.testing.assert_close(gauss.own_scores, gauss.latent_scores, rtol=0, atol=0.02)
    for name, log_density in {"student t3": stats.t(3).logpdf, "lognormal": stats.lognorm(1).logpdf}.items():
        shape, u = shapes.Shape(name, 128), (np.arange(shapes.ATOMS) + 0.5) / shapes.ATOMS
        x = shapes.SHAPES[name](u)
        slope = (log_density(x * (1 + 1e-6)) - log_density(x * (1 - 1e-6))) / (2e-6 * x)
        np.testing.assert_allclose(shapes.SLOPES[name](x), slope, rtol=1e-4, atol=1e-4)
        covariance = shape.own_scores @ shape.own_scores.T / shapes.ATOMS
        torch.testing.assert_close(covariance, torch.eye(2, dtype=torch.float64), rtol=0, atol=1e-9)
    mixed = shapes.SHAPES["10 % at +4 sd"](np.linspace(0.01, 0.99, 50))
    log_mixture = np.log(
        0.1 * stats.norm.pdf(mixed[:, None] + [-1e-5, 1e-5], 4, 0.5)
        + 0.9 * stats.norm.pdf(mixed[:, None] + [-1e-5, 1e-5])
    )
    slope = (log_mixture[:, 1] - log_mixture[:, 0]) / 2e-5
    np.testing.assert_allclose(shapes.SLOPES["10 % at +4 sd"](mixed), slope, rtol=1e-4, atol=1e-4)


def test_what_is_explained_leaves_the_noise_out(modules: dict[str, ModuleType]) -> None:
    bins = torch.arange(20_000) % 50
    signal = torch.linspace(-1, 1, 50, dtype=torch.float64)[bins]
    noisy = signal + 10 * gaussian(1, 20_000)[0]
    found = modules["run"].spread_explained(noisy, bins)
    assert found.item() == pytest.approx(signal.std(correction=0).item(), abs=0.15)


def test_measures_of_unbiased_max_at_k(modules: dict[str, ModuleType]) -> None:
    """Signal at m = 16 as on the page of the estimators, 3.29, and the gradient of V_4 in direction."""
    shape = modules["shapes"].Shape("gaussian", 128)
    index = shape.sample(20_000, 16, seed=3)
    found = modules["run"].measure(shape, index, max_at_k(shape.rewards[index], k=4))
    c_4 = expected_max_normal(4)
    cosine = (1 + C_128 * c_4 / 2) / math.sqrt((1 + C_128**2 / 2) * (1 + c_4**2 / 2))
    assert found["latent_direction"] == pytest.approx(cosine, abs=0.01)
    assert found["latent_signal"] == pytest.approx(3.29, abs=0.05)


def test_variants_reduce_to_what_they_vary(modules: dict[str, ModuleType]) -> None:
    remedies = modules["remedies"]
    rewards = gaussian(64, 16)
    flat = flat_tea(rewards, deploy_n=128)
    torch.testing.assert_close(remedies.with_history(rewards, C_128, rewards[:, :0]), flat)
    scale = rewards.std(1, correction=0, keepdim=True)
    torch.testing.assert_close(scale * remedies.squared_hinge(remedies.standardised(rewards, scale), C_128), flat)
    torch.testing.assert_close(remedies.pooled_shape(rewards, 1), dr_grpo(rewards))
    grid = torch.special.ndtri((torch.arange(64, dtype=torch.float64)[None] + 0.5) / 64)
    scores = remedies.normal_scores(grid, C_128, keep_scale=True)
    torch.testing.assert_close(scores, flat_tea(grid, deploy_n=128))
    assert remedies.l_scale(gaussian(1, 4_000)).item() == pytest.approx(1, abs=0.05)
    assert remedies.mid_ranks(torch.tensor([[5.0, 1.0, 5.0, 2.0]])).tolist() == [[3.5, 1.0, 3.5, 2.0]]
    best = remedies.clipped_fit(rewards, C_128)
    lifted = rewards.clamp(min=rewards.sort(1).values[:, 3:4])  # what lies below its bar does not matter
    torch.testing.assert_close(remedies.clipped_fit(lifted, C_128), best, rtol=0, atol=1e-8)
