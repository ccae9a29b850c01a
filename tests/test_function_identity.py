"""What counts as the same function: its source, and the values that it carries, but not its state."""

import functools
import importlib.util
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tailgrad.identity import function_sha256
from tailgrad.rewards import WeightedSum, checked


@pytest.fixture
def module_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Imports a module whose source stands in a file."""

    def imported(source: str, folder: str = "rewards") -> Any:
        path = tmp_path / folder / "own_rewards.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
        spec = importlib.util.spec_from_file_location("own_rewards", path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "own_rewards", module)
        exec(compile(source, str(path), "exec"), module.__dict__)
        return module

    return imported


SOURCE = """
def reward(completions, scale=1.0, **columns):
    return [scale * len(text) for text in completions]

def other(completions, **columns):
    return reward(completions)

class Judge:
    def __init__(self, threshold, inner=None):
        self.threshold, self.inner, self.lock = threshold, inner, object()
    def __call__(self, completions, **columns):
        return [len(text) > self.threshold for text in completions]
    def method(self, completions, **columns):
        return self(completions)
"""


def test_the_source_of_the_module_counts(module_with: Callable[..., Any]) -> None:
    before = function_sha256(module_with(SOURCE).reward)
    assert function_sha256(module_with(SOURCE, "copy").reward) == before
    assert function_sha256(module_with(SOURCE.replace("> self", ">= self")).reward) != before


def test_what_a_function_carries_counts(module_with: Callable[..., Any]) -> None:
    module = module_with(SOURCE)
    reward, judge = module.reward, module.Judge
    different = [
        reward,
        module.other,
        functools.partial(reward, scale=2.0),
        functools.partial(reward, scale=3.0),
        functools.partial(functools.partial(reward, scale=3.0), answer={"a": [1, 2]}),
        judge(1),
        judge(2),
        judge(2, inner=reward),
        judge(2, inner=[{"a": judge(3)}]),
        judge(2).method,
        judge(3).method,
        checked(reward),
        WeightedSum([reward, reward]),
        WeightedSum([reward, reward], [1.0, 2.0]),
        WeightedSum([reward, module.other]),
    ]
    hashes = [function_sha256(one) for one in different]
    assert None not in hashes
    assert len(set(hashes)) == len(hashes)
    assert function_sha256(judge(2, inner=[{"a": judge(3)}])) == hashes[8]
    circle = judge(2)
    circle.inner = [circle]
    assert function_sha256(circle) not in hashes


MADE = """
def make(sign=1, scale=None, inner=None, *, bound=0):
    seen, calls = [], 0
    def count():
        nonlocal calls
        calls += 1
    def reward(completions, offset=bound, **columns):
        seen.append(len(completions))
        count()
        return [sign * (scale or 1) * len(text) + offset + calls * 0 for text in completions]
    return reward

class Counting:
    calls = 0
    def score(self, text):
        self.calls += 1
        return len(text)

def bound(score):
    def reward(completions, **columns):
        return [score(text) for text in completions]
    return reward

longer, shorter = (lambda completions, **_: [1.0 * len(t) for t in completions]), None
shorter = lambda completions, **_: [-1.0 * len(t) for t in completions]
"""


def test_functions_that_another_makes_are_told_apart_and_their_state_does_not_count(
    module_with: Callable[..., Any],
) -> None:
    module = module_with(MADE)
    make = module.make
    different = [
        make(),
        make(-1),
        make(scale=2.0),
        make(inner=len),  # reward does not use it, so that it is the first one again
        make(bound=3),
        module.longer,
        module.shorter,
    ]
    hashes = [function_sha256(one) for one in different]
    assert None not in hashes
    assert hashes[0] == hashes[3]
    assert len(set(hashes)) == len(hashes) - 1
    again = make(-1)
    assert function_sha256(again) == hashes[1]
    again(["a"])
    assert function_sha256(again) == hashes[1]
    of_object = module.bound(module.Counting().score)
    before = function_sha256(of_object)
    of_object(["a"])
    assert function_sha256(of_object) == before


def test_an_object_may_know_its_content(module_with: Callable[..., Any]) -> None:
    judge = module_with(SOURCE).Judge(1)
    judge.content_sha256 = "abc"
    first = function_sha256(judge)
    judge.threshold = 2
    assert function_sha256(judge) == first
    judge.content_sha256 = "abd"
    assert function_sha256(judge) != first


def test_without_source_nothing_is_claimed() -> None:
    assert function_sha256(len) is None
    assert function_sha256(functools.partial(len)) is None
    typed_in: dict[str, Any] = {}
    exec("def reward(completions): return completions", typed_in)
    assert function_sha256(typed_in["reward"]) is None
    assert function_sha256(statistics.mean) is not None
