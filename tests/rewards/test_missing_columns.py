"""A reward that needs a column which the data lack is told from one that gets all it needs, whatever form it has."""

import functools
from typing import Any

import pytest

from tailgrad.rewards.reward import check_columns, reward_name


class Judge:
    """A callable object."""

    def __call__(self, completions: list[str], answer: list[str], **columns: Any) -> list[float]:
        return [1.0] * len(completions)


async def later(completions: list[str], answer: list[str], **columns: Any) -> list[float]:
    return [1.0] * len(completions)


def exact(completions: list[str], answer: list[str], **columns: Any) -> list[float]:
    return [float(text == right) for text, right in zip(completions, answer, strict=True)]


@functools.wraps(exact)
def gives_the_answer(completions: list[str], **columns: Any) -> list[float]:
    return exact(completions, ["4"] * len(completions))


NEEDS_NO_ANSWER = {
    "what it wraps does": gives_the_answer,
    "bound": functools.partial(exact, answer=["4"]),
    "default": lambda completions, answer=None, **columns: [0.0],
    "columns": lambda **columns: [0.0],
    "all by name": lambda prompts, completions, topic=None, completion_ids=None: [0.0],
    "compiled": max,
}


@pytest.mark.parametrize("reward", NEEDS_NO_ANSWER.values(), ids=NEEDS_NO_ANSWER)
def test_a_reward_that_gets_all_it_needs_is_taken(reward: Any) -> None:
    check_columns(reward, ["topic"], "the data")


@pytest.mark.parametrize("reward", [exact, later, Judge(), functools.partial(exact, [])], ids=reward_name)
def test_a_column_that_a_reward_needs_is_missed(reward: Any) -> None:
    with pytest.raises(ValueError, match="needs 'answer', which is no column of the data; there is: topic"):
        check_columns(reward, ["topic"], "the data")
    check_columns(reward, ["answer"], "the data")


TAKES_TOO_LITTLE = {
    "no prompts": lambda completions, topic=None: [0.0],
    "no tokens": lambda prompts, completions, topic=None: [0.0],
    "no column": lambda prompts, completions, completion_ids=None: [0.0],
    "by place only": lambda prompts, completions, topic=None, /: [0.0],
}


@pytest.mark.parametrize("reward", TAKES_TOO_LITTLE.values(), ids=TAKES_TOO_LITTLE)
def test_a_reward_that_does_not_take_all_it_is_passed_is_refused(reward: Any) -> None:
    with pytest.raises(ValueError, match=r"does not take '\w+', and is called with prompts, completions, co"):
        check_columns(reward, ["topic"], "the data")
    with pytest.raises(TypeError):  # which is what it would come to
        reward(prompts=["2 + 2"], completions=["4"], completion_ids=[[7]], topic=["sums"])
