"""What counts as the same function: its source, and the values that it carries, but not its state."""

import functools
import importlib.util
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tailgrad.function_identity import function_sha256
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


HELD = """
import re
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

class Color(Enum):
    RED, BLUE = 1, 2

@dataclass
class Rule:
    words: frozenset = frozenset()
    weight: float = 1.0

class Judge:
    def __init__(self, held):
        self.held = held
    def __call__(self, completions, **columns):
        return [0.0 for _ in completions]

class Slotted:
    __slots__ = ("held", "unset")
    def __init__(self, held):
        self.held = held
    def __call__(self, completions, **columns):
        return [0.0 for _ in completions]

class Below(Slotted):
    pass

class Private:
    __slots__ = ("__held", "__dict__", "__weakref__")
    def __init__(self, held):
        self.__held = held
    def __call__(self, completions, **columns):
        return [0.0 for _ in completions]

@dataclass(slots=True)
class Data:
    held: object
    def __call__(self, completions, **columns):
        return [0.0 for _ in completions]
"""
PAIRS: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "set": lambda m: ({"a", "b", "c"}, {"a", "b"}),
    "frozenset": lambda m: (frozenset("abc"), frozenset("ab")),
    "nested set": lambda m: ({"of": [{(1, 2)}]}, {"of": [{(1, 3)}]}),
    "bytes": lambda m: (b"a", b"b"),
    "path": lambda m: (Path("a"), Path("b")),
    "pattern": lambda m: (re.compile("a"), re.compile("a", re.IGNORECASE)),
    "long pattern": lambda m: (re.compile("x|" * 150 + "y"), re.compile("x|" * 150 + "z")),
    "enum": lambda m: (m.Color.RED, m.Color.BLUE),
    "masked array": lambda m: (np.ma.array([1, 2], mask=[0, 1]), np.ma.array([1, 2], mask=[1, 0])),
    "array of texts": lambda m: (np.array(["a", "b"]), np.array(["a", "c"])),
    "part of an array": lambda m: (np.arange(9)[::2], np.arange(9)[::4]),
    "empty array": lambda m: (np.zeros((0, 2)), np.zeros((2, 0))),
    "conjugate": lambda m: (torch.tensor([1 + 2j]).conj(), torch.tensor([1 + 2j])),
    "array": lambda m: (np.arange(3), np.arange(3) + 1),
    "array of another type": lambda m: (np.zeros(2, np.float32), np.zeros(1, np.float64)),
    "number of numpy": lambda m: (np.float32(1), np.float32(2)),
    "tensor": lambda m: (torch.ones(2), torch.ones(1, 2)),
    "doubles": lambda m: (torch.ones(1).double(), torch.ones(1).double() + 1e-12),
    "bfloat16": lambda m: (torch.ones(2).bfloat16(), torch.zeros(2).bfloat16()),
    "dataclass": lambda m: (m.Rule(frozenset("a")), m.Rule(frozenset("b"))),
    "list of dataclasses": lambda m: ([m.Rule(weight=1.0)], [m.Rule(weight=2.0)]),
}


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("kind", ["Judge", "Slotted", "Below", "Private", "Data"])
def test_what_an_object_holds_counts(module_with: Callable[..., Any], kind: str, pair: str) -> None:
    module = module_with(HELD)
    one, other = PAIRS[pair](module)
    (again, _), holder = PAIRS[pair](module), getattr(module, kind)
    assert function_sha256(holder(one)) == function_sha256(holder(again)) != function_sha256(holder(other))


def test_sets_are_the_same_in_every_process() -> None:
    source = "import enum, functools\nfrom tailgrad.function_identity import function_sha256\n"
    source += "words = {str(i) for i in range(20)}\nkind = enum.Enum('Kind', {'WORDS': frozenset(words)})\n"
    source += "print(function_sha256(functools.partial(function_sha256, words, kind.WORDS)))"
    found = {
        subprocess.run(
            [sys.executable, "-c", source], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in "123"
    }
    assert len(found) == 1


def frozen(weight: float) -> torch.nn.Module:
    """The model of a judge."""
    model = torch.nn.Sequential(torch.nn.Linear(1, 1)).requires_grad_(False)
    model[0].weight.fill_(weight)
    return model


def test_weights_and_what_cannot_be_read_count_by_their_type(
    module_with: Callable[..., Any],
) -> None:
    judge = module_with(HELD).Judge
    for one, other in (
        (torch.ones(2, requires_grad=True), torch.zeros(2, requires_grad=True)),
        (torch.ones(2, device="meta"), torch.zeros(2, device="meta")),
        (np.array([object()]), np.array([object()])),
        tuple(torch.nested.nested_tensor([part], layout=torch.jagged) for part in (torch.ones(1), torch.zeros(1))),
        (torch.ones(2).to_sparse(), torch.zeros(2).to_sparse()),
        (frozen(1.0), frozen(2.0)),
    ):
        assert function_sha256(judge(one)) == function_sha256(judge(other))


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
