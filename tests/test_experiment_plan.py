"""Rank correlations of experiments/plan, and that its page has the tables of its rows."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiment_scripts import importing_scripts

FOLDER = Path(__file__).resolve().parent.parent / "experiments" / "plan"
NAMES = ("ranks", "values", "followed", "report")


@pytest.fixture
def modules() -> Iterator[dict[str, ModuleType]]:
    with importing_scripts() as load:
        yield {name: load(f"plan/{name}") for name in NAMES}


def test_the_correlation_is_spearmans(modules: dict[str, ModuleType]) -> None:
    rng = np.random.default_rng(0)
    said, came = rng.normal(size=6), rng.integers(0, 4, size=(5, 6)).astype(float)
    expected = [stats.spearmanr(said, row).statistic for row in came]
    np.testing.assert_allclose(modules["ranks"].rank_correlation(said, came), expected, rtol=1e-12)


def test_the_interval_is_a_point_without_noise_and_wide_where_seeds_disagree(modules: dict[str, ModuleType]) -> None:
    interval = modules["ranks"].correlation_interval
    said, even = np.array([1.0, 2.0, 3.0]), np.array([[[1.0]], [[2.0]], [[4.0]]]) + np.zeros((3, 4, 20))
    assert interval(said, even) == pytest.approx((1, 1, 1))
    noise = np.random.default_rng(0).normal(size=(3, 4, 1))
    _, low, high = interval(said, even / 10 + 3 * noise)
    assert low < 0 < high


def test_chance_is_a_share_of_all_orders(modules: dict[str, ModuleType]) -> None:
    said, came = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.0, 2.0, 4.0])
    orders = [stats.spearmanr(said, order).statistic for order in itertools.permutations(came)]
    expected = np.mean(np.array(orders) >= stats.spearmanr(said, came).statistic - 1e-9)
    assert modules["ranks"].chance(said, came) == pytest.approx(expected)


def test_pairs_count_where_they_are_clear(modules: dict[str, ModuleType]) -> None:
    noise = np.random.default_rng(0).normal(size=(3, 4, 30))
    came = noise + np.array([0.0, 0.0, 9.0])[:, None, None]
    came[1] = came[0] + noise[1] - noise[1].mean(axis=(0, 1))
    assert modules["ranks"].pairs_in_order(np.array([3.0, 1.0, 2.0]), came) == (1, 2)


def test_the_page_has_the_tables_of_the_rows(modules: dict[str, ModuleType]) -> None:
    found = modules["report"].outcomes(modules["values"].read_values())
    page = (FOLDER / "README.md").read_text()
    assert modules["report"].choice_table(found) in page
    assert all(one.of.name.split(",")[0] in page for one in found)


def test_following_a_plan_is_the_paired_difference_of_its_rows(modules: dict[str, ModuleType]) -> None:
    of = modules["followed"].Round("score", "small-instruct/tier3-lm-score.yaml", "tea")
    found = modules["followed"].followed(of)
    rows = pd.read_parquet(FOLDER.parent / "small-instruct" / "results" / "tier3-lm-score.parquet")
    rows = rows[(rows.split == "test") & (rows.step == 60) & (rows.scored_by == "lm-score")]
    gained = {}
    for name in ("grpo", "tea"):
        own = rows[rows.estimator == name]
        assert own.learning_rate.nunique() == 1
        places = [list(budgets).index(128) for budgets in own.budgets]
        gained[name] = np.mean([value[at] for v_n, at in zip(own.v_n, places, strict=True) for value in v_n])
    expected = [gained["grpo"], gained["tea"], gained["tea"]]
    assert [values.mean() for values in found.last[1:]] == pytest.approx(expected)
    assert f"{gained['tea'] - gained['grpo']:+.2f} [" in modules["followed"].end_table([found])


def test_policies_are_compared_within_the_divergence_that_all_three_reach(modules: dict[str, ModuleType]) -> None:
    of = modules["followed"].Round("score", "small-instruct/planned-lm-score.yaml", "dr_grpo")
    found = modules["followed"].followed(of)
    rows = pd.read_parquet(FOLDER.parent / "small-instruct" / "results" / "planned.parquet")
    rows = rows[(rows.split == "test") & (rows.step > 0) & (rows.reward == "lm-score")]
    divergence = rows.assign(nats=rows.kl.map(np.mean)).groupby(["estimator", "seed"]).nats
    assert found.reached == pytest.approx(divergence.max().min())
    assert divergence.min().max() < found.reached < divergence.max().max()
    assert [values.shape for values in found.within] == [(3, 48)] * 3
    text = modules["followed"].within_table([found])
    assert f"| {found.reached:.3g} nats |" in text


def test_a_round_without_policies_at_equal_divergence_has_no_line_there(modules: dict[str, ModuleType]) -> None:
    found = modules["followed"].followed(modules["followed"].ROUNDS[0])
    assert found.within == []  # TEA ended where GRPO was not measured yet


def test_a_round_that_is_not_finished_has_no_line(modules: dict[str, ModuleType]) -> None:
    of = modules["followed"].Round("score", "small-instruct/tier3-lm-score.yaml", "rs_grpo")
    assert modules["followed"].followed(of) is None
