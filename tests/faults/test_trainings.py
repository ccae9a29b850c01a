"""What can befall a training or a sampling: a loss that is no number, a reward that ends the process, a clock."""

import json
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from forked import in_child
from tailgrad.events import VARIABLE, EventReader
from tailgrad.fidelity.gradient_store import GradientConfig, sketch_gradients

from .conftest import Workshop
from .test_disks import said
from .test_kills import finish, left


def test_a_loss_that_is_no_number_stops_the_training_and_the_checkpoints_stay(
    workshop: Workshop, new_folder: Callable[[], Path]
) -> None:
    """TRL would go on, log a loss of 0, and save a policy of NaN."""
    folder = new_folder()

    def spoiled(counter: Any) -> None:
        from trl import GRPOTrainer

        compute = GRPOTrainer.compute_loss

        def compute_loss(self: Any, *args: Any, **kwargs: Any) -> Any:
            loss = compute(self, *args, **kwargs)
            return loss * float("nan") if self.state.global_step == 2 else loss

        GRPOTrainer.compute_loss = compute_loss

    ended = in_child(lambda: workshop.run("train"), folder, spoiled)
    assert ended.code == 2
    assert "the loss of step 3 is nan" in said(ended.output)
    assert {path.name for path in (folder / "out").glob("checkpoint-*")} == {"checkpoint-1", "checkpoint-2"}
    assert not [*(folder / "out").glob("*.safetensors")]
    weights = load_file(folder / "out" / "checkpoint-2" / "model.safetensors")
    assert all(bool(one.isfinite().all()) for one in weights.values())


def test_a_policy_with_weights_that_are_no_numbers_is_named(workshop: Workshop, new_folder: Callable[[], Path]) -> None:
    folder = new_folder()
    broken = shutil.copytree(workshop.policy, folder / "policy")
    weights = load_file(broken / "model.safetensors")
    weights[next(iter(weights))][:] = torch.nan
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    words = Workshop(workshop.folder, broken, workshop.prompts, workshop.table)
    for command in ("sample", "train"):
        ended = in_child(lambda command=command: words.run(command), folder)
        assert ended.code == 2
        assert "no numbers" in said(ended.output)


def test_a_reward_that_ends_the_process_loses_nothing(workshop: Workshop, new_folder: Callable[[], Path]) -> None:
    """As a library does that aborts; the finished parts are gone on from."""
    whole, folder = finish(workshop, "sample", new_folder()), new_folder()

    def dying(counter: Any) -> None:
        from tailgrad.quickstart import task

        grade, calls = task.grade, []

        def last(*args: Any) -> float:
            calls.append(args)
            if len(calls) > 10:
                os._exit(3)
            return grade(*args)

        task.grade = last

    assert in_child(lambda: workshop.run("sample"), folder, dying).code == 3
    assert len([*(folder / "out" / "table.parquet.parts").glob("part-*")]) == 1
    assert finish(workshop, "sample", folder) == whole


@pytest.mark.nightly
def test_a_clock_that_jumps_back_changes_nothing(workshop: Workshop, new_folder: Callable[[], Path]) -> None:
    """Also where a checkpoint or an event seems older than the one before."""
    for command in ("sample", "train"):
        whole, folder = finish(workshop, command, new_folder()), new_folder()

        def jumping(counter: Any, folder: Path = folder) -> None:
            now, draw = time.time, random.Random(0)
            time.time = lambda: now() - 10**6 * draw.random()
            os.environ[VARIABLE] = str(folder / "events.jsonl")

        def work(command: str = command) -> int:
            from tailgrad.cli.main import main

            return main(workshop.argv(command))

        ended = in_child(work, folder, jumping)
        assert ended.code == 0, ended.output
        assert left(command, folder / "out") == whole
        events = EventReader(folder / "events.jsonl").new()
        counted = [event.get("step", event.get("done")) for event in events if event["kind"] in ("step", "progress")]
        assert counted == sorted(counted) != []


@pytest.mark.nightly
def test_of_checkpoints_the_one_of_the_last_step_is_the_newest_whatever_the_clock_said(
    workshop: Workshop, new_folder: Callable[[], Path]
) -> None:
    folder = new_folder()
    whole = finish(workshop, "train", folder)
    for age, checkpoint in enumerate(sorted((folder / "out").glob("checkpoint-*"))):
        for path in [*checkpoint.iterdir(), checkpoint]:
            os.utime(path, (10**9 - age, 10**9 - age))
    (folder / "out" / "model.safetensors").unlink()
    ended = in_child(lambda: workshop.run("train"), folder)
    assert ended.code == 0, ended.output
    assert "had reached step 3, its last" in ended.output
    assert left("train", folder / "out")["weights"] == whole["weights"]


@pytest.fixture
def gradients(workshop: Workshop, tmp_path: Path) -> GradientConfig:
    config = GradientConfig(workshop.table, str(workshop.policy), tmp_path / "gradients", dim=16)
    sketch_gradients(config)
    return config


def flip(shard: Path) -> None:
    content = bytearray(shard.read_bytes())
    content[300] ^= 1  # among the numbers: the header and the shape stay what they were
    shard.write_bytes(content)


@pytest.mark.parametrize("damage", [flip, "another run", "another prompt"])
def test_a_corrupt_or_foreign_shard_of_gradients_is_made_anew(
    workshop: Workshop, gradients: GradientConfig, damage: Any, tmp_path: Path
) -> None:
    shards = sorted(Path(gradients.out).glob("*.npy"))
    whole = {path: path.read_bytes() for path in shards}
    if damage == "another run":
        other = GradientConfig(**vars(gradients) | {"seed": 1, "out": tmp_path / "other"})
        shutil.copy(sketch_gradients(other).shard(1, 0), shards[1])
    elif damage == "another prompt":
        shutil.copy(shards[0], shards[1])
    else:
        damage(shards[1])
    assert np.load(shards[1]).shape == np.load(shards[0]).shape
    assert shards[1].read_bytes() != whole[shards[1]]
    sketch_gradients(gradients)
    assert {path: path.read_bytes() for path in shards} == whole


@pytest.mark.parametrize("command", ["sample", "train"])
def test_a_row_without_a_prompt_is_named_before_any_work(
    workshop: Workshop, new_folder: Callable[[], Path], command: str
) -> None:
    folder = new_folder()
    rows = workshop.prompts.read_text().splitlines()
    rows[3] = json.dumps({name: value for name, value in json.loads(rows[3]).items() if name != "prompt"})
    (folder / "prompts.jsonl").write_text("\n".join(rows))
    lacking = Workshop(workshop.folder, workshop.policy, folder / "prompts.jsonl", workshop.table)
    ended = in_child(lambda: lacking.run(command), folder)
    assert ended.code == 2
    assert "the prompt in row 3" in said(ended.output)
    assert not [*(folder / "out").glob("checkpoint-*"), *(folder / "out").glob("*.parts/part-*")]
