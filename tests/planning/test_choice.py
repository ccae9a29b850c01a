"""What is chosen of given values, by hand."""

import numpy as np
import pytest

from tailgrad.planning.choice import choose
from tailgrad.statistics.jackknife import jackknife_interval


def values(*centres: float, noise: float = 1e-4) -> np.ndarray:
    """A row per value: of all prompts, then without each of eight; noise that does not cancel in differences."""
    apart = np.random.default_rng(0).standard_normal((len(centres), 8)) * noise
    return np.concatenate([np.array(centres)[:, None], np.array(centres)[:, None] + apart], axis=1)


@pytest.mark.parametrize(
    ("groups", "centres", "chosen"),
    [
        ([("tea", 32), ("tea", 8), ("tea", 16)], [0.5, 0.5, 0.5], 1),  # the smallest m
        ([("tea", 32), ("tea", 8), ("tea", 16)], [0.5, 0.4, 0.49], 2),  # that is within 5%
        ([("tea", 8), ("grpo", 16)], [0.5, 0.49], 1),  # the mean's where it is level
        ([("tea", 8), ("grpo", 16)], [0.5, 0.4], 0),
        ([("tea", 8), ("grpo", 16), ("grpo", 4)], [0.5, 0.49, 0.3], 1),  # and of it the m that is
    ],
)
def test_what_is_taken(groups: list[tuple[str, int]], centres: list[float], chosen: int) -> None:
    assert choose(groups, values(*centres)).chosen == chosen


def test_a_value_that_is_not_known_is_neither_best_nor_level() -> None:
    value = values(0.9, 0.5, 0.3)
    value[0, 4] = np.nan
    found = choose([("tea", 8), ("max_at_k:k=4", 8), ("grpo", 8)], value)
    assert (found.best, found.chosen, found.level.tolist()) == (1, 1, [False, True, False])


def test_the_value_of_all_prompts_counts_and_not_that_without_one() -> None:
    value = values(0.5, 0.4)
    value[1, 1] = 0.9
    assert choose([("tea", 8), ("max_at_k:k=4", 8)], value).best == 0


def test_differences_are_those_of_the_jackknife_to_what_was_chosen() -> None:
    value = values(0.5, 0.3, 0.45, noise=0.02)
    found = choose([("tea", 8), ("max_at_k:k=4", 8), ("cvar", 8)], value, seed=3)
    gap = value - value[found.chosen]
    expected = jackknife_interval(gap[:, 0], gap[:, 1:].T, seed=3)
    for name in ("mean", "low", "high"):
        assert np.array_equal(getattr(found.difference, name), getattr(expected, name))
    other = jackknife_interval(gap[:, 0], gap[:, 1:].T, seed=0)
    assert not np.array_equal(found.difference.low, other.low)
