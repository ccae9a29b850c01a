"""Which commands a grid runs for a training and its measurements, without running them."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from tailgrad.cli.sample import make_parser
from tailgrad.grid.commands import train_log
from tailgrad.grid.run import _chain, _is_trained, _table_jobs, _train_seconds
from tailgrad.grid.trainings import Measurement, bases, choosing, key_of, trials
from tailgrad.grid.trainings import testing as measurements_of
from tailgrad.rollouts.generation import TRAINING_RECORD
from tailgrad.runner import events_beside

LAST, EARLY = Measurement("test", 2, 16, "verifier"), Measurement("test", 1, 8, "verifier")


def save(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text("{}")


def test_a_step_that_is_measured_later_is_trained_anew(make_grid) -> None:
    """The checkpoint was not kept, and a resumed training would not come by it again."""
    config = make_grid()
    (config.folder / "test.jsonl").write_text('{"prompt": "one"}\n')
    training = trials(config)[0]
    folder = config.work / "models" / training.label(config)
    save(folder / "checkpoint-2", TRAINING_RECORD)
    assert _is_trained(config, training, [LAST])
    assert next(_chain(config, training, [LAST])).argv[0] == "sample"
    assert not _is_trained(config, training, [EARLY, LAST])
    assert next(_chain(config, training, [EARLY, LAST])).argv[0] == "train"
    assert not folder.exists()


def test_a_starting_policy_is_sampled_like_the_trainings(make_grid) -> None:
    shaped = {"temperature": 0.9, "min_p": 0.1, "generation_kwargs": {"typical_p": 0.8}, "max_completion_length": 7}
    config = make_grid(train={"max_steps": 2, "top_k": 5, **shaped}, sample={"max_completion_length": 9})
    (config.folder / "test.jsonl").write_text('{"prompt": "one"}\n')
    argv = next(_chain(config, bases(config)[0], [LAST])).argv
    expected = {"temperature": "0.9", "top_k": "5", "max_completion_length": "9"}
    assert {name: argv[argv.index(f"--{name}") + 1] for name in expected} == expected
    assert json.loads(argv[argv.index("--generation_kwargs") + 1]) == {"min_p": 0.1, "typical_p": 0.8}
    assert make_parser().read(argv[1:]).generation_kwargs == {"min_p": 0.1, "typical_p": 0.8}


def test_a_model_without_its_record_is_not_whole(make_grid) -> None:
    config = make_grid()
    training = trials(config)[0]
    folder = config.work / "models" / training.label(config)
    save(folder / "checkpoint-1", TRAINING_RECORD)
    save(folder / "checkpoint-2", "config.json")
    assert not _is_trained(config, training, [EARLY, LAST])
    assert next(_chain(config, training, [EARLY, LAST])).argv[0] == "train"
    assert folder.exists()  # to go on from


@pytest.mark.parametrize(
    ("events", "seconds"),
    [
        ([("start", "step", 0), ("step", "step", 1), ("end", "seconds", 61.5)], 61.5),
        ([("start", "step", 0), ("start", "step", 0), ("end", "seconds", 61.5)], 61.5),
        ([("start", "step", 0), ("step", "step", 1), ("start", "step", 1), ("end", "seconds", 9.2)], None),
        ([("start", "step", 0), ("end", "seconds", 61.5), ("start", "step", 2)], None),
        ([("start", "step", 0), ("step", "step", 1)], None),
    ],
)
def test_the_time_of_a_training_is_that_of_all_of_it(make_grid, events, seconds: float | None) -> None:
    config = make_grid()
    training = trials(config)[0]
    path = events_beside(train_log(config, training))
    assert _train_seconds(config, training) is None
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps({"kind": kind, name: value}) + "\n" for kind, name, value in events))
    assert _train_seconds(config, training) == seconds


def test_a_starting_policy_of_the_hub_is_sampled_by_its_name(make_grid, tmp_path: Path) -> None:
    rows = [{"question": "one"}, {"question": "two"}, {"question": "three"}]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = make_grid(policies={"small": "org/small"}, sample={"prompt_column": "question"}, test_limit=8)
    (base,) = bases(config)
    job = next(_chain(config, base, list(measurements_of(config, base))))
    options = dict(pairwise(job.argv))
    assert options["--model_name_or_path"] == options["--reference_model"] == "org/small"
    assert options["--dataset_name"] == str(tmp_path / "test.jsonl")
    assert options["--prompt_column"] == "question"
    assert job.total == 3
    assert job.folder == tmp_path


@pytest.mark.parametrize("only_judged", [False, True])
def test_another_reward_scores_the_responses_that_were_sampled_for_the_own(
    make_grid, tmp_path: Path, only_judged: bool
) -> None:
    (tmp_path / "test.jsonl").write_text('{"prompt": "one"}\n')
    rewards = {"verifier": "x.verifier", "judge": "x.judge"}
    both = {"rewards": rewards, "also_score": ["judge"]}
    judged = {"rewards": {"verifier": "x.verifier"}, "also_score": {"judge": "x.judge"}}  # nothing is trained on it
    config = make_grid(**(judged if only_judged else both), sample={"max_completion_length": 6, "batch_size": 9})
    assert {one.reward for one in bases(config)} == ({"verifier"} if only_judged else {"verifier", "judge"})
    base = next(one for one in bases(config) if one.reward == "verifier")
    own, other = measurements_of(config, base)
    assert (own.scored_by, other.scored_by) == ("verifier", "judge")
    tables = [
        config.work / "rollouts" / f"{base.label(config)}-{key_of(config, base, one)}.parquet" for one in (own, other)
    ]
    sampling, scoring = _table_jobs(config, base, other, tables[1])
    assert dict(pairwise(sampling.argv))["--reward_funcs"] == "x.verifier"
    assert dict(pairwise(sampling.argv))["--out"] == str(tables[0])
    options = {"score": str(tables[0]), "--reward_funcs": "x.judge", "--out": str(tables[1]), "--batch_size": "9"}
    assert dict(zip(scoring.argv[::2], scoring.argv[1::2], strict=True)) == options
    tables[0].parent.mkdir(parents=True)
    tables[0].touch()
    assert [job.argv[0] for job in _table_jobs(config, base, other, tables[1])] == ["score"]
    assert [job.argv[0] for job in _table_jobs(config, base, own, tables[0])] == []


def test_an_estimator_is_given_on_with_its_options(make_grid) -> None:
    config = make_grid(estimators=["grpo", "tea:tail_fraction=0.5"])
    for training, estimator in zip(trials(config)[::2], ("grpo", "tea:tail_fraction=0.5"), strict=True):
        job = next(_chain(config, training, list(measurements_of(config, training))))
        assert dict(pairwise(job.argv))["--estimator"] == estimator


@pytest.mark.parametrize(
    ("rewards", "flag"), [("org/judge", "--reward_funcs"), ("judge", "--reward_model_name_or_path")]
)
def test_a_reward_is_a_name_or_a_folder(make_grid, tmp_path: Path, rewards: str, flag: str) -> None:
    (tmp_path / "judge").mkdir()
    config = make_grid(rewards={"judge": rewards})
    options = dict(pairwise(next(_chain(config, trials(config)[0], choosing(config, trials(config)[0]))).argv))
    assert options[flag] == (rewards if "/" in rewards else str(tmp_path / rewards))
