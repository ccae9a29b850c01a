"""The default batch follows `num_generations`; one that was given and does not fit is told what would."""

import re

import pytest
from trl import GRPOConfig

from tailgrad.training import TailGRPOConfig

NOTHING = {"use_cpu": True, "bf16": False, "report_to": "none", "gradient_checkpointing": False}


@pytest.fixture
def make(tmp_path):
    def config(**given: object) -> TailGRPOConfig:
        return TailGRPOConfig(str(tmp_path / "out"), estimator="grpo", **NOTHING | given)

    return config


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, 8),
        ({"num_generations": 4}, 8),
        ({"num_generations": 16}, 16),
        ({"num_generations": 12}, 12),
        ({"num_generations": 16, "gradient_accumulation_steps": 2}, 8),
        ({"num_generations": 16, "steps_per_generation": 4}, 8),
        ({"num_generations": 16, "generation_batch_size": 64}, 8),
        ({"num_generations": 6, "generation_batch_size": 12}, 6),
        ({"num_generations": 3, "generation_batch_size": 15}, 3),
        ({"num_generations": 16, "per_device_train_batch_size": 32}, 32),
    ],
)
def test_the_default_batch_holds_whole_groups_and_is_trls_where_that_does(make, given, expected) -> None:
    config = make(**given)
    assert config.per_device_train_batch_size == expected
    assert config.generation_batch_size % config.num_generations == 0


def test_the_default_batch_counts_processes() -> None:
    from tailgrad.training.batches import train_batch_size

    config = GRPOConfig("out", **NOTHING)
    config.num_generations, config.generation_batch_size, config.steps_per_generation = 16, None, None
    config.per_device_train_batch_size = None
    assert (train_batch_size(config, 1), train_batch_size(config, 2), train_batch_size(config, 3)) == (16, 8, 16)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"num_generations": 16, "per_device_train_batch_size": 8},
            "--per_device_train_batch_size 16 or --gradient_accumulation_steps 2",
        ),
        (
            {"num_generations": 16, "per_device_train_batch_size": 20, "steps_per_generation": 2},
            "--per_device_train_batch_size 24 or --steps_per_generation 4",
        ),
        ({"num_generations": 16, "generation_batch_size": 24}, "--generation_batch_size 32"),
        (
            {"num_generations": 16, "generation_batch_size": 64, "per_device_train_batch_size": 24},
            "--generation_batch_size 96",
        ),
    ],
)
def test_a_batch_that_does_not_fit_names_options_and_values_that_do(make, given, words) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        make(**given)
    for option, value in re.findall(r"--(\w+) (\d+)", words):
        make(**given | {option: int(value)})


@pytest.mark.parametrize(
    "name",
    [
        *("per_device_train_batch_size", "generation_batch_size", "per_device_eval_batch_size", "num_generations_eval"),
        *("gradient_accumulation_steps", "steps_per_generation", "num_iterations"),
    ],
)
@pytest.mark.parametrize("size", [0, -8])
def test_a_size_below_one_is_refused(make, name, size) -> None:
    with pytest.raises(ValueError, match=f"^{name} = {size} must be at least 1, or left out"):
        make(**{"num_generations": 8, "generation_batch_size": 16} | {name: size})


@pytest.mark.parametrize("m", [1, 0, -8])
def test_a_group_of_less_than_two_is_refused(make, m) -> None:
    with pytest.raises(ValueError, match=f"^num_generations = {m} must be at least 2"):
        make(num_generations=m)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, 8),
        ({"num_generations": 16}, 16),
        ({"num_generations": 16, "num_generations_eval": 4}, 8),
        ({"num_generations_eval": 3}, 3),
        ({"per_device_eval_batch_size": 24}, 24),
    ],
)
def test_the_default_batch_of_an_evaluation(make, given, expected) -> None:
    config = make(**given | {"eval_strategy": "steps", "eval_steps": 1})
    assert config.per_device_eval_batch_size == expected


def test_a_batch_of_an_evaluation_that_does_not_fit(make) -> None:
    given = {"eval_strategy": "steps", "eval_steps": 1, "num_generations_eval": 6}
    with pytest.raises(ValueError, match=r"multiple of num_generations_eval = 6\. Use --per_device_eval_batch_size 12"):
        make(**given, per_device_eval_batch_size=8)
    assert make(per_device_eval_batch_size=3).per_device_eval_batch_size == 3  # no evaluation, as in TRL
