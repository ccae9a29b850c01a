"""What of a rollout table's metadata must agree between tables that are compared, and nothing else."""

import inspect

import numpy as np
import pytest

from tailgrad.curves import Rollouts, comparable_rollouts
from tailgrad.curves.pairing import unchecked
from tailgrad.curves.settings import COMPARED, NOT_COMPARED, REWARD_OPTIONS, differences, edited_rewards
from tailgrad.rewards import RewardModel

METADATA = {
    "model": "base",
    "revision": None,
    "model_files": "1f",
    "sampling": {"n": 2, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_new_tokens": 8},
    "seed": 0,
    "reward": "org/rm@1f",
    "reward_options": {"batch_size": 16, "device": "cpu"},
    "reward_files": ["1f"],
    "reward_weights": None,
    "dataset": {"name": "sums", "split": "test", "num_prompts": 1, "sha256": "aa"},
    "reference": "sft",
    "reference_files": "3d",
    "reference_revision": None,
    "trained_with": None,
    "chat_template_kwargs": {},
    "training_temperature": None,
    "dtype": "float32",
    "device": "cpu",
    "batch_size": 256,
    "tailgrad_version": "0.1.0",
    "rescored": "4c",
}


def compared(first, other):
    return comparable_rollouts(
        [Rollouts(np.zeros((1, 2)), name=str(number), metadata=given) for number, given in enumerate((first, other))]
    )


@pytest.mark.parametrize(
    "change",
    [
        {name: "another"}
        for name in NOT_COMPARED  # model, seed, batch_size, device, ...
    ]
    + [
        {"reward_options": {"batch_size": 4, "device": "cuda"}},
        {"reward_options": {}},
        {"reward": "/copy/of/rm", "reward_options": {"max_length": 512}},
        {"reward_files": ["9f"]},  # said, see test_comparison.py
        {"chat_template_kwargs": None},
        {"reward_options": {"dtype": "float32", "input_format": "auto"}, "reward_files": [None]},
        {"dataset": METADATA["dataset"] | {"name": "/copy/of/sums", "split": "validation"}},
    ],
)
def test_what_does_not_decide_v_n_may_differ(change):
    assert len(compared(METADATA, METADATA | change)) == 2


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"sampling": METADATA["sampling"] | {"temperature": 0.7}}, "temperature"),
        ({"sampling": METADATA["sampling"] | {"min_p": 0.1}}, "min_p is 'not recorded' and 0.1"),
        ({"reward": "org/rm@2e", "reward_files": ["2e"]}, "reward"),
        ({"reward": "org/rm@2e", "reward_files": [None]}, "reward"),
        ({"reward": "2*org/rm@1f", "reward_weights": [2.0]}, "reward"),
        ({"reward_options": {"batch_size": 16, "dtype": "bfloat16"}, "reward_files": ["2e"]}, "reward_options.dtype"),
        (
            {"reward_options": {"max_length": 512}, "reward_files": [None]},
            "reward_options.max_length is 'not recorded' and 512",
        ),
        ({"selection_reward": "judge"}, "selection_reward"),
        ({"chat_template_kwargs": {"enable_thinking": False}}, "chat_template_kwargs.enable_thinking"),
        ({"dataset": METADATA["dataset"] | {"sha256": "bb"}}, "dataset.sha256"),
        ({"dataset": {"name": "products"}}, "dataset.name"),
    ],
)
def test_what_decides_v_n_must_agree(change, named):
    for pair in ((METADATA, METADATA | change), (METADATA | change, METADATA)):
        with pytest.raises(ValueError, match=rf"'0' and '1' were sampled differently: {named.split(' is ')[0]} is"):
            compared(*pair)
    if " is " in named:
        with pytest.raises(ValueError, match=named):
            compared(METADATA, METADATA | change)


def test_without_a_hash_of_the_data_its_name_must_agree():
    assert differences({"dataset": {"name": "a"}}, {"dataset": {"name": "b"}}) == [("dataset.name", "a", "b")]


def test_rewards_of_unknown_contents_are_known_by_their_names():
    unknown = {"reward_files": [None], "reward_weights": None}
    assert differences({"reward": "a", **unknown}, {"reward": "b", **unknown}) == [("reward", "a", "b")]


def test_a_reward_that_picks_is_known_by_its_contents_as_the_other_one_is():
    judge, copy, edited, unknown = (
        {"selection_reward": name, "selection_reward_files": files}
        for name, files in (("judge", ["1f"]), ("./judge", ["1f"]), ("judge", ["2e"]), ("./judge", None))
    )
    assert differences(judge, copy) == differences(judge, edited) == []
    assert differences(judge, unknown) == [("selection_reward", "judge", "./judge")]
    assert edited_rewards(judge, edited) == ["judge"]
    assert edited_rewards(judge, copy) == edited_rewards(judge, unknown) == []
    both = judge | {"reward": "rm", "reward_files": ["3d"]}
    assert edited_rewards(both, edited | {"reward": "rm", "reward_files": ["4c"]}) == ["rm", "judge"]


def test_each_reward_that_was_edited_is_said_with_the_tables_it_is_another_one_in():
    contents = {"base": ("1f", "2e"), "a": ("9a", "2e"), "b": ("9a", "8b")}
    runs = [
        Rollouts(
            np.zeros((1, 2)),
            name=name,
            metadata=METADATA
            | {"reward_files": [reward], "selection_reward": "judge", "selection_reward_files": [selection]},
        )
        for name, (reward, selection) in contents.items()
    ]
    assert [note.partition(": its files")[0] for note in unchecked(runs)] == [
        "The reward 'org/rm@1f' is not the same in base and a, b",
        "The reward 'judge' is not the same in base and b",
    ]


def test_every_field_is_compared_or_not_for_a_reason():
    assert not COMPARED.keys() & NOT_COMPARED.keys()
    assert all((COMPARED | NOT_COMPARED).values())
    assert set(METADATA) <= COMPARED.keys() | NOT_COMPARED.keys()


def test_the_defaults_of_the_reward_options_are_those_of_the_reward_model():
    parameters = inspect.signature(RewardModel.__init__).parameters
    assert {name: parameters[name].default for name in REWARD_OPTIONS} == REWARD_OPTIONS
    aside = parameters.keys() - REWARD_OPTIONS.keys()
    assert aside == {"self", "model_name_or_path", "batch_size", "device", "trust_remote_code"}
