"""V_N at equal KL."""

import numpy as np
import pytest

from tailgrad.grid.choosing import chosen_trainings
from tailgrad.grid.frontier import (
    KL_VALUES,
    _best_so_far,
    best_within_kl,
    equal_kl_table,
    on_shared_prompts,
    over_rates,
    over_steps,
    save_frontier,
    value_at_kl,
    without_start,
)
from tailgrad.grid.gather import methods_of, settings
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
    assert np.isnan(value_at_kl(kl[:, 1:2], v_n[:, :, 1:2], 3.9)).all()  # before the first point
    assert value_at_kl(kl[:, 1:2], v_n[:, :, 1:2], 4.0).item() == 10.0
    assert np.isnan(value_at_kl(np.full((1, 2), np.nan), np.ones((1, 1, 2)), 1.0)).all()


def test_the_best_within_a_kl_is_that_of_a_fine_search() -> None:
    generator = np.random.default_rng(1)
    kl = 0.5 + generator.random((3, 5)).cumsum(axis=1)
    v_n = generator.normal(size=(3, 7, 5))
    for wanted in np.linspace(0.4, kl.max() + 0.2, 40):
        found = best_within_kl(kl, v_n, wanted)
        for seed in range(3):
            inside = [at for at in (*kl[seed], *np.linspace(0.5, wanted, 300)) if at <= wanted]
            tried = [value_at_kl(kl[[seed]], v_n[[seed]], at)[0] for at in inside]
            best = max((values.mean() for values in tried if not np.isnan(values).any()), default=np.nan)
            assert found[seed].mean() == pytest.approx(best, abs=1e-12, nan_ok=True)


def test_the_best_within_a_kl_leaves_out_what_went_further_and_reached_less() -> None:
    kl, v_n = np.array([[1.0, 4.0, 16.0]]), np.array([[[5.0, 6.0, 2.0], [5.0, 7.0, 3.0]]])
    np.testing.assert_array_equal(best_within_kl(kl, v_n, 9.0), [[6.0, 7.0]])
    np.testing.assert_array_equal(best_within_kl(kl, v_n, 99.0), [[6.0, 7.0]])  # beyond the last point
    np.testing.assert_array_equal(best_within_kl(kl, v_n, 2.25), [[5.5, 6.0]])  # half way in the root
    np.testing.assert_array_equal(best_within_kl(kl, v_n, 0.9), [[np.nan, np.nan]])
    assert np.isnan(best_within_kl(np.full((1, 2), np.nan), np.ones((1, 1, 2)), 1.0)).all()
    v_n[0, 0, 1] = np.nan  # a prompt without V_N: the mean of the others is 7, and not 3.5
    np.testing.assert_array_equal(best_within_kl(kl, v_n, 9.0), [[np.nan, 7.0]])


SPEED = {"grpo": 1.0, "tea": 0.5, BASE: 0.0}
GAIN = {"grpo": 2.0, "tea": 3.0, BASE: 0.0}


def value(training, step, scored_by):
    """V_N that rises by GAIN with the square root of KL, at every N alike, and a level by prompt."""
    kl = SPEED[training.estimator] * step
    return np.arange(4.0)[:, None] + GAIN[training.estimator] * np.sqrt(kl) + np.zeros((4, 5))


def methods(config, fill, kl):
    rows = fill(config, value, kl)
    found = {row["key"]: row for row in rows}
    return methods_of(config, settings(config)[0], chosen_trainings(config, rows), found), found


FROM_HALF_TO_FOUR = ["0.5", "0.7", "1", "1.4", "2", "2.8", "4"]


def cells(text):
    """The means of a table by the first cell of their row; None where a cell is empty."""
    lines = [line for line in text.split("\n") if line.startswith("|")][2:]
    rows = {line.split("|")[1].strip(): [cell.split() for cell in line.split("|")[2:-1]] for line in lines}
    return {name: [float(cell[0]) if cell else None for cell in row] for name, row in rows.items()}


@pytest.fixture
def config(make_grid):
    return make_grid(train={"max_steps": 4}, checkpoints=[1, 2])


def test_the_table_compares_at_equal_kl_and_only_between_measured_points(config, fill) -> None:
    found, _ = methods(config, fill, lambda training, step: SPEED[training.estimator] * step)
    points = over_steps(found, 8)
    np.testing.assert_allclose(points["tea"][0], [[0.0, 0.5, 1.0, 2.0]] * 2)
    np.testing.assert_allclose(points["tea"][1].mean(axis=1), 1.5 + 3.0 * np.sqrt(points["tea"][0]))
    rows = cells(equal_kl_table(without_start(points), budget=8, reference="grpo"))
    assert list(rows) == FROM_HALF_TO_FOUR
    for name, (grpo, tea, difference) in rows.items():
        kl, root = float(name), float(name) ** 0.5
        with_grpo, with_tea = 1 <= kl <= 4, 0.5 <= kl <= 2  # where they were measured
        assert grpo == (pytest.approx(1.5 + 2.0 * root, abs=0.051) if with_grpo else None)  # one decimal
        assert tea == (pytest.approx(1.5 + 3.0 * root, abs=0.051) if with_tea else None)
        assert difference == (pytest.approx(root, abs=0.00051) if with_grpo and with_tea else None)  # three


def test_learning_rates_give_points_too(config, fill) -> None:
    chosen, found = methods(config, fill, lambda training, step: SPEED[training.estimator] * step)
    for row in found.values():
        if row["split"] == "choose":  # the higher rate, which the grid names last, moves a quarter as far
            kl = SPEED[row["estimator"]] * row["step"] * (0.25 if row["learning_rate"] > 0.01 else 1)
            values = np.arange(4.0)[:, None] + GAIN[row["estimator"]] * np.sqrt(kl) + np.zeros((4, 4))
            row |= {"kl": [kl] * 4, "v_n": values.tolist()}
    points, at = over_rates(config, chosen, found, 8)
    assert at == 8
    assert set(points) == {"grpo", "tea"}
    np.testing.assert_allclose(points["tea"][0], [[0.5, 2.0]])  # 4 steps at each of two rates, by increasing KL
    np.testing.assert_allclose(points["tea"][1].mean(axis=1), 1.5 + 3.0 * np.sqrt(points["tea"][0]))
    table = cells(equal_kl_table(points, budget=8, reference="grpo"))
    assert list(table) == FROM_HALF_TO_FOUR
    assert table["2"][2] == pytest.approx(2**0.5, abs=1e-3)  # (3 - 2) sqrt(2)
    assert table["4"][1:] == [None, None]
    table = cells(equal_kl_table(points, budget=8, reference="grpo", read=best_within_kl))
    assert list(table) == FROM_HALF_TO_FOUR
    assert table["2"][2] == pytest.approx(2**0.5, abs=1e-3)
    assert table["4"][2] == pytest.approx(
        3 * 2**0.5 - 4, abs=1e-3
    )  # TEA has 3 sqrt(2) from 2 nats on, GRPO 2 sqrt(4) at 4
    del found[next(key for key, row in found.items() if row["split"] == "choose" and row["estimator"] == "tea")]
    assert set(over_rates(config, chosen, found, 8)[0]) == {"grpo"}


def test_a_prompt_without_v_n_does_not_hide_the_method(config, fill) -> None:
    found, _ = methods(config, fill, lambda training, step: SPEED[training.estimator] * step)
    found["tea"].rows[0][2]["v_n"][0] = [np.nan] * 4
    table = cells(equal_kl_table(over_steps(found, 8), budget=8, reference="grpo"))
    assert table["1"][1] == 5.0  # the mean of three prompts, 2 + 3


def test_all_points_are_means_over_the_same_prompts(config, fill) -> None:
    """One unknown value leaves its prompt out everywhere: else the best within a KL could fall as the KL grows."""
    found, _ = methods(config, fill, lambda training, step: SPEED[training.estimator] * step)
    whole = over_steps(found, 8)
    found["tea"].rows[0][2]["v_n"][0] = [np.nan] * 4
    points, who = on_shared_prompts(over_steps(found, 8), 8)
    assert who == "Over the 3 of 4 prompts that have 8 scored responses at every point."
    for name, (kl, v_n) in points.items():
        np.testing.assert_array_equal(v_n, whole[name][1][:, 1:])
        np.testing.assert_array_equal(kl, whole[name][0])
    assert on_shared_prompts(whole, 8) == (whole, "")
    for prompt in (1, 2):
        found["grpo"].rows[1][1]["v_n"][prompt] = [np.nan] * 4
    points, who = on_shared_prompts(over_steps(found, 8), 8)
    assert points == {}
    assert who == "No V_8 against KL: there are only 1 of 4 prompts that have 8 scored responses at every point."


def test_learning_rates_are_shown_at_the_largest_n_that_was_sampled_for_them(config, fill) -> None:
    chosen, found = methods(config, fill, lambda training, step: SPEED[training.estimator] * step)
    points, at = over_rates(config, chosen, found, 256)
    assert at == 8
    np.testing.assert_array_equal(points["tea"][1], over_rates(config, chosen, found, 8)[0]["tea"][1])
    assert over_rates(config, {}, found, 8) == ({}, 8)


def test_unknown_kl_is_said(config, fill) -> None:
    found, _ = methods(config, fill, lambda training, step: np.nan)
    assert equal_kl_table(over_steps(found, 8), budget=8, reference="grpo").startswith("No V_8: no method has")


def test_the_figure_is_drawn(config, fill, tmp_path) -> None:
    found, rows = methods(config, fill, lambda training, step: SPEED[training.estimator] * step)
    panels = {"over steps": over_steps(found, 8), "over rates": over_rates(config, found, rows, 8)[0]}
    save_frontier(panels, tmp_path / "frontier", budget=8, reference="grpo", unordered=["over rates"])
    assert (tmp_path / "frontier.png").stat().st_size > 10_000


def test_the_line_of_unordered_points_goes_through_the_best_so_far() -> None:
    assert _best_so_far(np.array([2.0, 1.0, np.nan, 2.0, 3.0])).tolist() == [True, False, False, False, True]


def test_kl_values_are_half_octaves() -> None:
    np.testing.assert_allclose(KL_VALUES, 0.25 * 2 ** (np.arange(len(KL_VALUES)) / 2), rtol=0.03)
