"""What an object holds is part of the function that it is: by content, as far as that can be read."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modules_of_rewards import module_with
from tailgrad.function_identity import function_sha256

__all__ = ["module_with"]

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
