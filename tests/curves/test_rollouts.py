import numpy as np
import pytest

from tailgrad.curves import Rollouts
from tailgrad.curves.pairing import comparable_rollouts, seeds_by_name


def table(**changes):
    fields = {
        "name": "tea",
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
    }
    return Rollouts(**fields | changes)


def test_measures_are_means_over_the_responses_to_each_prompt():
    run = table()
    measures = run.measures()
    assert (run.name, run.n, run.prompts) == ("tea", 3, ["a", "b"])
    np.testing.assert_allclose(measures["kl"], [1.5 / 3, -0.3 / 3], rtol=1e-12)
    np.testing.assert_allclose(measures["response_length"], [3, 2], rtol=1e-12)
    np.testing.assert_allclose(measures["distinct"], [2 / 3, 1], rtol=1e-12)
    np.testing.assert_allclose(measures["cut_off"], [1 / 3, 0], atol=1e-12)
    np.testing.assert_allclose(measures["unscored"], [1 / 3, 0], rtol=1e-12)


def test_sampling_is_what_must_agree_and_nothing_else():
    sampling = table().sampling
    assert set(sampling) == {"n", "temperature", "top_p", "top_k", "max_new_tokens", "reward", "dataset"}


@pytest.mark.parametrize(
    "change",
    [
        {"top_p": 0.9},
        {"top_k": 50},
        {"min_p": 0.1},
        {"suppress_tokens": [5]},
        {"do_sample": False},
    ],
)
def test_kl_is_unknown_where_more_than_a_temperature_shaped_the_responses(change):
    given = table()
    given.metadata["sampling"] |= change
    assert given.replace(name="tea").kl is None


def test_arguments_of_the_chat_template_must_agree():
    runs = []
    for thinking in (True, False):
        given = table()
        given.metadata["chat_template_kwargs"] = {"enable_thinking": thinking}
        runs.append(given.replace(name=f"{thinking}"))
    with pytest.raises(ValueError, match=r"chat_template_kwargs\.enable_thinking is True and False"):
        comparable_rollouts(runs)
    none = table()
    none.metadata["chat_template_kwargs"] = {}
    assert len(comparable_rollouts([none.replace(name="new"), table(name="of an older version")])) == 2


def test_kl_is_unknown_without_a_reference_or_a_record_of_the_sampling():
    assert table(reference_logprobs=None).kl is None
    assert table(metadata={}).kl is None
    assert table().kl is not None
    for setting in ("temperature", "top_p", "top_k"):
        given = table()
        del given.metadata["sampling"][setting]
        assert given.replace(name="tea").kl is None


def test_kl_is_known_at_any_temperature():
    given = table()
    given.metadata["sampling"]["temperature"] = 0.7
    np.testing.assert_array_equal(given.replace(name="tea").kl, table().kl)


def test_a_response_that_cannot_be_picked_is_unscored_too():
    picks = np.array([[np.nan, 1.0, 2.0], [0.0, 1.0, np.nan]])
    run = table(selection_rewards=picks)
    np.testing.assert_allclose(run.measures()["unscored"], [2 / 3, 1 / 3], rtol=1e-12)
    assert np.isnan(run.best_of_n([1])[0, 0])  # the second is picked by one of two and has no reward
    np.testing.assert_array_equal(run.best_of_n([2])[:, 0], [3.0, 0.0])


def test_the_reference_policy_is_known_by_content_where_it_can_be():
    fields = table().metadata
    runs = [
        table(metadata=fields | {"reference": name, "reference_files": content})
        for name, content in (("sft", "1f"), ("/copy/sft", "1f"), ("sft", "2e"), ("sft", None), ("other", None))
    ]
    references = [run.reference for run in runs]
    assert [references[0].same_as(other) for other in references] == [True, True, False, True, False]
    assert table().reference is None
    on_the_hub = fields | {"reference": "org/sft", "reference_files": None, "reference_revision": "c0ffee"}
    assert table(metadata=on_the_hub).reference == ("org/sft", "c0ffee")
    assert not references[0].same_as(None)


def test_what_is_not_given_is_unknown():
    run = Rollouts(np.array([[1.0, 2.0]]))
    assert (run.prompts, run.metadata, run.prompt_ids.tolist()) == (None, {}, [0])
    assert all(getattr(run, key) is None for key in ("kl", "distinct", "responses", "token_ids", "reference"))
    assert list(run.measures()) == ["unscored"]
    with pytest.raises(ValueError, match="rollouts 'rollouts' lack the logprobs"):
        run.known("logprobs")


def test_of_prompts_with_fewer_responses_the_padding_counts_nowhere():
    whole, fewer = table(), table(counts=np.array([2, 3]), rewards=np.array([[1.0, 2.0, np.nan], [0.0, np.nan, 1.0]]))
    measures = fewer.measures()
    np.testing.assert_allclose(measures["kl"], [0.5 / 2, -0.3 / 3], rtol=1e-12)
    np.testing.assert_allclose(measures["response_length"], [1.5, 2], rtol=1e-12)
    np.testing.assert_allclose(measures["distinct"], [2 / 2, 1], rtol=1e-12)
    np.testing.assert_allclose(measures["cut_off"], [0, 0], atol=1e-12)
    np.testing.assert_allclose(measures["unscored"], [0, 1 / 3], rtol=1e-12)
    assert fewer.take(np.array([1])).counts.tolist() == [3]
    assert whole.counts.tolist() == [3, 3]


def test_a_column_is_read_when_it_is_used_and_kept_where_it_was_asked_for_by_name():
    calls = []

    def later(key, value):
        return lambda: calls.append(key) or value

    given = {key: getattr(table(), key) for key in ("rewards", "num_tokens", "logprobs", "reference_logprobs")}
    lazy = table(**{key: later(key, value) for key, value in given.items()})
    assert calls == []
    other = lazy.replace(name="other").take(np.array([1, 0]))
    assert calls == []
    assert (other.name, other.prompts, other.prompt_ids.tolist()) == ("other", ["b", "a"], [9, 4])
    np.testing.assert_array_equal(other.rewards, given["rewards"][::-1])
    np.testing.assert_allclose(other.kl, table().kl[::-1])
    assert lazy.measures().keys() == table().measures().keys()
    before = len(calls)
    assert lazy.num_tokens is lazy.num_tokens
    lazy.measures()
    assert calls[before:] == ["num_tokens"]
    assert lazy.replace(kl=None).kl is not None  # it is still in the log-probabilities


def test_different_responses_are_counted_where_there_are_responses():
    rollouts = Rollouts(np.zeros((2, 3)), responses=[["a", "b", "a"], ["c", "c", "c"]])
    assert rollouts.distinct.tolist() == [2, 1]
    np.testing.assert_allclose(rollouts.measures()["distinct"], [2 / 3, 1 / 3])


@pytest.mark.parametrize("rewards", [np.array([[True, False]]), np.array([[1, 0]], dtype=np.int8)])
def test_rewards_of_any_kind_are_numbers(rewards):
    assert Rollouts(rewards).best_of_n([1, 2]).tolist() == [[0.5, 1.0]]


def test_rollouts_of_one_name_are_seeds_in_the_given_order():
    base, first, second = (table(name=name) for name in ("base", "tea", "tea"))
    assert seeds_by_name([first, base, second]) == {"tea": (first, second), "base": (base,)}


@pytest.mark.usefixtures("without_shape_checks")
def test_says_what_is_wrong():
    run = table()
    with pytest.raises(ValueError, match=r"'tea'.*at least one prompt and one response, got \(2, 0\)"):
        run.replace(rewards=np.zeros((2, 0)))
    with pytest.raises(ValueError, match=r"prompts has shape \(1,\), but rewards \(2, 3\) asks for \(2,\)"):
        run.replace(prompts=["a"])
    with pytest.raises(ValueError, match="prompt ids repeat"):
        run.replace(prompt_ids=np.array([4, 4]))
    with pytest.raises(ValueError, match="a reward is infinite"):
        run.replace(rewards=np.full((2, 3), np.inf))
