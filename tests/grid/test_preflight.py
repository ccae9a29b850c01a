"""What a grid refuses before its first command, and what it only finds in what a training has left."""

import json
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tailgrad.grid import GridConfig, read_grid, run_grid
from tailgrad.grid.commands import sampling_job, scoring_job, train_options, training_job
from tailgrad.grid.preflight import check_start
from tailgrad.grid.run import _row
from tailgrad.grid.trainings import Measurement, trials
from tailgrad.quickstart.task import build_prompts
from tailgrad.rollouts.generation import TRAINING_RECORD

TRAIN = {"max_steps": 4, "max_completion_length": 6, "use_cpu": True, "bf16": False, "gradient_checkpointing": False}


@pytest.fixture
def ready(write_grid, policy: Path, tmp_path: Path) -> Callable[..., GridConfig]:
    """A grid whose policy and prompts are there, with changes."""

    def make(**changes: Any) -> GridConfig:
        shutil.copytree(policy, tmp_path / "policy", dirs_exist_ok=True)
        for name, count in {"train": 8, "choose": 3, "test": 5}.items():
            rows = build_prompts("train")[:count]
            (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (tmp_path / "none.jsonl").write_text("")
        return read_grid(write_grid(tmp_path, train=TRAIN | changes.pop("train", {}), **changes))

    return make


def test_a_grid_that_can_start(ready, tmp_path: Path) -> None:
    (tmp_path / "verifiers.py").write_text("raise RuntimeError('imported')")
    check_start(ready(rewards={"own": "verifiers.score", "named": "accuracy_reward"}, estimators=["grpo"]))
    check_start(ready(prompts_per_step=8, per_device_train_batch_size=16, sample={"max_completion_length": 3}))


FILES = {"train": "train.jsonl", "choose": "choose.jsonl", "test": "test.jsonl"}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"prompts_per_step": 9}, r"prompts 'tasks' has 8 prompts to train on, and one batch of rollouts takes 9"),
    ({"prompts_per_step": 5, "train": {"steps_per_generation": 2}}, "has 8 prompts to train on, .* takes 10"),
    ({"m_and_n": [[8, 17]]}, r"m_and_n has N = 17, above test_n = 16: .*Give test_n: 17 or more"),
    ({"policies": {"tiny": "polcy/"}}, "policy 'tiny' 'polcy/': there is no such folder"),
    ({"policies": {"tiny": "nowhere"}}, "prompts 'tasks', train: policy 'nowhere' is not a local folder"),
    ({"rewards": {"judge": "./judge"}}, "reward 'judge' './judge': there is no such folder"),
    ({"rewards": {"judge": "jugde.score"}}, "reward 'judge': 'jugde.score' names a function, and there is no module"),
    ({"also_score": {"other": "jugde:score"}}, "reward 'other': 'jugde:score' names a function"),
    ({"prompts": {"tasks": FILES | {"train": "tain.jsonl"}}}, "prompts 'tasks', train: data set .*tain.jsonl'"),
    ({"prompts": {"tasks": FILES | {"test": "none.jsonl"}}}, "prompts 'tasks', test: data set .*none.jsonl' is empty"),
    ({"prompts": {"tasks": FILES | {"choose": "x/y/z"}}}, "prompts 'tasks', choose: data set .*x/y/z'"),
    ({"train": {"max_completion_lenght": 9}}, "train has the option .* did you mean 'max_completion_length'"),
    ({"train": {"config": "other.yaml"}}, "the grid sets config itself"),
    ({"train": {"temperature": "warm"}}, "train, for grpo with m = 8: .*invalid float value: 'warm'"),
    ({"train": {"advantage_scaling": "bach"}}, "advantage_scaling = 'bach' is unknown"),
    ({"train": {"loss_type": ["a", "b"]}}, "train, for grpo with m = 8: "),
    ({"train": {"num-iterations": 2}}, "train has the option 'num-iterations', .* did you mean 'num_iterations'"),
    ({"train": {"num_iterations": 2}}, "checkpoint 1 lies amid a batch of rollouts, which serves 2 backward passes"),
    ({"sample": {"reward_batch_size": 2}}, "reward_batch_size without a reward model"),
    ({"train": {"reward_dtype": "bfloat16"}}, "reward_dtype without a reward model"),
    ({"results": "policy"}, "policy' is a folder; name a file"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_would_fail_after_hours_is_refused_before_the_first_command(
    ready, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str
) -> None:
    def never(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a command was started")

    monkeypatch.setattr("tailgrad.grid.run.run_side_by_side", never)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run_grid(ready(**changes))


def test_only_a_reward_model_gets_its_options_and_a_url_the_size_of_a_batch(ready) -> None:
    rewards = {"model": "./policy", "own": "json.loads", "there": "http://localhost:1/score"}
    sample = {"reward_batch_size": 3, "reward_dtype": "bfloat16", "reward_timeout": 5.0, "max_completion_length": 3}
    config = ready(rewards=rewards, train={"reward_max_length": 64}, sample=sample)
    check_start(config)
    got = {}
    for training in trials(config):
        given = training_job(config, training).argv
        measured, table = Measurement("choose", 4, 4, training.reward), Path("table.parquet")
        given += sampling_job(config, training, measured, table).argv
        given += scoring_job(config, training, measured, table, table).argv
        got[training.reward] = sorted(
            {word.removeprefix("--reward_") for word in given if word.startswith("--reward_")}
        )
    assert got == {
        "model": ["batch_size", "dtype", "max_length", "model_name_or_path", "timeout"],
        "own": ["funcs", "timeout"],
        "there": ["batch_size", "funcs", "timeout"],
    }


def test_a_step_has_its_prompts_however_it_is_divided(ready) -> None:
    """Rollouts of a pass x passes of a step = m x prompts of a step."""
    config = ready(prompts_per_step=6, per_device_train_batch_size=4, m_and_n=[[8, 64], [16, 64]])
    for training in trials(config):
        options = train_options(config, training)
        size, passes = options["per_device_train_batch_size"], options["gradient_accumulation_steps"]
        assert (size, size * passes) == (4, training.m * 6)
    whole = train_options(ready(prompts_per_step=6), trials(config)[0])
    assert (whole["per_device_train_batch_size"], whole["gradient_accumulation_steps"]) == (48, 1)


@pytest.mark.parametrize(
    ("train", "checkpoints", "often"),
    [
        ({"max_steps": 100}, [33], 10),
        ({"max_steps": 5}, [], 1),
        ({"max_steps": 100, "num_iterations": 4}, [32], 8),
        ({"max_steps": 100, "num_iterations": 30}, [], 30),
        ({"max_steps": 100, "steps_per_generation": 3}, [33], 9),
    ],
)
def test_what_is_measured_is_saved_and_a_little_more_to_go_on_from(
    make_grid, train: dict[str, Any], checkpoints: list[int], often: int
) -> None:
    config = make_grid(train=train, checkpoints=checkpoints)
    words = training_job(config, trials(config)[0]).argv
    options = dict(pairwise(words))
    assert options["--save_steps"] == str(often)
    start = words.index("--save_at_steps") + 1
    assert words[start : start + len(checkpoints) + 1] == [*map(str, checkpoints), str(train["max_steps"])]


@pytest.mark.parametrize(("found", "name"), [(8.0, "prompts_per_step"), (8.0, "prompts_a_step"), (None, "")])
def test_a_policy_that_was_trained_on_other_steps_gives_no_row(make_grid, found: float | None, name: str) -> None:
    config = make_grid()
    training = trials(config)[0]
    folder = config.work / "models" / training.label(config) / "checkpoint-2"
    folder.mkdir(parents=True)
    (folder / TRAINING_RECORD).write_text(json.dumps({name: found} if found else {}))
    with pytest.raises(ValueError, match=rf"trained with {found or 'an unknown number of'} prompts per step.* = 2\."):
        _row(config, training, Measurement("test", 2, 16, "verifier"), config.work / "none.parquet")
