"""Interruption: what a sampling leaves behind, and what goes on from it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

from tailgrad.fidelity.gradient_store import GradientConfig, sketch_gradients
from tailgrad.rollouts import SampleConfig, ScoreConfig, read_rollouts, rescore, sample


def run(options: dict[str, Any], **changes: Any) -> Any:
    return read_rollouts(sample(SampleConfig(**options | changes)))


def parts_of(options: dict[str, Any]) -> Path:
    return Path(f"{options['out']}.parts")


def names_in(options: dict[str, Any]) -> list[str]:
    return sorted(path.name for path in parts_of(options).glob("part-*"))


def tables_equal(a: Path, b: Path) -> bool:
    return bool(pq.read_table(a).equals(pq.read_table(b), check_metadata=True))


def test_a_reward_that_raises_leaves_the_finished_shards(options: dict[str, Any], tmp_path: Path) -> None:
    calls, server = [], {"is_up": False}

    def fails(*, completions: list[str], answer: list[str], **columns: Any) -> list[float]:
        calls.append(answer[0])
        if not server["is_up"] and "c" in answer:
            raise OSError("the server is gone")
        return [1.0] * len(completions)

    with pytest.raises(RuntimeError, match="reward 'fails' raised OSError: the server is gone"):
        run(options, reward_funcs=fails)
    assert names_in(options) == ["part-000000-000002.parquet"]
    assert not Path(options["out"]).exists()
    server["is_up"] = True
    resumed = run(options, reward_funcs=fails)
    assert calls == ["a", "c", "c", "e"]  # the first shard was not scored again
    assert resumed.responses == run(options, reward_funcs=fails, out=tmp_path / "whole.parquet").responses


SLOW_REWARD = """
import os, time

def count(completions, **columns):
    time.sleep(float(os.environ.get("SECONDS_A_CALL", "0")))
    return [float(len(text)) for text in completions]
"""

CHILD = """
import json, sys
from tailgrad.rollouts import SampleConfig, sample
sample(SampleConfig(**json.loads(sys.argv[1])))
"""


@pytest.mark.nightly  # a process of its own; tests/faults/test_kills.py kills forked ones for every change
def test_a_killed_run_resumes_to_the_identical_table(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_reward.py").write_text(SLOW_REWARD)
    monkeypatch.chdir(tmp_path)
    options |= {"reward_funcs": "slow_reward.count", "batch_size": 4, "out": str(options["out"])}
    parts = parts_of(options)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, json.dumps(options)],
        env=os.environ | {"SECONDS_A_CALL": "1"},
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 300
        while len(list(parts.glob("part-*.parquet"))) < 2 and time.monotonic() < deadline:
            assert child.poll() is None
            time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
    finally:
        child.kill()
        child.wait()
    assert 2 <= len(list(parts.glob("part-*.parquet"))) < 5
    assert not Path(options["out"]).exists()
    done = {path: path.stat().st_mtime_ns for path in parts.glob("part-*.parquet")}
    written = []
    monkeypatch.setattr(
        "tailgrad.rollouts.parts.write_table", lambda path, *rest: (written.append(path), write(path, *rest))
    )
    sample(SampleConfig(**options))
    assert len(written) == 5 - len(done)
    assert not set(written) & set(done)
    sample(SampleConfig(**options | {"out": str(tmp_path / "whole.parquet")}))
    assert tables_equal(Path(options["out"]), tmp_path / "whole.parquet")


def write(*arguments: Any) -> None:
    from tailgrad.rollouts.table import write_table

    write_table(*arguments)


def stop_after_one_part(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
    written = []

    def stopping(*arguments: Any) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(write(*arguments))

    monkeypatch.setattr("tailgrad.rollouts.parts.write_table", stopping)
    with pytest.raises(KeyboardInterrupt):
        sample(SampleConfig(**options))
    monkeypatch.undo()


@pytest.fixture
def interrupted(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The options of a run that was interrupted after its first part."""
    stop_after_one_part(monkeypatch, options)
    assert len(names_in(options)) == 1
    return options


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"seed": 1}, "seed: 0 there, 1 now"),
        ({"temperature": 0.5}, "sampling: "),
        ({"n": 2}, "sampling: "),
        ({"batch_size": 4}, "batch_size: 8 there, 4 now"),
        ({"limit": 3}, "dataset: "),
        ({"dtype": "bfloat16"}, "dtype: 'float32' there, 'bfloat16' now"),
        ({"reward_weights": [2.0]}, r"reward_weights: None there, \[2.0\] now"),
    ],
)
def test_an_interrupted_run_of_other_settings_is_refused(
    interrupted: dict[str, Any], changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(ValueError, match=rf"holds an interrupted run with another {field}.*Delete it"):
        sample(SampleConfig(**interrupted | changes))
    assert not Path(interrupted["out"]).exists()
    assert len(names_in(interrupted)) == 1


def test_an_interrupted_run_of_other_data_or_weights_is_refused(interrupted: dict[str, Any]) -> None:
    path = Path(interrupted["dataset_name"])
    text = path.read_text()
    path.write_text(text.replace("five", "seven"))
    with pytest.raises(ValueError, match="with another dataset: "):
        sample(SampleConfig(**interrupted))
    path.write_text(text)
    weights = Path(interrupted["model_name_or_path"]) / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        with pytest.raises(ValueError, match="with another model_files: "):
            sample(SampleConfig(**interrupted))
    finally:
        weights.write_bytes(content)
    sample(SampleConfig(**interrupted))


def test_what_changes_no_number_does_not_stop_a_resumption(interrupted: dict[str, Any], tmp_path: Path) -> None:
    policy, data = tmp_path / "copy", tmp_path / "copy.jsonl"
    shutil.copytree(interrupted["model_name_or_path"], policy)
    shutil.copy(interrupted["dataset_name"], data)
    os.utime(policy / "model.safetensors")
    (policy / "README.md").write_text("a policy")
    sample(SampleConfig(**interrupted | {"model_name_or_path": str(policy), "dataset_name": str(data)}))
    assert read_rollouts(interrupted["out"]).metadata["model"] == str(policy)


def save_reward_model(policy: str, folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    config = LlamaConfig.from_pretrained(policy, num_labels=1)
    LlamaForSequenceClassification(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(policy).save_pretrained(folder)
    return folder


def test_a_changed_reward_model_is_seen(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = save_reward_model(options["model_name_or_path"], tmp_path / "judge", seed=0)
    options |= {"reward_model_name_or_path": str(judge), "reward_funcs": (), "reward_batch_size": 2}
    stop_after_one_part(monkeypatch, options)
    save_reward_model(options["model_name_or_path"], judge, seed=1)
    with pytest.raises(ValueError, match="with another reward_files: "):
        sample(SampleConfig(**options))
    for changed in ({"reward_input_format": "text"}, {"reward_max_length": 3}, {"reward_dtype": "bfloat16"}):
        with pytest.raises(ValueError, match="with another reward_files: "):
            sample(SampleConfig(**options | changed))
    save_reward_model(options["model_name_or_path"], judge, seed=0)
    (judge / "README.md").write_text("a judge")
    moved = judge.rename(tmp_path / "moved")
    table = run(options, reward_model_name_or_path=str(moved), reward_batch_size=3)
    assert table.rewards.shape == (5, 4)


def test_a_changed_reward_function_is_seen(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "interrupted_reward.py"
    source.write_text(SLOW_REWARD)
    monkeypatch.syspath_prepend(tmp_path)
    options |= {"reward_funcs": "interrupted_reward.count"}
    stop_after_one_part(monkeypatch, options)
    source.write_text(SLOW_REWARD.replace("len(text)", "-len(text)"))
    with pytest.raises(ValueError, match="with another reward_files: "):
        sample(SampleConfig(**options))
    with pytest.raises(ValueError, match="with another reward_weights: None there"):
        sample(SampleConfig(**options | {"reward_weights": [1.0]}))
    source.write_text(SLOW_REWARD)
    sample(SampleConfig(**options))


def test_a_broken_part_is_named(interrupted: dict[str, Any]) -> None:
    part = parts_of(interrupted) / "part-000002-000004.parquet"
    part.write_bytes(b"")
    with pytest.raises(ValueError, match=r"part-000002-000004\.parquet' is not a Parquet file"):
        sample(SampleConfig(**interrupted))
    part.unlink()
    whole = interrupted | {"out": Path(interrupted["out"]).with_name("whole.parquet")}
    tables = [sample(SampleConfig(**one)) for one in (interrupted, whole)]
    assert read_rollouts(tables[0]).responses == read_rollouts(tables[1]).responses


def test_home_folders_are_found(options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(options["model_name_or_path"], tmp_path / "policy")
    path = sample(
        SampleConfig(
            **options | {"model_name_or_path": "~/policy", "dataset_name": "~/prompts.jsonl", "out": "~/t.parquet"}
        )
    )
    assert path == tmp_path / "t.parquet"
    judged = rescore(ScoreConfig("~/t.parquet", "~/judged.parquet", reward_funcs=options["reward_funcs"]))
    assert read_rollouts(judged).rewards.tolist() == read_rollouts(path).rewards.tolist()
    gradients = sketch_gradients(GradientConfig("~/t.parquet", "~/policy", "~/gradients", dim=4))
    assert gradients.folder == tmp_path / "gradients"
