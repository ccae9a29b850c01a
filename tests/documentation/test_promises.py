"""The page of promises: each test that it names exists, and runs as often as it says."""

import ast
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from slow_tests import SLOW, SLOW_OF_CORE

TESTS: Final = Path(__file__).resolve().parent.parent
PAGE: Final = TESTS.parent / "docs" / "promises.md"
ROW: Final = re.compile(r"^\| (?P<promise>.+) \| (?P<tests>`[^|]+`) \| (?P<runs>[^|]+) \|$", re.MULTILINE)
ROWS: Final = [match.groupdict() for match in ROW.finditer(PAGE.read_text(encoding="utf-8"))]


def how_often(test: str) -> str:
    """When a test runs: for every change (`make test`), in the gate (`make check`) or nightly, by its marks."""
    path, _, name = test.partition("::")
    tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert name in functions, f"there is no test {test}"
    marks = [ast.unparse(mark) for mark in functions[name].decorator_list]
    marks += [ast.unparse(node.value) for node in tree.body if ast.unparse(node).startswith("pytestmark")]
    if any(mark == "pytest.mark.nightly" for mark in marks):
        return "nightly"
    often = "gate" if test.startswith((*SLOW, *SLOW_OF_CORE)) else "every change"
    more = any(word in mark for mark in marks for word in ("pytest.mark.nightly", "AT_NIGHT", "examples", "gate("))
    return f"{often}, more nightly" if more else often


def test_there_are_promises() -> None:
    assert len(ROWS) > 40
    assert len(ROWS) == PAGE.read_text(encoding="utf-8").count("::")  # none that the pattern passes over
    twice = [promise for promise, count in Counter(row["promise"] for row in ROWS).items() if count > 1]
    assert not twice


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["tests"].strip("`"))
def test_a_promise_is_backed_as_often_as_the_page_says(row: dict[str, str]) -> None:
    assert how_often(row["tests"].strip("`")) == row["runs"]


if __name__ == "__main__":
    print(*(how_often(test) for test in sys.argv[1:]), sep="\n")
