"""A grid from start to finish with a tiny policy, interrupted and not, its commands run in this process."""

import contextlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from in_process import InProcess
from tailgrad.curves import best_of_n
from tailgrad.events import VARIABLE
from tailgrad.function_identity import function_sha256
from tailgrad.grid import GridConfig, run_grid
from tailgrad.grid.contents import check_contents, check_table, check_trained, policy_sha256, prompts_of
from tailgrad.grid.results import Row, append_result, read_results
from tailgrad.grid.trainings import BASE, bases
from tailgrad.identity import file_sha256, model_sha256
from tailgrad.quickstart.task import verifier
from tailgrad.rollouts import read_metadata, read_rollouts
from tailgrad.rollouts.generation import TRAINING_RECORD
from tailgrad.rollouts.table import write_table
from tailgrad.runner import Job

TIMES = ("train_seconds", "sample_seconds", "finished_at")


@pytest.fixture(scope="module")
def runner() -> Iterator[InProcess]:
    """What runs the jobs of a grid, and remembers them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAILGRAD_TRACEBACK", "1")
        patch.setenv(VARIABLE, "")
        found = InProcess()
        patch.setattr("tailgrad.grid.run.run_side_by_side", found)
        yield found


@pytest.fixture(scope="module")
def finished(new_grid: Callable[[], GridConfig], runner: InProcess) -> tuple[GridConfig, list[Row], list[Job]]:
    """A grid that nothing interrupted, its rows and the jobs that were run."""
    config = new_grid()
    rows = run_grid(config)
    return config, rows, [*runner.jobs]


def without_times(rows: Sequence[Row]) -> dict[str, Row]:
    return {row["key"]: {name: value for name, value in row.items() if name not in TIMES} for row in rows}


def test_everything_is_trained_and_measured_once(finished) -> None:
    config, rows, jobs = finished
    trainings = [job for job in jobs if job.argv[0] == "train"]
    # two estimators: two learning rates with the first seed, then the better one with the second
    assert len(trainings) == len({tuple(job.argv) for job in jobs if job.argv[0] == "train"}) == 2 * 2 + 2
    # the starting policy, the choosing, and a checkpoint and the last step of two seeds of two estimators
    assert len(rows) == len(jobs) - len(trainings) == 1 + 4 + 2 * 2 * 2
    assert len({row["key"] for row in rows}) == len(rows)
    measured = Counter((row["split"], row["step"], row["n"], len(row["v_n"])) for row in rows)
    assert measured == {("test", 0, 16, 4): 1, ("choose", 2, 8, 3): 4, ("test", 1, 8, 4): 4, ("test", 2, 16, 4): 4}
    assert read_results(config.results) == rows


def test_a_row_holds_what_the_rollout_table_says(finished) -> None:
    config, rows, _ = finished
    for row in rows:
        (path,) = config.work.glob(f"rollouts/*-{row['key']}.parquet")
        table = read_rollouts(path)
        np.testing.assert_array_equal(row["v_n"], best_of_n(table.rewards, row["budgets"]))
        kl = (table.logprobs - table.reference_logprobs).mean(axis=1)
        np.testing.assert_array_equal(row["kl"], kl)
        assert row["budgets"] == [2**power for power in range(row["n"].bit_length())]
        assert row["prompt_ids"] == table.prompt_ids.tolist()
        assert row["policy_sha256"] == model_sha256(config.folder / "policy")
        assert row["prompts_sha256"] == read_metadata(path)["dataset"]["sha256"]
        assert row["reward_sha256"] == function_sha256(verifier)
        assert (row["train_seconds"] is None) == (row["estimator"] == BASE)
        assert row["sample_seconds"] > 0
        assert {"tailgrad", "torch", "transformers", "trl"} == set(json.loads(row["versions"]))
    start = next(row for row in rows if row["estimator"] == BASE)
    assert start["kl"] == [0.0] * 4
    assert len({str(row["v_n"]) for row in rows}) == len(rows)


def test_the_commands_say_what_the_row_says(finished) -> None:
    config, rows, jobs = finished
    records = config.work.glob("models/*/" + TRAINING_RECORD)
    found = Counter(
        (r["estimator"], r["seed"], r["num_generations"]) for r in map(json.loads, map(Path.read_text, records))
    )
    assert found == {(name, seed, 8): 2 - seed for name in ("grpo", "tea") for seed in (0, 1)}
    commands = [dict(pairwise(job.argv)) for job in jobs if job.argv[0] == "train"]
    trained = {(row["estimator"], row["learning_rate"], row["seed"]) for row in rows if row["estimator"] != BASE}
    said = {(c["--estimator"], float(c["--learning_rate"]), int(c["--seed"])) for c in commands}
    assert said == trained
    assert {c["--deploy_n"] for c in commands} == {"16"}
    sizes = {(c["--per_device_train_batch_size"], c["--gradient_accumulation_steps"]) for c in commands}
    assert sizes == {("4", "4")}  # together m x prompts_per_step
    records = [json.loads(path.read_text()) for path in config.work.glob("models/*/**/" + TRAINING_RECORD)]
    assert {record["prompts_per_step"] for record in records} == {config.prompts_per_step}


def test_a_finished_grid_has_nothing_to_do(finished, runner: InProcess) -> None:
    config, rows, _ = finished
    before = len(runner.jobs)
    moved = config.work.with_name("elsewhere")
    config.work.rename(moved)
    try:
        assert run_grid(config) == rows
    finally:
        shutil.rmtree(config.work)  # it holds the lock alone
        moved.rename(config.work)
    assert len(runner.jobs) == before


def test_two_grids_do_not_run_in_one_folder(finished) -> None:
    config = finished[0]
    with FileLock(config.work / "grid.lock"), pytest.raises(ValueError, match="is being written by another process"):
        run_grid(config)


def test_results_of_other_contents_are_not_mixed_in(finished, runner: InProcess) -> None:
    """More seeds are asked for, and a file of the same name holds something else by now."""
    config, rows, _ = finished
    more, before = replace(config, seeds=(0, 1, 2)), len(runner.jobs)
    changes = {f"{part}.jsonl": f"{part} prompts of 'tasks'" for part in ("train", "choose", "test")}
    for name, message in (changes | {"policy/model.safetensors": "policy"}).items():
        path = config.folder / name
        content, times = path.read_bytes(), path.stat()
        other = content[:-1] + bytes([content[-1] ^ 1])  # the last number of the last weight
        path.write_bytes(b"".join(reversed(content.splitlines(keepends=True))) if "json" in name else other)
        try:
            with pytest.raises(ValueError, match=f"made with another {message}"):
                run_grid(more)
            assert run_grid(config) == rows  # nothing to add
        finally:
            path.write_bytes(content)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert len(runner.jobs) == before


def test_rows_that_name_the_weights_file_alone_are_still_known(finished) -> None:
    config, rows, _ = finished
    weights = file_sha256(config.folder / "policy/model.safetensors")
    check_contents(config, [row | {"policy_sha256": weights} for row in rows])
    with pytest.raises(ValueError, match="made with another policy"):
        check_contents(config, [row | {"policy_sha256": weights[::-1]} for row in rows])


def test_a_rollout_table_of_other_contents_is_not_taken(finished) -> None:
    config = finished[0]
    (base,), policy = bases(config), str(config.folder / "policy")
    table = next(config.work.glob("rollouts/*base*.parquet"))
    now = prompts_of(config, base.prompts, "test", config.test_limit).sha256
    check_table(table, prompts_sha256=now, policy=policy)
    with pytest.raises(ValueError, match="sampled with other prompts"):
        check_table(table, prompts_sha256=prompts_of(config, base.prompts, "test", 3).sha256, policy=policy)
    with pytest.raises(ValueError, match="sampled with another starting policy"):
        check_table(table, prompts_sha256=now, policy=str(config.folder))


def test_policies_of_the_hub_are_known_by_their_names(finished, tmp_path: Path) -> None:
    config, rows, _ = finished
    hub = replace(config, policies={"tiny": "org/small"})
    of_hub = [row | {"policy_sha256": policy_sha256(hub, "tiny")} for row in rows]
    check_contents(hub, of_hub)
    check_contents(hub, [row | {"policy_sha256": None} for row in rows])  # of an older version
    for given, found, message in (
        (replace(config, policies={"tiny": "org/large"}), of_hub, "'org/small' there, 'org/large' now"),
        (hub, rows, f"sha256 {rows[0]['policy_sha256'][:12]} there, 'org/small' now"),
        (config, of_hub, "'org/small' there, sha256"),
    ):
        with pytest.raises(ValueError, match=f"made with another policy 'tiny' of that name .{message}"):
            check_contents(given, found)
    source, table = next(config.work.glob("rollouts/*base*.parquet")), tmp_path / "table.parquet"
    sampled = read_metadata(source) | {"reference": "org/small", "reference_files": None}
    write_table(table, pq.read_table(source).to_pydict(), sampled)
    now = sampled["dataset"]["sha256"]
    check_table(table, prompts_sha256=now, policy="org/small")
    for other in ("org/large", str(config.folder / "policy")):
        with pytest.raises(ValueError, match=r"sampled with another starting policy .org/small there"):
            check_table(table, prompts_sha256=now, policy=other)


OTHERS = {
    "model": "from another starting policy",
    "data": "on other prompts",
    "rewards": "on another reward",
}


@pytest.mark.parametrize("key", OTHERS)
def test_a_policy_that_was_trained_on_something_else_of_that_name_is_refused(
    finished, runner: InProcess, tmp_path: Path, key: str
) -> None:
    """Its row is asked for anew; nothing is sampled where the training alone tells."""
    config, rows, _ = finished
    lost = next(row for row in rows if row["estimator"] == "tea" and row["step"] == 2 and row["split"] == "test")
    results = tmp_path / "rows.parquet"
    for row in rows:
        if row != lost:
            append_result(results, row)
    again, before = replace(config, results=results), len(runner.jobs)
    (path,) = config.work.glob(f"rollouts/*-{lost['key']}.parquet")
    record = Path(read_metadata(path)["model"]) / "tailgrad_run.json"
    content = record.read_text()
    other = ["a" * 64] if key == "rewards" else "a" * 64
    record.write_text(json.dumps(json.loads(content) | {key: other}))
    aside = tmp_path / path.name
    if key != "rewards":  # of which the table tells
        path.rename(aside)
    try:
        with pytest.raises(
            ValueError, match=rf"trained {OTHERS[key]} of that name .sha256 a+ there, sha256 [0-9a-f]+ now"
        ):
            run_grid(again)
    finally:
        record.write_text(content)
        if aside.exists():
            aside.rename(path)
    assert len(runner.jobs) == before
    assert without_times(run_grid(again)) == without_times(rows)


def test_prompts_that_are_left_of_those_held_out_are_not_compared(finished, tmp_path: Path) -> None:
    config = finished[0]
    (base,) = bases(config)
    (tmp_path / "tailgrad_run.json").write_text(json.dumps({"data": "a" * 64}))
    held_out = replace(config, train={**config.train, "test_split_size": 2})
    check_trained(held_out, base, str(tmp_path))
    with pytest.raises(ValueError, match="trained on other prompts"):
        check_trained(config, base, str(tmp_path))


def test_an_interrupted_grid_ends_as_one_that_was_not(new_grid, finished, runner: InProcess) -> None:
    config = new_grid()
    before, stops, cut = len(runner.jobs), iter([1, 2, 1, 4, 3, 5]), []

    def kill(job: Job) -> None:
        """Kill the first training while it writes its last checkpoint, the second while it writes the model."""
        if job.argv[0] != "train" or len(cut) == 2:
            return
        folder = Path(job.argv[job.argv.index("--output_dir") + 1])
        places = [folder / "checkpoint-2", folder] if not cut else [folder]
        for path in [place / name for place in places for name in ("model.safetensors", TRAINING_RECORD)]:
            path.unlink()
        if not cut:
            (folder / "checkpoint-2" / "trainer_state.json").unlink()
        cut.append(folder)
        raise KeyboardInterrupt

    runner.after_job, interruptions = kill, 0
    try:
        while True:
            runner.stop_after = len(runner.jobs) + next(stops, 100)
            with contextlib.suppress(KeyboardInterrupt):
                rows = run_grid(config)
                break
            interruptions += 1
    finally:
        runner.stop_after, runner.after_job = None, lambda job: None
    assert interruptions >= 6
    found, wanted = without_times(rows), without_times(finished[1])
    assert found.keys() == wanted.keys()
    for key, row in wanted.items():
        assert found[key] == row
    # nothing but the training that lost its last checkpoint was done twice
    assert len(runner.jobs) - before == len(finished[2]) + 1
