"""The page of examples before and after a training."""

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

from tailgrad import Rollouts


def table(rewards: list[list[float]], texts: list[list[str]], prompts: list[str]) -> Rollouts:
    return Rollouts(np.array(rewards, dtype=float), prompts=prompts, responses=texts)


PROMPTS = ['[{"role": "user", "content": "Name a fruit."}]', "Plain"]


def test_the_best_of_the_first_n_is_shown(script: Callable[[str], ModuleType]) -> None:
    nan = float("nan")
    before = table([[0.5, nan, 9], [1, 2, 9]], [["a\nb", "no", "late"], ["c", "d", "late"]], PROMPTS)
    after = table([[3, 1, 9], [1, 0.25, 9]], [["e", "f", "late"], ["g", "h", "late"]], PROMPTS)
    found = script("smollm2/examples").page(before, after, prompts=2, n=2)
    assert "## 1. Name a fruit.\n\nBefore, 0.50:\n\n> a\n> b\n\nAfter, 3.00:\n\n> e\n" in found
    assert "## 2. Plain\n\nBefore, 2.00:\n\n> d\n\nAfter, 1.00:\n\n> g\n" in found
    assert "late" not in found


@pytest.mark.parametrize(("prompts", "n"), [(3, 2), (2, 4)])
def test_tables_that_do_not_match(script: Callable[[str], ModuleType], prompts: int, n: int) -> None:
    one = table([[0.5, 1, 2], [1, 2, 3]], [["a", "b", "c"]] * 2, PROMPTS)
    other = table([[0.5, 1, 2], [1, 2, 3]], [["a", "b", "c"]] * 2, PROMPTS[::-1])
    page = script("smollm2/examples").page
    with pytest.raises(SystemExit, match="give two tables"):
        page(one, one, prompts, n)
    with pytest.raises(SystemExit, match="give two tables"):
        page(one, other, 2, 2)
