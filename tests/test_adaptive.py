"""The experiment on adaptive budgets: what it replays is what the rules decide, and no rule sees what is not drawn."""

import math
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from scipy import stats

from experiment_scripts import importing_scripts
from tailgrad.serving.priors import prior_of
from tailgrad.serving.tail_stopping import TailStopping

NAMES = ("pools", "peers", "replay")


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, ModuleType]]:
    with importing_scripts() as load:
        yield {name: load(f"adaptive/{name}") for name in NAMES}


def drawn_rewards(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(3, 6, 40)) * np.exp(0.4 * rng.normal(size=(1, 6, 1)))


@pytest.mark.parametrize(("batch", "growth"), [(1, 0.0), (4, 0.0), (4, 0.4)])
@pytest.mark.parametrize("with_prior", [False, True])
def test_the_replay_stops_where_the_rule_does(
    modules: dict[str, ModuleType], batch: int, growth: float, with_prior: bool
) -> None:
    replay, drawn, most, price = modules["replay"], drawn_rewards(), 30, 0.05
    priors = [prior_of(torch.from_numpy(drawn[0]))] * 2 if with_prior else [None, None]
    index = replay.gain_index(drawn, batch=batch, first=4, most=most, priors=priors, growth=growth)
    outcome = replay.stopping(drawn, index, np.array([price]), first=4, most=most)
    rule = TailStopping(price=price, most=most, batch=batch, growth=growth, first=4, prior=priors[0])
    counts = np.zeros(drawn.shape[:2])
    best = np.zeros_like(counts)
    for place in np.ndindex(counts.shape):
        rewards, count = torch.from_numpy(drawn[place]), 0
        while more := rule.more(rewards[:count]):
            count += more
        counts[place], best[place] = count, drawn[place][:count].max()
    assert outcome.samples[:, 0] == pytest.approx(counts.mean(axis=0))
    assert outcome.reward[:, 0] == pytest.approx(best.mean(axis=0))
    assert 4 < counts.mean() < most


def test_no_rule_sees_what_is_not_drawn(modules: dict[str, ModuleType]) -> None:
    replay, peers = modules["replay"], modules["peers"]
    drawn = drawn_rewards()
    after = drawn.copy()
    after[..., 20:] = after[..., 20:][..., ::-1] + 3
    table = peers.universal_index(40, grid=31, costs=20)
    rules = {
        "ours": lambda one: replay.gain_index(one, batch=1, first=3, most=40, priors=[None, None]),
        "pandora": lambda one: peers.pandora_index(one.reshape(-1, 40)).reshape(one.shape),
        "beacon": lambda one: peers.beacon_index(one.reshape(-1, 40), table).reshape(one.shape),
    }
    for name, index in rules.items():
        before, now = index(drawn), index(after)
        assert np.array_equal(before[..., :20], now[..., :20]), name
        assert not np.array_equal(before[..., 20:39], now[..., 20:39]), name


def test_beacon_stops_as_one_step_ahead_does_just_before_the_end(modules: dict[str, ModuleType]) -> None:
    """With one sample left the universal index is the expected improvement under Student's t."""
    peers = modules["peers"]
    best, index = peers.universal_index(12)[11]
    for z in (0.0, 1.0, 2.0):
        known = (10 + z * z) / 9 * stats.t.pdf(z, 10) - z * stats.t.sf(z, 10)
        assert np.interp(z, best, index) == pytest.approx(known, rel=2e-2)
    far = peers.universal_index(12)[4][1]
    assert (far[best > 0] >= peers.universal_index(6)[4][1][best > 0] - 1e-9).all()  # more left, more to gain


def test_the_peers_gains_on_known_rewards(modules: dict[str, ModuleType]) -> None:
    peers = modules["peers"]
    seen = np.random.default_rng(0).normal(size=(1, 6))
    gains = peers.adabon_gains(seen, 3)[0]
    kernels = stats.gaussian_kde(seen[0])
    more = kernels.resample(300_000, seed=1)[0].reshape(3, -1)
    simulated = np.maximum(np.maximum.accumulate(more, axis=0), seen.max()).mean(axis=1)
    assert gains.cumsum() == pytest.approx(simulated - seen.max(), rel=0.03)
    wide = np.concatenate([seen, 3 * seen])
    slg = peers.slg_gains(wide, 4)
    assert slg[1] == pytest.approx(3 * slg[0])
    assert (np.diff(slg, axis=1) < 0).all()


def test_pandora_values_the_excess_of_an_exponential(modules: dict[str, ModuleType]) -> None:
    peers, n, delta, alpha = modules["peers"], 8, 0.05, 0.99
    rewards = np.random.default_rng(3).normal(size=(1, n))
    values = np.exp(rewards[0])
    median = np.median(values)
    scale = values[values >= median].mean() - median
    bound = math.sqrt(math.log(n) * math.log(1 / delta) / n)
    largest = median - max(scale * (1 - bound), 1e-8) * math.log(1 - alpha)
    more = median + scale * (1 + bound) * np.random.default_rng(0).exponential(size=1_000_000)
    best = values.max()
    simulated = np.maximum(more / (more + largest) - best / (best + largest), 0)
    found = peers.pandora_index(rewards)[0, n - 1]
    assert found == pytest.approx(simulated.mean(), abs=4 * simulated.std() / 1000)


def test_curves_are_compared_where_they_cross(modules: dict[str, ModuleType]) -> None:
    replay = modules["replay"]
    outcome = replay.Outcome(np.array([[4.0, 8.0, 16.0]]), np.array([[1.0, 2.0, 3.0]]))
    even = np.ones((1, 1))
    assert replay.at_samples(outcome, even, 12)[0] == pytest.approx(2.5)
    assert replay.needed(outcome, even, np.array([1.5]))[0] == pytest.approx(6)
    assert math.isnan(replay.at_samples(outcome, even, 20)[0])
    increments = np.array([[[5.0, 1.0], [4.0, 3.0]]])
    assert replay.largest(increments, 3).tolist() == [[1, 2]]


def test_the_pools_are_those_of_the_page(modules: dict[str, ModuleType]) -> None:
    pools = modules["pools"].read_pools()
    assert {name: pool.shape for name, pool in pools.items()} == {
        "graded": (48, 128),
        "met": (48, 128),
        "likelihood": (48, 128),
        "reward model": (48, 128),
        "ifeval": (64, 128),
        "quickstart": (50, 512),
    }
    assert set(np.unique(pools["met"])) <= {0.0, 0.25, 0.5, 0.75, 1.0}
    page = (Path(__file__).resolve().parent.parent / "experiments" / "adaptive" / "README.md").read_text()
    assert all(f"| {name} | " in page for name in pools)
