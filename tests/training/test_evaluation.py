"""What an evaluation logs: every row counts once, whatever the batches."""

import math
from typing import Any

import pytest

from tailgrad.training import TailGRPOConfig, TailGRPOTrainer
from tailgrad.training.batches import counted_twice


def worth(*, completions: list[Any], value: list[float], **_: Any) -> list[float]:
    """The reward is a column of the data."""
    return [float(one) for one in value]


@pytest.mark.parametrize("drawn", [1, 4, 8])
@pytest.mark.parametrize("rows", [8, 9])
def test_every_row_counts_once(policy, prompts, options, drawn: int, rows: int) -> None:
    data = prompts.select(range(rows)).add_column("value", [0.0] * (rows - 1) + [90.0])
    given = {"eval_strategy": "steps", "eval_steps": 1, "num_generations_eval": drawn, "num_generations": 8}
    args = TailGRPOConfig(**options(max_steps=1, **given), estimator="grpo")
    trainer = TailGRPOTrainer(str(policy), worth, args, data, data)
    for _ in range(2):
        metrics = trainer.evaluate()
        assert metrics["eval_reward"] == pytest.approx(90.0 / rows)
        assert metrics["eval_rewards/worth/mean"] == pytest.approx(90.0 / rows)
        if drawn > 1:
            assert metrics[f"eval_tail/best_of_{drawn}"] == pytest.approx(90.0 / rows)


def test_unscored_batches_do_not_count(policy, prompts, options) -> None:
    data = prompts.select(range(9)).add_column("value", [math.nan] * 8 + [90.0])
    given = {"eval_strategy": "steps", "eval_steps": 1, "num_generations_eval": 1, "num_generations": 8}
    args = TailGRPOConfig(**options(max_steps=1, **given), estimator="grpo")
    assert TailGRPOTrainer(str(policy), worth, args, data, data).evaluate()["eval_reward"] == 90.0


def test_rows_that_several_processes_count_twice_are_said(options) -> None:
    given = {"eval_strategy": "steps", "eval_steps": 1, "num_generations_eval": 4, "per_device_eval_batch_size": 8}
    args = TailGRPOConfig(**options(**given))
    assert counted_twice(args, [0] * 8, 1) is None
    assert counted_twice(args, [0] * 8, 2) is None
    assert counted_twice(args, iter([0]), 2) is None
    said = counted_twice(args, [0] * 9, 2)
    assert said is not None
    assert said.startswith("The evaluation has 9 rows, and 2 processes take 4 at a time: 3 rows from its start count")
