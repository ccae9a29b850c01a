from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from tailgrad.curves import Run
from tailgrad.curves.pairing import comparable_runs
from tailgrad.curves.runs import seeds_by_name


def table(**changes):
    fields = {
        "metadata": {
            "model": "policy",
            "seed": 3,
            "sampling": {"n": 3, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_new_tokens": 8},
            "reward": "length",
            "dataset": {"name": "sums", "split": "test"},
        },
        "prompt_ids": np.array([4, 9]),
        "prompts": ["a", "b"],
        "distinct": np.array([2, 3]),
        "rewards": np.array([[1.0, np.nan, 3.0], [0.0, 0.0, 1.0]]),
        "num_tokens": np.array([[1, 2, 6], [0, 3, 3]]),
        "finished": np.array([[True, True, False], [True, True, True]]),
        "logprobs": np.array([[-1.0, -2.0, -3.0], [-1.0, -1.0, -1.0]]),
        "reference_logprobs": np.array([[-1.5, -2.0, -4.0], [-1.0, -1.0, -0.7]]),
        "selection_rewards": None,
    }
    return SimpleNamespace(**fields | changes)


def test_a_table_becomes_a_run_with_its_measures():
    run = Run.from_table("tea", table())
    measures = run.measures()
    assert (run.name, run.n, run.prompts) == ("tea", 3, ["a", "b"])
    np.testing.assert_allclose(measures["kl"], [1.5 / 3, -0.3 / 3], rtol=1e-12)
    np.testing.assert_allclose(measures["response_length"], [3, 2], rtol=1e-12)
    np.testing.assert_allclose(measures["distinct"], [2 / 3, 1], rtol=1e-12)
    np.testing.assert_allclose(measures["cut_off"], [1 / 3, 0], atol=1e-12)
    np.testing.assert_allclose(measures["unscored"], [1 / 3, 0], rtol=1e-12)


def test_sampling_is_what_must_agree_and_nothing_else():
    sampling = Run.from_table("tea", table()).sampling
    assert set(sampling) == {"n", "temperature", "top_p", "top_k", "max_new_tokens", "reward", "dataset"}


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.7},
        {"top_p": 0.9},
        {"top_k": 50},
        {"min_p": 0.1},
        {"suppress_tokens": [5]},
        {"do_sample": False},
    ],
)
def test_kl_is_unknown_where_the_responses_are_not_the_policys_own(change):
    given = table()
    given.metadata["sampling"] |= change
    assert Run.from_table("tea", given).kl is None


def test_arguments_of_the_chat_template_must_agree():
    runs = []
    for thinking in (True, False):
        given = table()
        given.metadata["chat_template_kwargs"] = {"enable_thinking": thinking}
        runs.append(Run.from_table(f"{thinking}", given))
    with pytest.raises(ValueError, match=r"chat_template_kwargs\.enable_thinking is True and False"):
        comparable_runs(runs)
    none = table()
    none.metadata["chat_template_kwargs"] = {}
    assert len(comparable_runs([Run.from_table("new", none), Run.from_table("of an older version", table())])) == 2


def test_kl_is_unknown_without_a_reference_or_a_record_of_the_sampling():
    assert Run.from_table("tea", table(reference_logprobs=None)).kl is None
    assert Run.from_table("tea", table(metadata={})).kl is None


def test_a_response_that_cannot_be_picked_is_unscored_too():
    picks = np.array([[np.nan, 1.0, 2.0], [0.0, 1.0, np.nan]])
    run = Run.from_table("tea", table(selection_rewards=picks))
    np.testing.assert_allclose(run.measures()["unscored"], [2 / 3, 1 / 3], rtol=1e-12)
    assert np.isnan(run.best_of_n([1])[0, 0])  # the second is picked by one of two and has no reward
    np.testing.assert_array_equal(run.best_of_n([2])[:, 0], [3.0, 0.0])


def test_the_reference_policy_is_known_by_content_where_it_can_be():
    fields = table().metadata
    runs = [
        Run.from_table("tea", table(metadata=fields | {"reference": name, "reference_files": content}))
        for name, content in (("sft", "1f"), ("/copy/sft", "1f"), ("sft", "2e"), ("sft", None), ("other", None))
    ]
    references = [run.reference for run in runs]
    assert [references[0].same_as(other) for other in references] == [True, True, False, True, False]
    assert Run.from_table("tea", table()).reference is None
    on_the_hub = fields | {"reference": "org/sft", "reference_files": None, "reference_revision": "c0ffee"}
    assert Run.from_table("tea", table(metadata=on_the_hub)).reference == ("org/sft", "c0ffee")
    assert not references[0].same_as(None)


def test_what_is_not_given_is_unknown():
    run = Run("tea", np.array([0]), ["a"], np.array([[1.0, 2.0]]))
    measures = run.measures()
    unknown = {key for key, value in measures.items() if np.isnan(value).all()}
    assert unknown == {"kl", "response_length", "distinct", "cut_off"}


def test_runs_of_one_name_are_seeds_in_the_given_order():
    base, first, second = (Run.from_table(name, table()) for name in ("base", "tea", "tea"))
    assert seeds_by_name([first, base, second]) == {"tea": (first, second), "base": (base,)}


@pytest.mark.usefixtures("without_shape_checks")
def test_says_what_is_wrong():
    run = Run.from_table("tea", table())
    with pytest.raises(ValueError, match=r"'tea'.*at least one prompt and one response, got \(2, 0\)"):
        replace(run, rewards=np.zeros((2, 0)))
    with pytest.raises(ValueError, match=r"prompts has shape \(1,\), but rewards \(2, 3\) asks for \(2,\)"):
        replace(run, prompts=["a"])
    with pytest.raises(ValueError, match="prompt ids repeat"):
        replace(run, prompt_ids=np.array([4, 4]))
    with pytest.raises(ValueError, match="a reward is infinite"):
        replace(run, rewards=np.full((2, 3), np.inf))
