"""Interruption: what a sampling leaves behind, and what goes on from it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tailgrad.rollouts import SampleConfig, read_table, sample


def run(options: dict[str, Any], **changes: Any) -> Any:
    return read_table(sample(SampleConfig(**options | changes)))


def parts_of(options: dict[str, Any]) -> Path:
    return Path(f"{options['out']}.parts")


def tables_equal(a: Path, b: Path) -> bool:
    return bool(pq.read_table(a).equals(pq.read_table(b), check_metadata=True))


def test_a_reward_that_raises_leaves_the_finished_shards(options: dict[str, Any], tmp_path: Path) -> None:
    broken = True
    calls = []

    def fails(*, completions: list[str], answer: list[str], **columns: Any) -> list[float]:
        calls.append(answer[0])
        if broken and "c" in answer:
            raise OSError("the server is gone")
        return [1.0] * len(completions)

    with pytest.raises(RuntimeError, match="reward 'fails' raised OSError: the server is gone"):
        run(options, reward=fails)
    assert [path.name for path in parts_of(options).iterdir()] == ["part-00000.parquet"]
    assert not Path(options["out"]).exists()
    broken = False
    resumed = run(options, reward=fails)
    assert calls == ["a", "c", "c", "e"]  # the first shard was not scored again
    assert resumed.responses == run(options, reward=fails, out=tmp_path / "whole.parquet").responses


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


def test_a_killed_run_resumes_to_the_identical_table(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_reward.py").write_text(SLOW_REWARD)
    monkeypatch.chdir(tmp_path)
    options |= {"reward": "slow_reward.count", "batch_size": 4, "out": str(options["out"])}
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
        "tailgrad.rollouts.shards.write_table", lambda path, *rest: (written.append(path), write(path, *rest))
    )
    sample(SampleConfig(**options))
    assert len(written) == 5 - len(done)
    assert not set(written) & set(done)
    sample(SampleConfig(**options | {"out": str(tmp_path / "whole.parquet")}))
    assert tables_equal(Path(options["out"]), tmp_path / "whole.parquet")


def write(*arguments: Any) -> None:
    from tailgrad.rollouts.table import write_table

    write_table(*arguments)


@pytest.fixture
def interrupted(options: dict[str, Any]) -> dict[str, Any]:
    """The options of a run that was interrupted after its first shard."""
    calls = []

    def word_count(*, completions: list[str], **columns: Any) -> list[float]:
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return [1.0] * len(completions)

    with pytest.raises(KeyboardInterrupt):
        sample(SampleConfig(**options | {"reward": word_count}))
    assert len(list(parts_of(options).iterdir())) == 1
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
        ({"reward_weights": [2.0]}, r"reward: 'word_count' there, '2\*word_count' now"),
    ],
)
def test_an_interrupted_run_of_other_settings_is_refused(
    interrupted: dict[str, Any], changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(ValueError, match=rf"holds an interrupted run with another {field}.*Delete that folder"):
        sample(SampleConfig(**interrupted | changes))
    assert not Path(interrupted["out"]).exists()
    assert len(list(parts_of(interrupted).iterdir())) == 1


def test_an_interrupted_run_of_other_data_or_weights_is_refused(interrupted: dict[str, Any]) -> None:
    path = Path(interrupted["dataset"])
    text = path.read_text()
    path.write_text(text.replace("five", "seven"))
    with pytest.raises(ValueError, match="with another dataset: "):
        sample(SampleConfig(**interrupted))
    path.write_text(text)
    weights = Path(interrupted["model"]) / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        with pytest.raises(ValueError, match="with another model_files: "):
            sample(SampleConfig(**interrupted))
    finally:
        weights.write_bytes(content)
    sample(SampleConfig(**interrupted))


def test_what_changes_no_number_does_not_stop_a_resumption(interrupted: dict[str, Any]) -> None:
    policy = Path(interrupted["model"])
    os.utime(policy / "model.safetensors")
    (policy / "README.md").write_text("a policy")
    try:
        sample(SampleConfig(**interrupted))
    finally:
        (policy / "README.md").unlink()


def test_a_damaged_shard_is_named(interrupted: dict[str, Any]) -> None:
    (parts_of(interrupted) / "part-00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"part-00001\.parquet' is not a Parquet file"):
        sample(SampleConfig(**interrupted))
