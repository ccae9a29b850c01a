"""docs/add_a_tail.md, done for real: its shape in the table, here and in a copy of the package with its tests."""

import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from copies import ROOT, copy_package, insert, run_in
from tailgrad.estimators import bind, parse_estimator, prefix_tea, tea
from tailgrad.tails import TAIL_SHAPES, standard_error, tail_forecast

PAGE = (ROOT / "docs" / "add_a_tail.md").read_text()
SHAPE, ENTRY, USE, TEST = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
PROGRAM = """
from tailgrad.estimators import bind, parse_estimator

name, options = parse_estimator("tea:tail=uniform")
assert bind(name, deploy_n=128, **options)
"""


@pytest.fixture
def as_documented() -> Iterator[dict[str, object]]:
    before = dict(TAIL_SHAPES)
    names: dict[str, object] = {}
    for block in (SHAPE, USE):
        exec(block, names)
    assert set(TAIL_SHAPES) - set(before) == {"uniform"}
    yield names
    TAIL_SHAPES.clear()
    TAIL_SHAPES.update(before)


def test_the_page_runs_and_forecasts_bounded_rewards(as_documented: dict[str, object]) -> None:
    assert as_documented["advantages"].shape == (64, 16)  # type: ignore[attr-defined]
    rewards = torch.rand(1, 200_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for alpha in (0.25, 1.0):
        found = tail_forecast(rewards, deploy_n=128, tail_fraction=alpha, tail="uniform")
        assert found.item() == pytest.approx(128 / 129, abs=0.003)
    assert standard_error(tail_forecast, rewards[:, :64], deploy_n=128, tail="uniform").item() > 0


@pytest.mark.usefixtures("as_documented")
def test_its_influence_is_the_weight_derivative_of_its_forecast() -> None:
    rewards = torch.randn(1, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    top = rewards[0].topk(6).values
    slope = math.sqrt(12) * (0.5 - 1 / (0.5 * 65)) / (2 * top.std(correction=0))
    expected = 2 * (rewards - top[-1] + slope * ((rewards - top.mean()) ** 2 - (top[-1] - top.mean()) ** 2))
    advantages = tea(rewards, deploy_n=64, tail_fraction=0.5, tail="uniform")
    torch.testing.assert_close(advantages, expected.where(rewards > top[-1], 0.0))


@pytest.mark.usefixtures("as_documented")
def test_by_name_and_over_prefixes() -> None:
    rewards = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    name, options = parse_estimator("tea:tail=uniform")
    assert torch.equal(bind(name, deploy_n=128, **options)(rewards), tea(rewards, deploy_n=128, tail="uniform"))
    whole = prefix_tea(rewards, deploy_n=128, tail="uniform", order=1, num_prefixes=1)
    torch.testing.assert_close(whole, tea(rewards, deploy_n=128, tail="uniform"))


@pytest.mark.nightly
def test_in_the_library_the_tests_of_every_shape_take_it(tmp_path: Path) -> None:
    copy_package(tmp_path, ["tails"])
    shapes, tests = (
        tmp_path / "src" / "tailgrad" / "tails" / "shapes.py",
        tmp_path / "tests" / "tails" / "test_shapes.py",
    )
    function = SHAPE[SHAPE.index("def uniform") : SHAPE.index("TAIL_SHAPES[")]
    insert(shapes, "import math", before="from collections.abc import Callable")
    insert(shapes, function, before="TAIL_SHAPES: dict[str, TailShape] = {")
    insert(shapes, ENTRY.splitlines()[-2], before='}\n"""Every shape of a tail by its plain name')
    insert(tests, TEST[: TEST.index("FORECASTS")], before="FORECASTS: dict[str, ")
    insert(tests, TEST.splitlines()[-2], before='}\n"""Each shape\'s forecast as a function')
    files = [f"tests/tails/test_{name}.py" for name in ("shapes", "forecasts", "statistics_and_forecasts")]
    printed = run_in(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files)
    assert int(re.findall(r"(\d+) passed", printed)[0]) > 200
    run_in(tmp_path, "-c", PROGRAM)
