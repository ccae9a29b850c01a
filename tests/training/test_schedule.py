"""When rollouts are generated and checkpoints written, compared with a walk through TRL's loop."""

import itertools
import re
from types import SimpleNamespace

import pytest
from datasets import Dataset
from trl.trainer.utils import RepeatSampler

from tailgrad.training.schedule import Schedule, check_schedule, unused_prompts


def arguments(**changes: object) -> SimpleNamespace:
    given = {
        "generation_batch_size": 16,
        "num_generations": 8,
        "steps_per_generation": 1,
        "num_iterations": 1,
        "gradient_accumulation_steps": 1,
        "max_steps": -1,
        "num_train_epochs": 3.0,
        "save_strategy": "steps",
        "save_steps": 500,
        "save_only_model": False,
        "save_at_steps": None,
        "shuffle_dataset": True,
    }
    return SimpleNamespace(**given | changes)


def rows(count: int) -> Dataset:
    return Dataset.from_dict({"prompt": ["a"] * count})


def walk(prompts: int, batch: int, reuse: int, accumulation: int, epochs: int) -> list[tuple[bool, int]]:
    """Per step: whether the pass that it begins with generates rollouts, and how many epochs are over."""
    sampler = RepeatSampler(range(prompts), mini_repeat_count=2, batch_size=batch, repeat_count=reuse)
    passes_per_epoch = len(list(sampler)) // (2 * batch)
    steps, passes = [], 0
    for epoch in range(epochs):
        for start in range(0, passes_per_epoch, accumulation):
            steps.append((passes % reuse == 0, epoch))
            passes += min(accumulation, passes_per_epoch - start)
    return steps


@pytest.mark.parametrize(("prompts", "batch"), [(6, 2), (7, 2), (9, 3), (2, 2)])
def test_the_schedule_is_that_of_the_loop(prompts: int, batch: int) -> None:
    for reuse, accumulation in itertools.product((1, 2, 3, 4, 6), (1, 2, 3, 4)):
        schedule = Schedule(prompts, batch, reuse, accumulation, -1, 3.0)
        expected = walk(prompts, batch, reuse, accumulation, epochs=3)
        assert schedule.total == len(expected)
        found = [(schedule.starts_a_batch(step), schedule.epochs_before(step)) for step in range(schedule.total)]
        assert found == expected


def test_max_steps_counts_before_epochs() -> None:
    assert Schedule.of(arguments(max_steps=5), rows(6)).total == 5
    assert Schedule.of(arguments(num_train_epochs=1.5), rows(6)).total == 5
    assert Schedule.of(arguments(max_steps=5), rows(6).to_iterable_dataset()).prompts is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"save_steps": 2, "num_iterations": 3}, "write checkpoint-2,.* Use --save_steps 3"),
        ({"save_steps": 4, "steps_per_generation": 3, "num_iterations": 2}, "checkpoint-4,.* Use --save_steps 6"),
        ({"save_steps": 0.5, "max_steps": 10, "num_iterations": 2}, "save_steps = 0.5 .*checkpoint-5,.* 6"),
        (
            {"save_steps": 1, "num_iterations": 4, "gradient_accumulation_steps": 2},
            "checkpoint-1,.* Use --save_steps 2",
        ),
    ],
)
def test_checkpoints_that_would_cut_a_batch_in_two_are_refused_with_one_that_works(changes, words) -> None:
    args = arguments(**changes)
    with pytest.raises(ValueError, match=words) as raised:
        check_schedule(Schedule.of(args, rows(6)), args)
    works = int(str(raised.value).rpartition("--save_steps ")[2].rstrip("."))
    check_schedule(Schedule.of(args, rows(6)), arguments(**changes | {"save_steps": works}))


@pytest.mark.parametrize(
    "changes",
    [
        {"num_iterations": 3},  # TRL's untouched save_steps = 500, and 27 steps
        {"num_iterations": 3, "save_steps": 500, "max_steps": 500},  # the last step's is never resumed
        {"num_iterations": 2, "save_steps": 5, "save_strategy": "no"},
        {"num_iterations": 2, "save_steps": 5, "save_strategy": "epoch"},
        {"num_iterations": 2, "save_steps": 5, "save_only_model": True},
        {"num_iterations": 2, "save_steps": 5, "gradient_accumulation_steps": 2},
        {"num_iterations": 2, "save_at_steps": [2, 4, 18]},
    ],
)
def test_checkpoints_that_are_not_written_or_not_resumed_are_not_refused(changes) -> None:
    args = arguments(**changes)
    check_schedule(Schedule.of(args, rows(6)), args)


def test_steps_to_save_at_are_held_to_the_same() -> None:
    args = arguments(num_iterations=2, save_at_steps=[2, 5])
    with pytest.raises(ValueError, match="save_at_steps has 5, in the middle of a batch of rollouts"):
        check_schedule(Schedule.of(args, rows(6)), args)


def test_fewer_prompts_than_a_batch_of_rollouts_takes_are_refused() -> None:
    args = arguments(generation_batch_size=64)
    with pytest.raises(ValueError, match=r"has 4 prompts, fewer than the 8 .*64 / num_generations 8"):
        check_schedule(Schedule.of(args, rows(4)), args)
    check_schedule(Schedule.of(args, rows(8)), args)


@pytest.mark.parametrize(
    ("changes", "count", "words"),
    [
        ({}, 7, None),
        ({"num_train_epochs": 1.0}, 7, "^1 of 7 prompts are never trained on"),
        ({"num_train_epochs": 1.0}, 6, None),
        ({"shuffle_dataset": False}, 7, "^The last 1 of 7 prompts are never trained on"),
    ],
)
def test_prompts_that_are_never_trained_on_are_said(changes, count, words) -> None:
    args = arguments(**changes)
    said = unused_prompts(Schedule.of(args, rows(count)), args)
    assert said is None if words is None else re.search(words, str(said))


@pytest.mark.parametrize("beyond", [-3, 0, 1])
def test_a_step_to_save_at_that_is_none_is_refused(beyond: int) -> None:
    total = Schedule.of(arguments(), rows(6)).total
    step = total + beyond if beyond > 0 else beyond
    args = arguments(save_at_steps=[2, step])
    with pytest.raises(
        ValueError, match=rf"save_at_steps has {step}, which is no step of this training: .* to {total}"
    ):
        check_schedule(Schedule.of(args, rows(6)), args)
