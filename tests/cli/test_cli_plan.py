"""`tailgrad plan`: what it prints and writes, that its command trains, and what it refuses."""

import json
import shlex
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest

from tailgrad.cli.main import main
from tailgrad.estimators import parse_estimator
from tailgrad.planning import train_command
from tailgrad.rollouts.table import write_table
from tailgrad.training.launch import make_parser

PROMPTS, N = 6, 128


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rollout table with its metadata."""
    rows = [(prompt, index) for prompt in range(PROMPTS) for index in range(N)]
    columns = {
        "prompt_id": [prompt for prompt, _ in rows],
        "prompt": [f"prompt {prompt}" for prompt, _ in rows],
        "response": ["a"] * len(rows),
        "response_index": [index for _, index in rows],
        "reward": np.random.default_rng(5).normal(size=len(rows)).tolist(),
        "num_tokens": [1] * len(rows),
        "finished": [True] * len(rows),
        "logprob": [-1.0] * len(rows),
        "reference_logprob": [None] * len(rows),
    }
    metadata = {"model": "org/policy", "dataset": {"name": "my prompts.jsonl"}, "reward": "org/judge@0123abc"}
    path = tmp_path_factory.mktemp("table") / "rollouts.parquet"
    write_table(path, columns, metadata)
    return path


def test_prints_what_it_writes(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--deploy_n", "32", "--estimators", "tea", "max_at_k:k=4", "--num_generations", "8", "16"]
    assert main(["plan", str(table), "--out", str(tmp_path), *asked, "--rollouts_per_step", "64"]) == 0
    printed = capsys.readouterr().out
    assert (tmp_path / "plan.md").read_text() in printed
    assert str(tmp_path / "plan.{png,svg,md,json}") in printed
    assert (tmp_path / "plan.png").stat().st_size > 10_000
    assert "</svg>" in (tmp_path / "plan.svg").read_text()

    def no_constant(text: str) -> None:
        raise AssertionError(f"{text} is not JSON")

    document = json.loads((tmp_path / "plan.json").read_text(), parse_constant=no_constant)
    assert (document["prompts"], document["n"], document["deploy_n"]) == (PROMPTS, N, 32)
    found = [(row["estimator"], row["m"], row["prompts_per_step"]) for row in document["rows"]]
    assert found == [(name, m, 64 // m) for m in (8, 16) for name in ("grpo", "tea", "max_at_k:k=4")]
    assert document["command"] in printed
    assert "name others to train on" in printed
    words = shlex.split(document["command"].replace("\\\n", " "))
    assert words[2:8] == [
        *("--model_name_or_path", "org/policy", "--dataset_name", "my prompts.jsonl"),
        *("--reward_model_name_or_path", "org/judge"),
    ]


@pytest.mark.parametrize(
    ("m", "rollouts_per_step", "reward"),
    [(16, 128, None), (64, 64, "tailgrad.rewards.length"), (6, 30, "0.5*a + 1*b"), (7, 7, "/models/judge")],
)
def test_the_command_is_one_that_train_takes(m: int, rollouts_per_step: int, reward: str | None) -> None:
    text = "tea:center=true,tail_fraction=1"
    table = {"model": "org/policy", "dataset": {"name": "prompts", "config": "main", "prompt_column": "question"}}
    table |= {"reward": reward, "revision": "0f0f0f", "reward_options": {"max_length": 9, "input_format": "text"}}
    command = train_command(text, m, deploy_n=96, rollouts_per_step=rollouts_per_step, table=table)
    program, name, *words = shlex.split(command.replace("\\\n", " "))
    assert (program, name) == ("tailgrad", "train")
    parts = make_parser().read(words)
    (config,) = (part for part in parts if hasattr(part, "estimator"))
    assert (config.num_generations, config.deploy_n) == (m, 96)
    assert parse_estimator(config.estimator) == parse_estimator(text)
    assert config.per_device_train_batch_size * config.gradient_accumulation_steps == rollouts_per_step
    (model,) = (part for part in parts if hasattr(part, "model_name_or_path"))
    assert model.model_name_or_path == "org/policy"


def test_the_command_samples_as_the_table_was() -> None:
    sampling = {"n": 64, "temperature": 0.7, "top_p": 1.0, "top_k": 0, "max_new_tokens": 40}
    sampling |= {"min_p": 0.1, "repetition_penalty": None, "no_repeat_ngram_size": 3}
    table = {"sampling": sampling, "chat_template_kwargs": {"enable_thinking": False}}
    command = train_command("grpo", 8, deploy_n=64, rollouts_per_step=64, table=table)
    parts = make_parser().read(shlex.split(command.replace("\\\n", " "))[2:])
    (config,) = (part for part in parts if hasattr(part, "estimator"))
    assert (config.temperature, config.min_p, config.max_completion_length) == (0.7, 0.1, 40)
    assert config.generation_kwargs == {"no_repeat_ngram_size": 3}
    assert config.chat_template_kwargs == {"enable_thinking": False}
    assert "--top" not in command
    assert "--repetition_penalty" not in command


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--deploy_n", "65"], "needs 2 N = 130 scored responses per prompt"),
        (["--deploy_n", "32", "--fidelity", "none.json"], "fidelity report 'none.json': there is no such file"),
        (["--deploy_n", "32", "--num_generations", "12"], "does not hold whole groups"),
        (["--deploy_n", "32", "--reward_column", "score"], "cannot be chosen"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["plan", str(table), "--out", str(tmp_path / "out"), *options]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_rewards_from_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"{prompt},{reward:.3f}" for prompt in "abc" for reward in np.random.default_rng(ord(prompt)).random(32)]
    (tmp_path / "mine.csv").write_text("\n".join(["question,grade", *lines]) + "\n")
    columns = ["--prompt_column", "question", "--reward_column", "grade", "--deploy_n", "16"]
    assert main(["plan", str(tmp_path / "mine.csv"), "--out", str(tmp_path), *columns, "--num_generations", "8"]) == 0
    assert "--model_name_or_path MODEL --dataset_name PROMPTS --reward_funcs REWARD" in capsys.readouterr().out


def test_a_table_that_lost_its_metadata_is_named(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "bare.parquet"
    parquet.write_table(parquet.read_table(table).replace_schema_metadata(None), bare)
    asked = ["--deploy_n", "32", "--estimators", "max_at_k:k=4", "--num_generations", "8"]
    assert main(["plan", str(bare), "--out", str(tmp_path), *asked]) == 0
    assert "tailgrad plan: warning: rollout table" in capsys.readouterr().err
