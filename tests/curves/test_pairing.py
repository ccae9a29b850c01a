import json
from dataclasses import fields

import numpy as np
import pytest

from reports import tables_of
from tailgrad.curves import Rollouts, best_of_n, comparable_rollouts, compare
from tailgrad.curves.compare import compare_values
from tailgrad.curves.reference import Reference
from tailgrad.curves.settings import SAMPLE_OPTIONS
from tailgrad.curves.tables import json_text, markdown_text
from tailgrad.rollouts.config import SampleConfig
from tailgrad.statistics import mean_interval, paired_difference

SAMPLING = {"temperature": 1.0, "reward": "length", "dataset": {"name": "sums", "sha256": "1f"}}


def metadata_of(sampling):
    """Metadata with these settings, which `Rollouts.sampling` gives back."""
    shaping = {name: sampling[name] for name in ("temperature", "max_new_tokens", "min_p") if name in sampling}
    others = {name: value for name, value in sampling.items() if name not in shaping}
    return others | ({"sampling": shaping} if shaping else {})


def run_of(name, seed=0, prompts=6, n=4, **changes):
    rng = np.random.default_rng(seed)
    fields = {
        "prompt_ids": np.arange(10, 10 + prompts),
        "prompts": [f"prompt {number}" for number in range(prompts)],
        "rewards": rng.normal(size=(prompts, n)),
        "distinct": rng.integers(1, n + 1, prompts),
        "num_tokens": rng.integers(1, 9, (prompts, n)),
        "finished": rng.random((prompts, n)) < 0.5,
        "kl": rng.random(prompts),
    }
    reference, sampling = changes.pop("reference", None), changes.pop("sampling", SAMPLING)
    metadata = metadata_of(sampling)
    if reference is not None:
        metadata |= {"reference": reference.name, "reference_files": reference.content}
    return Rollouts(name=name, metadata=metadata, **fields | changes)


def permuted(run, order):
    names = ("prompt_ids", "rewards", "distinct", "num_tokens", "finished", "kl", "selection_rewards")
    take = {key: getattr(run, key)[order] for key in names if getattr(run, key) is not None}
    return run.replace(**take, prompts=[run.prompts[row] for row in order])


def test_prompts_are_matched_by_their_id_in_any_order():
    picks = np.random.default_rng(2).normal(size=(6, 4))
    base, tea = run_of("base", selection_rewards=picks), run_of("tea", seed=1, selection_rewards=picks)
    order = np.random.default_rng(0).permutation(6)
    expected, got = compare([base, tea]).curves[1], compare([base, permuted(tea, order)]).curves[1]
    np.testing.assert_array_equal(got.difference, expected.difference)
    for key, interval in expected.measures.items():
        np.testing.assert_allclose(got.measures[key], interval, rtol=1e-12)
    lined_up = comparable_rollouts([base, permuted(tea, order)])[1]
    for key in ("prompt_ids", "rewards", "num_tokens", "finished", "kl", "selection_rewards", "prompts", "distinct"):
        np.testing.assert_array_equal(getattr(lined_up, key), getattr(tea, key))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"sampling": SAMPLING | {"temperature": 0.7}}, "temperature is 1.0 and 0.7"),
        ({"sampling": SAMPLING | {"reward": "judge"}}, "reward is 'length' and 'judge'"),
        (
            {"sampling": SAMPLING | {"dataset": {"name": "sums", "sha256": "2e"}}},
            "dataset.sha256 is '1f' and '2e'",
        ),
        (
            {"sampling": {"temperature": 1.0, "dataset": SAMPLING["dataset"]}},
            "reward is 'length' and 'not recorded'",
        ),
        ({"n": 8}, "n is 4 and 8"),
        ({"prompts": 5}, "6 and 5 prompts, of which 5 have the same prompt_id"),
        ({"prompt_ids": np.arange(6)}, "of which 0 have the same prompt_id"),
    ],
)
def test_refuses_what_was_sampled_differently(other, message):
    with pytest.raises(ValueError, match=message):
        compare([run_of("base"), run_of("tea"), run_of("grpo", **other)])


def test_refuses_other_prompts_under_the_same_ids():
    base = run_of("base")
    with pytest.raises(ValueError, match="prompt_id 12 is 'prompt 2' and 'other'"):
        compare([base, base.replace(prompts=["prompt 0", "prompt 1", "other", *base.prompts[3:]])])


def test_the_same_data_may_lie_at_another_path():
    elsewhere = {"dataset": {"name": "/data/sums", "sha256": "1f"}}
    assert len(compare([run_of("base"), run_of("tea", sampling=SAMPLING | elsewhere)]).curves) == 2


def test_without_a_hash_the_name_of_the_data_must_agree():
    first, second = (run_of("run", sampling={"dataset": {"name": name}}) for name in ("sums", "products"))
    with pytest.raises(ValueError, match=r"dataset\.name is 'sums' and 'products'"):
        compare([first, second])


def test_the_curve_is_the_mean_of_the_prompts_values():
    run = run_of("base")
    comparison = compare([run], budgets=[3, 1, 3])
    assert comparison.budgets == (1, 3)
    expected = best_of_n(run.rewards, [1, 3]).mean(axis=0)
    np.testing.assert_allclose(comparison.curves[0].v_n.mean, expected, rtol=1e-12)
    assert comparison.curves[0].difference is None


def test_seeds_of_one_name_are_averaged_and_paired_in_order():
    base, runs = run_of("base"), [run_of(name, seed=seed) for seed in (1, 2, 3) for name in ("grpo", "tea")]
    comparison = compare([base, *runs], reference="grpo")
    values = {
        name: np.stack([best_of_n(run.rewards, (1, 2, 4)) for run in runs if run.name == name])
        for name in ("grpo", "tea")
    }
    by_name = {curve.name: curve for curve in comparison.curves}
    assert [(curve.name, curve.seeds) for curve in comparison.curves] == [
        ("base", 1),
        ("grpo", 3),
        ("tea", 3),
    ]
    np.testing.assert_allclose(by_name["tea"].v_n.mean, values["tea"].mean(axis=(0, 1)), rtol=1e-12)
    np.testing.assert_allclose(by_name["tea"].per_seed, values["tea"].mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(by_name["tea"].difference, mean_interval(values["tea"] - values["grpo"]), rtol=1e-12)
    alone = best_of_n(base.rewards, (1, 2, 4))
    np.testing.assert_allclose(by_name["base"].difference, mean_interval(alone - values["grpo"]), rtol=1e-12)


def test_a_difference_leaves_out_prompts_unknown_on_either_side():
    values = np.random.default_rng(0).normal(size=(2, 1, 8, 1))
    values[0, 0, 2] = values[1, 0, 5] = np.nan
    difference = paired_difference(values[0], values[1])
    kept = [0, 1, 3, 4, 6, 7]
    assert difference.prompts.tolist() == [6]
    np.testing.assert_allclose(difference.mean, (values[0] - values[1])[0, kept].mean(axis=0), rtol=1e-12)


def test_too_few_scored_responses_leave_a_prompt_out_of_that_budget():
    run = run_of("base")
    rewards = run.rewards.copy()
    rewards[3, 0] = np.nan
    curve = compare([run.replace(rewards=rewards)]).curves[0]
    assert curve.v_n.prompts.tolist() == [6, 6, 5]
    np.testing.assert_allclose(curve.per_seed[0], curve.v_n.mean, rtol=1e-12)


def test_says_what_is_wrong():
    base = run_of("base")
    with pytest.raises(ValueError, match="there are no rollouts"):
        compare([])
    with pytest.raises(ValueError, match="reference 'tea' is not among the methods: choose from base"):
        compare([base], reference="tea")
    with pytest.raises(ValueError, match="between 1 and the 4 responses per prompt, got 8"):
        compare([base], budgets=[8])
    with pytest.raises(ValueError, match="'tea' and 'grpo': cannot pair 3 training seeds with 2"):
        compare([run_of("grpo")] * 2 + [run_of("tea")] * 3)


@pytest.mark.usefixtures("without_shape_checks")
def test_values_that_are_known_already_are_compared_alike():
    generator = np.random.default_rng(0)
    runs = [Rollouts(generator.normal(size=(9, 8)), name=name) for name in ("base", "tea", "tea", "grpo", "grpo")]
    whole = compare(runs, budgets=(1, 4), reference="grpo", seed=3)
    names = ("base", "tea", "grpo")
    values = {name: np.stack([best_of_n(run.rewards, (1, 4)) for run in runs if run.name == name]) for name in names}
    measures = {name: {"kl": np.full((len(values[name]), 9), 0.5)} for name in names}
    found = compare_values(values, measures, budgets=[1, 4], n=8, reference="grpo", sampling={"n": 8}, seed=3)
    assert (found.budgets, found.n, found.prompts, found.reference) == ((1, 4), 8, 9, "grpo")
    assert found.sampling == {"n": 8}
    for ours, theirs in zip(found.curves, whole.curves, strict=True):
        assert (ours.name, ours.seeds) == (theirs.name, theirs.seeds)
        np.testing.assert_array_equal(ours.v_n, theirs.v_n)
        np.testing.assert_array_equal(ours.per_seed, theirs.per_seed)
        assert ours.measures["kl"].mean == [0.5]
        if ours.name != "grpo":
            np.testing.assert_array_equal(ours.difference, theirs.difference)
            np.testing.assert_allclose(
                ours.difference.mean, values[ours.name].mean(axis=(0, 1)) - values["grpo"].mean(axis=(0, 1))
            )
    with pytest.raises(ValueError, match=r"reference 'rloo' is not among the methods: choose from base, tea, grpo"):
        compare_values(values, measures, budgets=[1, 4], n=8, reference="rloo")
    values["grpo"] = values["grpo"][:, :, :1]
    with pytest.raises(ValueError, match=r"'base' and 'grpo': paired differences need the same prompts and quantities"):
        compare_values(values, measures, budgets=[1, 4], n=8, reference="grpo")


@pytest.mark.usefixtures("without_shape_checks")
def test_values_of_different_prompts_cannot_be_paired():
    with pytest.raises(ValueError, match="the same prompts and quantities"):
        paired_difference(np.zeros((1, 4, 2)), np.zeros((1, 3, 2)))


def test_a_run_that_records_nothing_is_compared_and_what_is_not_checked_is_said():
    runs = [run_of("pandas", sampling={}), run_of("base"), run_of("tea", seed=1)]
    comparison = compare(runs)
    assert len(comparison.notes) == 1
    assert all(word in comparison.notes[0] for word in ("pandas", "temperature, reward, dataset"))
    assert comparison.notes[0] in markdown_text(comparison)
    assert comparison.notes[0] in json.loads(json_text(comparison))["notes"]
    assert comparison.sampling == SAMPLING
    silent = compare([run_of("pandas", sampling={}), run_of("duckdb", sampling={})])
    assert len(silent.notes) == 1
    assert "pandas" not in silent.notes[0], "it is of all"
    assert compare([run_of("base"), run_of("tea")]).notes == compare([run_of("pandas", sampling={})]).notes == ()


def test_those_that_do_record_are_still_checked_behind_one_that_does_not():
    other = run_of("tea", sampling=SAMPLING | {"temperature": 0.7})
    with pytest.raises(ValueError, match="'base' and 'tea' were sampled differently: temperature"):
        compare([run_of("pandas", sampling={}), run_of("base"), other])
    with pytest.raises(ValueError, match="what picks the best response is 'the reward itself' and 'another reward'"):
        compare([run_of("pandas", sampling={}), run_of("tea", sampling={}, selection_rewards=np.zeros((6, 4)))])


def test_how_to_mend_what_was_sampled_differently_is_said():
    other = run_of("tea", sampling=SAMPLING | {"max_new_tokens": 8})
    ours = run_of("base", sampling=SAMPLING | {"max_new_tokens": 512})
    with pytest.raises(ValueError, match=r"max_completion_length is 512 and 8\. .* 'tea' again with") as refusal:
        compare([ours, other])
    assert "sample 'tea' again with --max_completion_length 512 or 'base' again with --max_comp" in str(refusal.value)
    options = {entry.name for entry in fields(SampleConfig)}
    assert options.issuperset(SAMPLE_OPTIONS.values())
    with pytest.raises(ValueError, match=r"min_p is .* sample both with the same settings"):
        compare([ours, run_of("min", sampling=SAMPLING | {"max_new_tokens": 512, "min_p": 0.1})])


def test_a_reward_of_which_the_contents_changed_is_said():
    base, same, other = (
        run_of(name, sampling=SAMPLING | {"reward_files": files})
        for name, files in (("base", ["1f", None]), ("same", ["1f", None]), ("other", ["2e", None]))
    )
    assert compare([base, same]).notes == compare([base, run_of("old")]).notes == ()
    (note,) = compare([base, same, other]).notes
    assert "'length'" in note
    assert all(name in note for name in ("base", "other"))


def test_the_kl_to_different_policies_is_left_out_and_said_and_nothing_else_is():
    references = [Reference("sft", "1f" * 32), Reference("copy of sft", "1f" * 32), Reference("sft", "2e" * 32)]
    base, copy, other = (
        run_of(name, reference=to) for name, to in zip(("base", "copy", "other"), references, strict=True)
    )
    one = compare([base, copy])
    assert one.notes == ()
    np.testing.assert_allclose(one.curves[1].measures["kl"].mean, copy.kl.mean(), rtol=1e-12)
    two = compare([base, copy, other, run_of("no kl", kl=None)])
    assert not any("kl" in curve.measures for curve in two.curves)
    names = f"'sft' ({'1f' * 6}) for base and 'sft' ({'2e' * 6}) for other"
    assert len(two.notes) == 1
    assert all(words in two.notes[0] for words in ("KL", names, "--reference_model"))
    np.testing.assert_array_equal(two.curves[2].v_n, compare([base, run_of("other")]).curves[1].v_n)
    (note,) = compare([base, run_of("tea")]).notes
    assert all(word in note for word in ("unknown", "tea"))
    assert compare([run_of("base"), run_of("tea")]).notes == ()


def test_a_mean_over_fewer_than_half_of_the_prompts_is_unknown():
    picks = run_of("judged").rewards
    for missing, known in ((3, True), (4, False)):
        rewards = picks.copy()
        best = picks.argmax(axis=1)
        rewards[np.arange(missing), best[:missing]] = np.nan
        run = run_of("judged", rewards=rewards, selection_rewards=picks, sampling=SAMPLING | {"selection_reward": "rm"})
        curve = compare([run, run.replace(name="again")]).curves[1]
        assert curve.v_n.prompts.tolist() == [6 - missing] * 3
        for numbers in (curve.v_n.mean, curve.v_n.low, curve.per_seed[0], curve.difference.high):
            assert np.isfinite(numbers).tolist() == [known] * 3
        text = markdown_text(compare([run]))
        assert all(f"{budget} ({6 - missing})" in text for budget in (1, 2, 4))
        assert [row[1] == "unknown" for row in tables_of(text)[0][1:]] == [not known] * 3


def test_what_picks_the_best_is_said_where_no_name_of_it_is_recorded():
    comparison = compare([run_of("pandas", sampling={}, selection_rewards=np.ones((6, 4)))])
    assert "selection_reward" in comparison.title
