"""Rewards by their names: what they are called, a function by its dotted path, those that TRL knows."""

import functools
import importlib.util
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import trl.rewards
import trl.scripts.grpo

from tailgrad.rewards import (
    checked,
    import_reward,
    load_reward,
    reward_name,
)
from tailgrad.rewards.names import TRL_REWARDS


def constant(**rollouts: Any) -> list[float]:
    return [1.0]


def test_names_are_those_that_trl_logs() -> None:
    from trl.trainer.utils import get_callable_name

    class Judge:
        def __call__(self, **rollouts: Any) -> list[float]:
            return [1.0]

    for reward in (constant, functools.partial(constant, scale=2), Judge(), checked(Judge())):
        assert reward_name(reward) == get_callable_name(reward)
        assert checked(reward).__name__ == get_callable_name(reward)
    assert checked(checked(Judge())).__name__ == "Judge"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A module of rewards in the current directory, under a name of its own."""
    name = f"my_rewards_{abs(hash(request.node.name))}"
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").write_text("limit = 3\n")
    (folder / "style.py").write_text("def short(completions, **_):\n    return [-len(c) for c in completions]\n")
    (folder / "broken.py").write_text("import a_module_that_is_not_there\n")
    (folder / "raising.py").write_text("raise RuntimeError('no key')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [path for path in __import__("sys").path if path != str(tmp_path)])
    return name


@pytest.mark.parametrize("separator", [".", ":"])
def test_a_dotted_path_from_the_current_directory(module: str, separator: str) -> None:
    reward = load_reward(f"{module}.style{separator}short", batch_size=4, revision=None)
    assert checked(reward)(prompts=["p"], completions=["abc"]) == [-3.0]


@pytest.mark.parametrize(
    ("rest", "error", "message"),
    [
        (".stile.short", ValueError, r"there is no module '.*\.stile'"),
        (".style.long", ValueError, r"module '.*\.style' has no 'long'"),
        (".broken.short", ValueError, "importing '.*' failed: No module named 'a_module_that_is_not_there'"),
        (".raising.short", ValueError, "importing '.*' failed: RuntimeError: no key"),
        (".limit", TypeError, "is a int, not a function"),
        (":", ValueError, "is not a dotted path"),
    ],
)
def test_what_is_wrong_with_a_dotted_path(module: str, rest: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        import_reward(module + rest)


def test_a_callable_passes_through() -> None:
    assert load_reward(constant, batch_size=2) is constant


def test_the_rewards_that_trl_knows_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names, and what they stand for, are read from TRL's own script."""
    script = inspect.getsource(trl.scripts.grpo.main)
    table = re.search(r"reward_funcs_registry = \{(.*?)\n    \}", script, re.DOTALL)
    assert table is not None
    theirs = dict(re.findall(r'"(\w+)": (.*),', table[1]))
    options = {name: ", ".join(f"{k}={v}" for k, v in given.items()) for name, given in TRL_REWARDS.items()}
    assert theirs == {name: f"{name}({given})" if given else name for name, given in options.items()}
    functions = {name: getattr(trl.rewards, name) for name in theirs}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)  # as if math_verify were installed
    for name in ("accuracy_reward", "reasoning_accuracy_reward", "think_format_reward"):
        assert load_reward(name) is functions[name]
    long = load_reward("get_soft_overlong_punishment")
    assert long(completion_ids=[[0] * 1024, [0] * 1152, [0] * 1280, [0] * 1281]) == [0.0, -0.5, -1.0, -1]
    chat = [[{"role": "assistant", "content": "<think>a</think>b"}], [{"role": "assistant", "content": "b"}]]
    assert checked(load_reward("think_format_reward"))(prompts=["p"] * 2, completions=chat) == [1.0, 0.0]


@pytest.mark.parametrize("name", ["accuracy_reward", "reasoning_accuracy_reward"])
def test_a_reward_that_needs_another_package(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=rf"'{name}' needs a package .*: pip install math-verify"):
        load_reward(name)


@pytest.mark.parametrize("spec", ["my_reward", "my_reward.py", "./my_reward.py", "./my_reward"])
def test_a_file_is_not_taken_for_a_model_or_a_function(
    spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_reward.py").write_text("def count(completions, **_):\n    return [1.0 for _ in completions]\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match=r"not a function: name one in it as module.function, such as my_reward\.count"
    ):
        load_reward(spec)
    assert load_reward("my_reward.count")(completions=["a", "b"]) == [1.0, 1.0]


@pytest.mark.parametrize("spec", ["my_reward.py:count", "folder/my_reward.py:count", "./my_reward.py:count"])
def test_a_function_of_a_file_is_named_as_one_of_a_module(spec: str) -> None:
    with pytest.raises(ValueError, match="names a file") as caught:
        load_reward(spec)
    assert caught.value.__cause__ is None
    assert str(caught.value) == (
        f"reward {spec!r} names a file, not a module: write my_reward:count or my_reward.count, and run in the folder "
        "of the file."
    )
