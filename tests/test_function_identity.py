"""What counts as the same function: its source, and the values that it carries, but not its state."""

import functools
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modules_of_rewards import module_with
from tailgrad.function_identity import function_sha256
from tailgrad.rewards import WeightedSum, checked

__all__ = ["module_with"]

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
import functools

def named_as(score, factor):
    @functools.wraps(score)
    def reward(completions, **columns):
        return [factor * score(text) for text in completions]
    return reward

def make(sign=1, scale=None, inner=None, *, bound=0):
    seen, calls = [], 0
    def count():
        nonlocal calls
        calls += 1
    words = bound if isinstance(bound, tuple) else ()
    def reward(completions, offset=0 if words else bound, **columns):
        assert isinstance(words, tuple)
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
        make(bound=("a", "b")),
        make(bound=("a", ("c",))),
        module.longer,
        module.shorter,
        module.named_as(Path.exists, 1.0),
        module.named_as(Path.exists, -2.0),
        module.named_as(Path.is_dir, 1.0),
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


def test_members_of_an_enum_that_are_called_are_their_source_too(module_with: Callable[..., Any]) -> None:
    source = "from enum import Enum\nclass Kind(Enum):\n    STRICT = 1\n    LAX = 2\n"
    source += "    def __call__(self, completions, **columns):\n        return [1.0 for _ in completions]\n"
    hashes = []
    for written in (source, source.replace("1.0", "2.0")):
        hashes += map(function_sha256, module_with(written).Kind)
    assert None not in hashes
    assert len(set(hashes)) == 4


def test_a_class_is_its_source(module_with: Callable[..., Any]) -> None:
    before = function_sha256(module_with(SOURCE).Judge)
    assert function_sha256(module_with(SOURCE).Judge) == before
    assert function_sha256(module_with(SOURCE.replace("> self", ">= self")).Judge) != before
