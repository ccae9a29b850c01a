"""The command that trains as planned, word by word; that `tailgrad train` takes it, tests/cli/test_cli_plan.py sees."""

import shlex
from typing import Any

import numpy as np
import pytest

from tailgrad.planning import make_plan, train_command
from tailgrad.planning.report import plan_markdown


def words_of(*, rollouts_per_step: int = 64, **table: Any) -> dict[str, str]:
    """Options of the command by name."""
    command = train_command("tea:center=true", 8, deploy_n=96, rollouts_per_step=rollouts_per_step, table=table)
    program, name, *words = shlex.split(command.replace("\\\n", " "))
    assert (program, name) == ("tailgrad", "train")
    return dict(zip(words[::2], words[1::2], strict=True))


def test_all_that_a_table_tells_is_in_the_command() -> None:
    sampling = {"n": 64, "temperature": 0.7, "top_p": 0.9, "top_k": 50, "min_p": 0.1, "repetition_penalty": 1.2}
    sampling |= {"max_new_tokens": 40, "no_repeat_ngram_size": 3}
    data = {"name": "my prompts.jsonl", "config": "main", "split": "test"}
    told = words_of(
        model="org/policy",
        dataset=data,
        reward="tailgrad.rewards.length",
        sampling=sampling,
        chat_template_kwargs={"enable_thinking": False},
    )
    assert told == {
        "--model_name_or_path": "org/policy",
        "--dataset_name": "my prompts.jsonl",
        "--dataset_config": "main",
        "--reward_funcs": "tailgrad.rewards.length",
        "--estimator": "tea:center=true",
        "--num_generations": "8",
        "--deploy_n": "96",
        "--temperature": "0.7",
        "--top_p": "0.9",
        "--top_k": "50",
        "--min_p": "0.1",
        "--repetition_penalty": "1.2",
        "--max_completion_length": "40",
        "--generation_kwargs": '{"no_repeat_ngram_size": 3}',
        "--chat_template_kwargs": '{"enable_thinking": false}',
        "--per_device_train_batch_size": "8",
        "--gradient_accumulation_steps": "8",
        "--output_dir": "policy",
    }


def test_revisions_columns_and_how_a_reward_model_reads_are_in_it_too() -> None:
    told = words_of(
        model="org/policy",
        revision="0f0f0f",
        dataset={"name": "org/prompts", "split": "test", "prompt_column": "question"},
        reward="org/judge@0123abc",
        reward_options={"max_length": 512, "input_format": "text", "dtype": "bfloat16", "batch_size": 4, "url": None},
    )
    assert {name: told[name] for name in told if "rev" in name or "column" in name or "reward" in name} == {
        "--model_revision": "0f0f0f",
        "--prompt_column": "question",
        "--reward_model_name_or_path": "org/judge",
        "--reward_revision": "0123abc",
        "--reward_max_length": "512",
        "--reward_dtype": "bfloat16",
        "--reward_input_format": "text",
    }
    plain = {"max_length": None, "input_format": "auto", "dtype": "float32"}
    told = words_of(revision="main", dataset={"prompt_column": "prompt"}, reward="org/judge", reward_options=plain)
    found = [name for name in told if "rev" in name or "column" in name or "reward" in name]
    assert found == ["--reward_model_name_or_path"]


@pytest.mark.parametrize(
    ("split", "words"), [("train", "It trains on the prompts of these"), ("test", "of its split 'test'"), (None, "It")]
)
def test_the_prompts_that_it_trains_on_are_said(split: str | None, words: str) -> None:
    plan = make_plan(np.random.default_rng(0).normal(size=(4, 64)), deploy_n=16, estimators=["tea"], m=[8])
    text = plan_markdown(plan, table={"dataset": {"name": "org/prompts", "split": split}})
    assert words in text
    assert "It trains on" not in plan_markdown(plan, table={})


def test_what_a_table_does_not_tell_stands_in_capitals_or_is_left_out() -> None:
    told = words_of(dataset={"config": None}, sampling={"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": None})
    names = ("--model_name_or_path", "--dataset_name", "--reward_funcs")
    assert [told.pop(name) for name in names] == ["MODEL", "PROMPTS", "REWARD"]
    assert set(told) == {
        *("--estimator", "--num_generations", "--deploy_n", "--output_dir"),
        *("--per_device_train_batch_size", "--gradient_accumulation_steps"),
    }


@pytest.mark.parametrize(
    ("reward", "expected"),
    [
        ("graded.score", ("--reward_funcs", "graded.score")),
        ("my_package.rewards.v2", ("--reward_funcs", "my_package.rewards.v2")),
        ("org/judge@0123abc", ("--reward_model_name_or_path", "org/judge")),
        ("/models/judge", ("--reward_model_name_or_path", "/models/judge")),
        ("0.5*a/b + 1*c", ("--reward_funcs", "REWARD")),
        ("fewest_tokens", ("--reward_funcs", "REWARD")),
    ],
)
def test_a_reward_is_a_function_a_model_or_yours_to_name(reward: str, expected: tuple[str, str]) -> None:
    told = words_of(reward=reward)
    assert (expected[0], told[expected[0]]) == expected
    assert len({"--reward_funcs", "--reward_model_name_or_path"} & set(told)) == 1


@pytest.mark.parametrize(
    ("rollouts_per_step", "at_once", "accumulated"), [(64, 8, 8), (30, 6, 5), (7, 7, 1), (11, 1, 11), (8, 8, 1)]
)
def test_backward_passes_make_up_the_step(rollouts_per_step: int, at_once: int, accumulated: int) -> None:
    told = words_of(rollouts_per_step=rollouts_per_step)
    assert told["--per_device_train_batch_size"] == str(at_once)
    assert told["--gradient_accumulation_steps"] == str(accumulated)
