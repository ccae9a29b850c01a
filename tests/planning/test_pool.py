"""Which rewards a plan uses, and what it says of the others."""

import numpy as np
import pytest

from tailgrad.planning import pool as under_test
from tailgrad.planning.pool import usable_pool


def table(prompts: int, n: int) -> np.ndarray:
    """Rewards that tell where they stand: prompt and response."""
    return np.arange(prompts)[:, None] + np.arange(n)[None, :] / 1000


def test_prompts_that_are_drawn_are_different_ones_and_those_of_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "LARGEST", 16 * 1024)
    rewards = table(64, 1024)
    found = usable_pool(rewards, 4)
    assert found.rewards.shape == (16, 1024)
    assert sorted(set(found.prompts.tolist())) == found.prompts.tolist()
    assert np.array_equal(found.rewards, rewards[found.prompts])
    assert found.notes[0] == "16 of 64 prompts are used, drawn at random: more change little."
    assert np.array_equal(usable_pool(rewards, 4).prompts, found.prompts)
    assert not np.array_equal(usable_pool(rewards, 4, seed=1).prompts, found.prompts)
    assert usable_pool(rewards, 4).prompts.tolist() != list(range(16))


@pytest.mark.parametrize(
    ("prompts", "scored", "deploy_n", "largest", "expected"),
    [
        (4, 7, 2, 28, (6, 4)),  # all of them, less the odd one
        (4, 3000, 2, 11_999, (2998, 4)),  # none fewer than a share of the largest, an even number
        (8, 3000, 2, 11_999, (1498, 8)),
        (16, 3000, 2, 11_999, (1024, 11)),  # but 1,024 at least
        (16, 3000, 300, 11_999, (1200, 9)),  # or 4 N
        (16, 3000, 700, 3000, (2800, 2)),  # and two prompts at least
    ],
)
def test_shares(prompts: int, scored: int, deploy_n: int, largest: int, expected, monkeypatch) -> None:
    monkeypatch.setattr(under_test, "LARGEST", largest)
    assert under_test._shares(prompts, scored, deploy_n) == expected


def test_the_first_scored_responses_are_used() -> None:
    rewards = table(3, 8)
    rewards[0, :2] = rewards[1, 3] = rewards[1, 6] = np.nan
    found = usable_pool(rewards, 3)
    assert found.rewards.tolist() == [
        rewards[0, 2:].tolist(),
        rewards[1, [0, 1, 2, 4, 5, 7]].tolist(),
        rewards[2, :6].tolist(),
    ]
    assert found.notes == ["The first 6 scored responses of each prompt are used, of up to 8."]
    assert found.rewards.dtype == np.float64


def test_nothing_is_said_where_everything_is_used() -> None:
    found = usable_pool(table(2, 4).astype(np.float32), 2)
    assert found.notes == []
    assert found.rewards.dtype == np.float64


def test_prompts_without_enough_are_counted() -> None:
    rewards = table(5, 4)
    rewards[[1, 3], 0] = np.nan
    found = usable_pool(rewards, 2)
    assert found.prompts.tolist() == [0, 2, 4]
    assert found.notes == ["2 of 5 prompts are left out: they have fewer than 2 N scored responses."]


@pytest.mark.parametrize(
    ("scored", "told"),
    [
        ([9, 7, 5], "the second best has 7). Sample more, or take deploy_n = 3 or less."),
        ([9, 4, 0], "the second best has 4). Sample more, or take deploy_n = 2 or less."),
        ([9, 3, 3], "the second best has 3). Sample more."),
    ],
)
def test_too_few_responses_say_which_n_there_are_enough_for(scored: list[int], told: str) -> None:
    rewards = table(len(scored), 10)
    for row, count in zip(rewards, scored, strict=True):
        row[count:] = np.nan
    with pytest.raises(ValueError, match="deploy_n = 5 needs 2 N = 10 scored responses per prompt") as error:
        usable_pool(rewards, 5)
    assert str(error.value).endswith(told)


@pytest.mark.parametrize("deploy_n", [1, 0])
def test_n_is_two_at_least(deploy_n: int) -> None:
    assert usable_pool(table(2, 4), 2).rewards.shape == (2, 4)
    with pytest.raises(ValueError, match=f"deploy_n = {deploy_n} must be at least 2"):
        usable_pool(table(2, 4), deploy_n)


@pytest.mark.parametrize(
    ("at_best", "full"),
    [(1, 0), (2, 0), (3, 2)],  # of 8 responses, with N = 8: on average so many of N have the largest reward
)
def test_prompts_whose_best_is_common_are_told(at_best: int, full: int) -> None:
    rewards = np.tile(np.arange(16.0), (2, 1))
    rewards[:, 16 - 2 * at_best :] = 20.0
    notes = usable_pool(rewards, 8).notes
    assert [note.split(" prompts")[0] for note in notes] == ([f"At {full} of 2"] if full else [])


def test_equal_rewards_are_told_per_prompt() -> None:
    rewards = table(3, 4)
    rewards[1] = 7.0
    assert usable_pool(rewards, 2).notes == [
        "1 of 3 prompts have equal rewards, and no signal; they count as they are."
    ]
