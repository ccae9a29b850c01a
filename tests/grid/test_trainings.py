"""Which trainings a grid has, what is measured of each, and the keys of the results."""

import re
from dataclasses import fields, replace

import pytest

from tailgrad.grid.trainings import BASE, Measurement, Training, bases, cells, choosing, key_of, trials
from tailgrad.grid.trainings import testing as measurements_of

TRAINING = Training("small", "verifier", "tasks", "tea", 8, 16, 0.1, 0.01, 1)
MEASUREMENT = Measurement("test", 2, 16, "verifier", 4)


def test_an_estimator_that_knows_no_n_is_trained_once_for_all(make_grid) -> None:
    config = make_grid(
        policies={"a": "a", "b": "b"},
        estimators=["grpo", "tea", "max_at_k:k=4"],
        m_and_n=[[8, 16], [8, 64], [16, 64]],
        betas=[0.0, 0.1],
    )
    found = cells(config)
    assert len(found) == len(set(found))
    expected = {
        ("grpo", 8, None),
        ("grpo", 16, None),
        ("max_at_k:k=4", 8, None),
        ("max_at_k:k=4", 16, None),
        ("tea", 8, 16),
        ("tea", 8, 64),
        ("tea", 16, 64),
    }
    combinations = [(policy, weight) for policy in "ab" for weight in (0.0, 0.1)]
    assert {(cell.policy, cell.kl_weight, cell.estimator, cell.m, cell.deploy_n) for cell in found} == {
        (*combination, *cell) for combination in combinations for cell in expected
    }
    assert len(found) == len(combinations) * len(expected)


def test_trials_and_starting_policies(make_grid) -> None:
    config = make_grid(seeds=[7, 8], rewards={"verifier": "a.b", "judge": "c.d"}, checkpoints=None)
    tried = trials(config)
    assert {one.seed for one in tried} == {7}
    assert len(set(tried)) == len(tried) == len(cells(config)) * 2
    assert {(one.reward, one.estimator, one.m, one.deploy_n) for one in bases(config)} == {
        ("verifier", BASE, 0, None),
        ("judge", BASE, 0, None),
    }


def test_what_is_measured(make_grid) -> None:
    config = make_grid(
        rewards={"verifier": "a.b", "judge": "c.d"},
        also_score=["judge"],
        train={"max_steps": 6},
        checkpoints=[2, 4],
        test_n=32,
        test_limit=5,
    )
    base, other = (replace(bases(config)[0], reward=reward) for reward in ("verifier", "judge"))
    training = replace(trials(config)[0], reward="verifier")
    assert choosing(config, training) == [Measurement("choose", 6, 8, "verifier")]
    assert list(measurements_of(config, training)) == [
        Measurement("test", 2, 8, "verifier", 5),
        Measurement("test", 4, 8, "verifier", 5),
        Measurement("test", 6, 32, "verifier", 5),
        Measurement("test", 6, 32, "judge", 5),
    ]
    both = [Measurement("test", 0, 32, "verifier", 5), Measurement("test", 0, 32, "judge", 5)]
    assert list(measurements_of(config, base)) == both
    assert list(measurements_of(config, other)) == [both[1]]


OTHERS = {
    "policy": "large",
    "reward": "judge",
    "prompts": "sums",
    "estimator": "grpo",
    "m": 9,
    "deploy_n": None,
    "kl_weight": 0.2,
    "learning_rate": 0.02,
    "seed": 2,
    "split": "choose",
    "step": 1,
    "n": 8,
    "scored_by": "judge",
    "limit": None,
}


def test_a_key_changes_with_every_field(make_grid) -> None:
    config = make_grid()
    changed = [
        *(key_of(config, replace(TRAINING, **{f.name: OTHERS[f.name]}), MEASUREMENT) for f in fields(Training)),
        *(key_of(config, TRAINING, replace(MEASUREMENT, **{f.name: OTHERS[f.name]})) for f in fields(Measurement)),
        key_of(config, TRAINING),
        key_of(config, TRAINING, MEASUREMENT),
    ]
    assert len(set(changed)) == len(changed) == len(OTHERS) + 2
    assert key_of(config, replace(TRAINING), replace(MEASUREMENT)) == changed[-1]


@pytest.mark.parametrize(
    ("changes", "training", "base"),
    [
        ({"train": {"max_steps": 3}}, True, False),
        ({"train": {"max_steps": 2, "temperature": 0.9}}, True, True),
        ({"train": {"max_steps": 2, "temperature": 1.0}}, True, False),
        ({"train": {"max_steps": 2, "generation_kwargs": {"typical_p": 0.9}}}, True, True),
        ({"prompts_per_step": 4}, True, False),
        ({"sample": {"max_completion_length": 9}}, True, True),
        ({"seeds": [3, 4, 5]}, False, False),
        ({"learning_rates": [0.5]}, False, False),
        ({"estimators": ["grpo"], "m_and_n": [[4, 8]], "betas": [1.0]}, False, False),
        ({"checkpoints": None, "test_n": 99, "checkpoint_n": 9, "choose_n": 7, "test_limit": 1}, False, False),
        ({"processes": 2, "work": "other", "results": "other.parquet"}, False, False),
        ({"policies": {"other": "x"}, "rewards": {"other": "x.y"}}, False, False),
    ],
)
def test_a_key_changes_with_what_the_result_depends_on_and_only_then(make_grid, changes, training, base) -> None:
    before, after = make_grid(), make_grid(**changes)
    of_base = (Training("small", "verifier", "tasks", BASE), replace(MEASUREMENT, step=0))
    assert (key_of(before, TRAINING, MEASUREMENT) != key_of(after, TRAINING, MEASUREMENT)) is training
    assert (key_of(before, *of_base) != key_of(after, *of_base)) is base


def test_keys_are_the_same_in_every_process_and_order(make_grid) -> None:
    first = make_grid(train={"max_steps": 2, "temperature": 0.9})
    second = make_grid(train={"temperature": 0.9, "max_steps": 2})
    assert key_of(first, TRAINING, MEASUREMENT) == key_of(second, TRAINING, MEASUREMENT)
    # a change here would throw away the results of every grid that was ever run
    assert key_of(make_grid(), TRAINING, MEASUREMENT) == "ca211db37005a25a"


def test_labels_are_unique_and_fit_for_files(make_grid) -> None:
    config = make_grid(
        policies={"a b/c": "x", "a-b-c": "y"},
        estimators=["grpo", "tea", "max_at_k:k=4", "max_at_k:k=2,baseline=loo"],
        m_and_n=[[8, 16], [8, 64]],
        learning_rates=[0.001, 0.00100001],
    )
    labels = [training.label(config) for training in (*trials(config), *bases(config))]
    assert len(set(labels)) == len(labels) > 20
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]{1,120}", label) for label in labels)
    assert all(label.startswith("a-b-c-verifier-tasks-") for label in labels)
