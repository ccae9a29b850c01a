"""What decides a run is known by content."""

import shutil
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from datasets import Dataset

from tailgrad.rewards import checked
from tailgrad.training.same_run import differences, run_record


def reward(*, completions: list[str], scale: float = 1.0, **_: Any) -> list[float]:
    return [scale * len(text) for text in completions]


def other(*, completions: list[str], **_: Any) -> list[float]:
    return [-1.0 for _ in completions]


class Environment:
    """What a rollout acts in."""


CALLED = {"rollout_func": None, "tools": [reward, other], "environment_factory": {"a": Environment}}


def record(**changes: Any) -> dict[str, Any]:
    options = changes.pop("options", {})
    args = SimpleNamespace(
        world_size=changes.pop("world_size", 1),
        train_batch_size=changes.pop("train_batch_size", 16),
        gradient_accumulation_steps=options.get("gradient_accumulation_steps", 1),
        estimator=options.get("estimator", "tea"),
        to_dict=lambda: {"seed": 1, "output_dir": "a"} | options,
    )
    given = {"model": "some/model", "rewards": [checked(reward)], "dataset": DATA, "adapter": None, "called": CALLED}
    return run_record(args, **given | changes)


DATA = Dataset.from_dict({"prompt": ["a", "b", "c"], "picture": [b"1", b"2", None]})


def test_the_same_run_has_no_differences_whatever_is_logged_and_saved() -> None:
    then = record()
    assert differences(then, record(options={"output_dir": "b", "logging_steps": 3, "report_to": ["wandb"]})) == (
        [],
        [],
    )
    assert differences(then, record(dataset=DATA.to_iterable_dataset())) == ([], [])  # a stream is not looked at
    assert differences(then, record(dataset=DATA.select([2, 0, 1]).select([1, 2, 0]))) == ([], [])
    assert differences(then, record(options={"a_new_option": 1})) == ([], [])


def test_each_thing_that_decides_a_run_makes_another() -> None:
    for changes, words in (
        ({"dataset": DATA.select([0])}, "other data"),
        ({"model": "other/model"}, "another policy to start from"),
        ({"rewards": [checked(other)]}, "other rewards"),
        ({"rewards": [checked(partial(reward, scale=2.0))]}, "other rewards"),
        ({"rewards": [checked(reward), checked(other)]}, "other rewards"),
        ({"adapter": {"r": 8}}, "adapter was None, is {'r': 8}"),
        ({"quantization": {"load_in_4bit": True}}, "quantization was None, is {'load_in_4bit': True}"),
        ({"called": CALLED | {"rollout_func": other}}, "another rollout_func"),
        ({"called": CALLED | {"tools": [other, reward]}}, "another tools"),
        ({"called": CALLED | {"environment_factory": {"b": Environment}}}, "another environment_factory"),
        ({"called": CALLED | {"environment_factory": {"a": SimpleNamespace}}}, "another environment_factory"),
        ({"called": CALLED | {"environment_factory": Environment}}, "another environment_factory"),
        ({"world_size": 2, "train_batch_size": 8}, "processes was 1, is 2"),
        ({"train_batch_size": 32}, "rollouts_per_step was 16, is 32"),
        ({"options": {"seed": 2}}, "seed was 1, is 2"),
    ):
        assert differences(record(), record(**changes)) == ([words], [])
    divided = record(options={"gradient_accumulation_steps": 2}, train_batch_size=8)
    said = ["gradient_accumulation_steps was 1, is 2"]
    assert differences(record(options={"gradient_accumulation_steps": 1}), divided) == ([], said)
    more = record(options={"max_steps": 10, "eval_steps": 1})
    assert differences(more, record(options={"max_steps": 20, "eval_steps": 1})) == ([], ["max_steps was 10, is 20"])


def test_an_adapter_is_the_same_wherever_its_base_lies() -> None:
    adapter = {"target_modules": {"q", "k", "v", "o"}, "base_model_name_or_path": "a"}
    assert record(adapter=adapter) == record(adapter=adapter | {"base_model_name_or_path": "b"})
    assert record(adapter=adapter)["adapter"] == {"target_modules": ["k", "o", "q", "v"]}


def test_what_is_in_an_adapter_is_compared_part_by_part() -> None:
    """A newer PEFT writes its version, and options that an older one does not know."""
    adapter = {"r": 8, "target_modules": {"q", "v"}, "lora_bias": False}
    then = record(adapter=adapter)
    assert differences(then, record(adapter=adapter | {"peft_version": "0.22", "new_option": 1})) == ([], [])
    then["adapter"]["peft_version"] = "0.21"
    assert differences(then, record(adapter=adapter | {"peft_version": "0.22"})) == ([], [])
    said = ["adapter had r 8, has 16", "adapter had target_modules ['q', 'v'], has ['q']"]
    assert differences(then, record(adapter=adapter | {"r": 16, "target_modules": {"q"}})) == (said, [])
    four, eight = ({"load_in_4bit": bits == 4, "load_in_8bit": bits == 8} for bits in (4, 8))
    said = ["quantization had load_in_4bit True, has False", "quantization had load_in_8bit False, has True"]
    assert differences(record(quantization=four), record(quantization=eight)) == (said, [])
    old = {name: value for name, value in then.items() if name not in ("quantization", "called")}
    assert differences(old, record(adapter=adapter, quantization=four)) == ([], [])  # of an older version


def test_a_model_is_its_content_and_one_that_was_never_saved_is_nothing(policy, tmp_path, monkeypatch) -> None:
    shutil.copytree(policy, tmp_path / "copy")
    assert record(model=str(policy))["model"] == record(model=str(tmp_path / "copy"))["model"] != str(policy)
    assert record(rewards=[str(policy)])["rewards"] == [record(model=str(policy))["model"]]
    monkeypatch.chdir(policy)  # the current folder is not the model without a name
    assert record(model="")["model"] == ""


def test_an_estimator_is_the_same_however_it_is_written() -> None:
    """0.1 wrote the options of estimators beside it, with those of all others that were left at None."""
    now = record(options={"estimator": "tea:tail_fraction=5e-1,center=true"})
    assert now["options"]["estimator"] == "tea:center=true,tail_fraction=0.5"
    then = record()
    beside = {"tail_fraction": 0.5, "center": True, "k": None, "baseline": None, "deploy_n": 128}
    then["options"] |= {"estimator": "tea", **beside}
    assert differences(then, now) == ([], [])
    then["options"]["tail_fraction"] = 0.25
    words = "estimator was tea:center=true,tail_fraction=0.25, is tea:center=true,tail_fraction=0.5"
    assert differences(then, now) == ([words], [])
    grpo = record(options={"estimator": "grpo"})
    then["options"] |= {"estimator": "grpo"}  # where the tail fraction was that of the logged forecast
    assert differences(then, grpo) == ([], [])


def test_the_rollouts_of_a_step_are_compared_under_their_first_name_too() -> None:
    old = record()
    old["rollouts_a_step"] = old.pop("rollouts_per_step")
    assert differences(old, record()) == ([], [])
    assert differences(old, record(train_batch_size=32)) == (["rollouts_per_step was 16, is 32"], [])


GONE = {"ddof": None, "prefix_sizes": None, "cyclic_shifts": None, "center": None}


@pytest.mark.parametrize(
    ("estimator", "beside", "then"),
    [
        ("prefix_tea", {"ddof": 1}, "prefix_tea:ddof=1"),
        ("prefix_tea", {"prefix_sizes": [8, 16]}, "prefix_tea:prefix_sizes=8+16"),
        ("prefix_tea", {"cyclic_shifts": False}, "prefix_tea:cyclic_shifts=false"),
        ("prefix_tea", {"center": True}, "prefix_tea:center=true"),
        ("tea", {"ddof": 1}, "tea:ddof=1"),
        ("max_at_k:k=4", {"baseline": None}, "max_at_k:baseline=subset,k=4"),
        ("qae", {"eps": 0.01}, "qae:eps=0.01"),
        ("bon_rl", {"binary": False}, "bon_rl:binary=false"),
        ("cat_bon", {"normalize": False}, "cat_bon:normalize=false"),
    ],
)
def test_what_an_estimator_of_the_first_version_did_and_todays_does_not_makes_another_run(
    estimator: str, beside: dict[str, Any], then: str
) -> None:
    old = record()
    old["options"] |= GONE | {"estimator": estimator.partition(":")[0], "k": 4} | beside
    assert differences(old, record(options={"estimator": estimator})) == (
        [f"estimator was {then}, is {estimator}"],
        [],
    )


def test_options_that_went_and_stood_at_their_defaults_make_no_other_run() -> None:
    defaults = {"ddof": 0, "prefix_sizes": None, "cyclic_shifts": True, "center": False}
    for name, beside in (("prefix_tea", defaults), ("prefix_tea", GONE), ("tea", {"ddof": 0}), ("tea", GONE)):
        old = record()
        old["options"] |= {"estimator": name} | beside
        assert differences(old, record(options={"estimator": name})) == ([], [])
    old["options"] |= {"estimator": "max_at_k", "k": 4, "baseline": None}
    assert differences(old, record(options={"estimator": "max_at_k:k=4,baseline=subset"})) == ([], [])
    at_default = {"qae:eps=0.0001": "qae", "cat_bon:normalize=true": "cat_bon"}
    for then, now in (at_default | {"tea:center=true,ddof=0": "tea:center=true"}).items():
        old["options"] |= {"estimator": then}
        assert differences(old, record(options={"estimator": now})) == ([], [])
    old["options"] |= {"estimator": "qae:eps=0.01,quantile=0.3"}
    words = "estimator was qae:eps=0.01,quantile=0.3, is qae:quantile=0.3"
    assert differences(old, record(options={"estimator": "qae:quantile=0.3"})) == ([words], [])
    old["options"] |= {"estimator": "grpo", "ddof": 1}  # which took none
    assert differences(old, record(options={"estimator": "grpo"})) == ([], [])
