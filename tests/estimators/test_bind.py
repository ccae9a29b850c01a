import re
from collections.abc import Sequence

import pytest
import torch

from tailgrad.estimators import (
    ESTIMATORS,
    SCALINGS,
    bind,
    find_estimator,
    max_at_k,
    parse_estimator,
    smallest_group,
    spell_estimator,
    tea,
)

REWARDS = torch.tensor([[0.0, 1.0, 5.0, 2.0, 3.0, 7.0, 4.0, 6.0]])


def test_a_row_has_the_name_of_its_function() -> None:
    assert all(row.function.__name__ == name for name, row in ESTIMATORS.items())


def test_bound_options_reach_the_estimator() -> None:
    bound = bind("tea", deploy_n=64, tail_fraction=0.5)
    assert torch.equal(bound(REWARDS), tea(REWARDS, deploy_n=64, tail_fraction=0.5))


def test_an_option_that_is_none_is_left_at_its_default() -> None:
    bound = bind("max_at_k", k=3, baseline=None, deploy_n=None)
    assert torch.equal(bound(REWARDS), max_at_k(REWARDS, k=3))


@pytest.mark.parametrize("function", [bind, find_estimator, smallest_group, parse_estimator])
def test_an_unknown_name_lists_the_names_and_suggests_one(function: object) -> None:
    with pytest.raises(ValueError, match=r"unknown estimator 'prefixtea', did you mean 'prefix_tea'\?.*grpo, dr_grpo"):
        function("prefixtea")  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"unknown estimator 'ppo'\. Choose one of: tea, prefix_tea"):
        function("ppo")  # type: ignore[operator]


def test_an_option_of_another_estimator_names_its_takers() -> None:
    with pytest.raises(ValueError, match=r"dr_grpo takes no option 'tail_fraction', .*belongs to tea, prefix_tea"):
        bind("dr_grpo", tail_fraction=0.25)
    with pytest.raises(ValueError, match=r"tea takes no option 'temperature', .*no estimator takes it"):
        bind("tea", deploy_n=64, temperature=1.0)


@pytest.mark.parametrize(("name", "missing"), [("max_at_k", "k"), ("tea", "deploy_n"), ("prefix_tea", "deploy_n")])
def test_a_missing_option_is_named(name: str, missing: str) -> None:
    with pytest.raises(ValueError, match=f"{name} needs the option {missing}"):
        bind(name)


def test_the_options_of_a_row() -> None:
    assert list(ESTIMATORS["tea"].options) == ["deploy_n", "tail_fraction", "tail", "center"]
    assert list(ESTIMATORS["grpo"].options) == ["eps"]
    assert list(ESTIMATORS["rloo"].options) == []
    expected = ["deploy_n", "tail_fraction", "tail", "order", "num_prefixes", "evaluation"]
    assert list(ESTIMATORS["prefix_tea"].options) == expected


def test_what_a_row_says() -> None:
    """Of a few; the contract suite checks by computing what can be computed, of every row."""
    assert all(ESTIMATORS[name].follows_mean for name in ("grpo", "dr_grpo", "rloo"))
    assert ESTIMATORS["flat_tea"].scaling == "group"
    assert {row.scaling for row in ESTIMATORS.values()} <= set(SCALINGS)
    tea, grpo = ESTIMATORS["tea"], ESTIMATORS["grpo"]
    assert (tea.takes_deploy_n, tea.takes_ratios) == (True, True)
    assert (grpo.takes_deploy_n, grpo.takes_ratios) == (False, False)
    assert ESTIMATORS["dr_grpo"].summary == "Reward minus the mean of the group"


@pytest.mark.parametrize(
    "text",
    ["grpo", "tea:center=true,tail_fraction=0.5", "max_at_k:baseline=loo,k=4", "pass_at_n:levels=0+0.5+1,prior=1+16"],
)
def test_an_estimator_is_spelled_as_it_is_read(text: str) -> None:
    assert spell_estimator(*parse_estimator(text)) == text
    shuffled = "tea: tail_fraction = 5e-1 , center=True"
    assert spell_estimator(*parse_estimator(shuffled)) == "tea:center=true,tail_fraction=0.5"
    third = parse_estimator(spell_estimator("tea", {"tail_fraction": 1 / 3, "deploy_n": 128, "center": None}))[1]
    assert third == {"tail_fraction": 1 / 3, "deploy_n": 128}


@pytest.mark.parametrize("levels", [[0.0, 1e6], [-1e22, 2.5e-7, 1e300], [1 / 3, 123456789.125]])
def test_large_and_small_numbers_of_a_list_are_spelled_as_they_are_read(levels: list[float]) -> None:
    assert parse_estimator(spell_estimator("pass_at_n", {"levels": levels})) == ("pass_at_n", {"levels": levels})


def test_smallest_groups() -> None:
    """tail_fraction 0.25 puts two of five in the tail; prefixes of 8 and 12; `loo` needs one besides k."""
    assert smallest_group("tea", deploy_n=128) == 5
    assert smallest_group("prefix_tea", deploy_n=128, order=3, validate=False) == 16
    assert smallest_group("max_at_k", k=4, validate=True) == 4
    assert smallest_group("max_at_k", k=1) == 2
    assert smallest_group("max_at_k", k=4, baseline="loo") == 5
    assert [smallest_group(name) for name in ("grpo", "dr_grpo", "rloo")] == [2, 2, 2]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("tea", {"deploy_n": 128, "tail_fraction": 0.0}, "tail_fraction = 0.0 must lie in"),
        ("prefix_tea", {"deploy_n": 128, "order": 0}, "order = 0 must lie between 1"),
        ("max_at_k", {"k": 0}, "k = 0 must be at least 1"),
    ],
)
def test_no_smallest_group_for_options_that_the_estimator_refuses(
    name: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        smallest_group(name, **options)


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("tea", "tea", {}),
        ("max_at_k:k=4", "max_at_k", {"k": 4}),
        ("tea: tail_fraction = 0.5 , center=True", "tea", {"tail_fraction": 0.5, "center": True}),
        ("rs_grpo:risk_beta=-2", "rs_grpo", {"risk_beta": -2.0}),
        ("rs_grpo:risk_beta=1e-2", "rs_grpo", {"risk_beta": 0.01}),
        ("tea:deploy_n=8,center=false", "tea", {"deploy_n": 8, "center": False}),
        ("pass_at_n:levels=0 + 0.5+1,deploy_n=8", "pass_at_n", {"levels": [0, 0.5, 1], "deploy_n": 8}),
        ("pass_at_n:levels=4", "pass_at_n", {"levels": [4]}),
        ("tea:tail=exponential", "tea", {"tail": "exponential"}),
        ("tea:tail_fraction=1", "tea", {"tail_fraction": 1.0}),
        ("pass_at_n:deploy_n=64,prior=0.5+4", "pass_at_n", {"deploy_n": 64, "prior": [0.5, 4]}),
    ],
)
def test_an_estimator_can_be_written_in_a_word(text: str, name: str, options: dict[str, object]) -> None:
    assert parse_estimator(text) == (name, options)
    assert [type(value) for value in parse_estimator(text)[1].values()] == [type(o) for o in options.values()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_at_k:", "'' is not option=value; write such as max_at_k:k=4"),
        ("max_at_k:4", "'4' is not option=value"),
        ("max_at_k:k=", "'k=' is not option=value"),
        ("max_at_k:k=4,k=5", "'k=5' is given twice"),
        ("grpo:k=4", "grpo takes no option 'k', .*belongs to max_at_k, order_grad, pass_at_k"),
        ("max_at_k:k=four", "k must be of type int, got 'four'"),
        ("max_at_k:k=4.5", "k must be of type int, got '4.5'"),
        ("tea:tail_fraction=true", "tail_fraction must be of type int or float, got 'true'"),
        ("tea:center=1", "center must be of type bool, got '1'"),
        ("tea:center=yes", "center must be of type bool, got 'yes'"),
        ("tea:deploy_n=many", "deploy_n must be of type int or float or Tensor, got 'many'"),
        ("cat_bon:deploy_n=true", "deploy_n must be of type int or float or Tensor, got 'true'"),
        ("max_at_k:k=4,baseline=2", "baseline must be of type str, got '2'"),
        ("pass_at_n:levels=0-1", r"levels must be of type list of numbers, written as 0\.5\+4, got '0-1'"),
        ("pass_at_n:prior=0.5+b", r"prior must be of type list of numbers, written as 0\.5\+4, got '0.5\+b'"),
        ("pass_at_n:levels=8+", r"of type list of numbers, written as 0\.5\+4, got '8\+'"),
    ],
)
def test_what_is_wrong_with_a_written_estimator_is_said(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_estimator(text)


WRONG: dict[object, list[object]] = {
    int: [2.5, "2", True],
    float: ["0.5", True, [0.5]],
    float | None: ["0.5", True, [0.5]],
    bool: [1, "yes"],
    Sequence[float] | None: [4.5, ["4.5"]],
}


def test_an_option_of_another_kind_is_refused_before_any_reward_is_seen() -> None:
    """Every option of every estimator, each with values that are not of its kind."""
    required = {"deploy_n": 128, "k": 4, "risk_beta": 1.0}
    for name in ESTIMATORS:
        accepted = ESTIMATORS[name].options
        known = {option: value for option, value in required.items() if option in accepted}
        assert bind(name, **known)
        for option in accepted:
            annotation = accepted[option].annotation
            for value in WRONG.get(annotation, ["many", True] if option == "deploy_n" else [4.5, [4.5]]):
                for function in (bind, smallest_group):
                    with pytest.raises(
                        TypeError, match=rf"{name}: {option} must be of type .*, got {re.escape(repr(value))}"
                    ):
                        function(name, **{**known, option: value})


def test_one_level_is_a_list_of_one() -> None:
    name, options = parse_estimator("pass_at_n:levels=4")
    with pytest.raises(ValueError, match=r"levels = \(4\.0,\) must be two or more"):
        bind(name, deploy_n=128, **options)(REWARDS)
