"""V_N at equal KL."""

import numpy as np
import pytest

from tailgrad.grid.frontier import KL_VALUES, equal_kl_table, save_frontier, trajectory, value_at_kl
from tailgrad.grid.gather import methods_of, settings
from tailgrad.grid.run import chosen_trainings
from tailgrad.grid.trainings import BASE


def test_interpolation_on_rising_paths_is_that_of_numpy() -> None:
    generator = np.random.default_rng(0)
    kl = np.concatenate([np.zeros((3, 1)), generator.random((3, 5)).cumsum(axis=1)], axis=1)
    v_n = generator.normal(size=(3, 7, 6))
    for wanted in np.linspace(0.01, kl.max() + 0.1, 60):
        roots = np.sqrt(kl)
        expected = np.array(
            [[np.interp(np.sqrt(wanted), roots[s], v_n[s, p], right=np.nan) for p in range(7)] for s in range(3)]
        )
        np.testing.assert_allclose(value_at_kl(kl, v_n, wanted), expected, rtol=1e-12)


def test_a_measured_step_is_met_exactly_and_a_path_that_returns_counts_where_it_first_arrives() -> None:
    kl, v_n = np.array([[0.0, 4.0, 1.0, 9.0]]), np.array([[[0.0, 10.0, 99.0, 20.0]]])
    assert value_at_kl(kl, v_n, 4.0).item() == 10.0
    assert value_at_kl(kl, v_n, 1.0).item() == 5.0  # half way to the first step, not at the third
    assert value_at_kl(kl, v_n, 4.41).item() == pytest.approx(99 - 79 * 1.1 / 2)  # root 2.1, from 1 at the third to 3
    assert np.isnan(value_at_kl(kl, v_n, 10.0)).all()
    assert np.isnan(value_at_kl(np.full((1, 2), np.nan), np.ones((1, 1, 2)), 1.0)).all()


SPEED = {"grpo": 1.0, "tea": 0.5, BASE: 0.0}
GAIN = {"grpo": 2.0, "tea": 3.0, BASE: 0.0}


def value(training, step, scored_by):
    """V_N that rises by GAIN with the square root of KL, at every N alike, and a level by prompt."""
    kl = SPEED[training.estimator] * step
    return np.arange(4.0)[:, None] + GAIN[training.estimator] * np.sqrt(kl) + np.zeros((4, 5))


def methods(config, fill, kl):
    rows = fill(config, value, kl)
    found = {row["key"]: row for row in rows}
    return methods_of(config, settings(config)[0], chosen_trainings(config, rows), found)


@pytest.fixture
def config(make_grid):
    return make_grid(train={"max_steps": 3}, checkpoints=[1, 2])


def test_the_table_compares_at_equal_kl(config, fill) -> None:
    found = methods(config, fill, lambda training, step: SPEED[training.estimator] * step)
    kl, v_n = trajectory(found["tea"], 8)
    np.testing.assert_allclose(kl, [[0.0, 0.5, 1.0, 1.5]] * 2)
    np.testing.assert_allclose(v_n.mean(axis=1), 1.5 + 3.0 * np.sqrt(kl))
    text = equal_kl_table(found, budget=8, reference="grpo")
    rows = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in text.split("\n")[4:]
    }
    assert list(rows) == ["0.25", "0.5", "1", "2"]  # nobody gets to 4 nats
    assert text.startswith("V_8 at equal KL")
    for name, (grpo, tea, difference) in rows.items():
        nats, root = float(name), float(name) ** 0.5
        assert grpo.startswith(f"{1.5 + 2.0 * root:.2f} [")
        if nats > 1.5:
            assert (tea, difference) == ("", "")  # tea stays below 1.5
        else:
            assert tea.startswith(f"{1.5 + 3.0 * root:.2f} [")
            assert difference.startswith(f"{root:+.2f} [")  # 3 - 2 a nat, where the steps' difference is negative


def test_a_prompt_without_v_n_does_not_hide_the_method(config, fill) -> None:
    found = methods(config, fill, lambda training, step: SPEED[training.estimator] * step)
    found["tea"].rows[0][2]["v_n"][0] = [np.nan] * 4
    text = equal_kl_table(found, budget=8, reference="grpo")
    assert text.split("\n")[6].split("|")[3].strip().startswith("5.00 [")  # at 1 nat the mean of three prompts, 2 + 3


def test_unknown_kl_is_said(config, fill) -> None:
    found = methods(config, fill, lambda training, step: np.nan)
    assert equal_kl_table(found, budget=8, reference="grpo").startswith("No comparison at equal KL")


def test_the_figure_is_drawn(config, fill, tmp_path) -> None:
    found = methods(config, fill, lambda training, step: SPEED[training.estimator] * step)
    save_frontier(found, tmp_path / "frontier", budget=8, reference="grpo")
    assert (tmp_path / "frontier.png").stat().st_size > 10_000
    assert min(KL_VALUES) > 0
