"""docs/add_an_estimator.md, done for real: its file and its rows, in a copy of the package; and one of a user's own."""

import re
from pathlib import Path

import pytest
import torch

from copies import ROOT, copy_package, insert, run_in

PAGE = (ROOT / "docs" / "add_an_estimator.md").read_text()
FILE, ROW, OWN, TESTS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
PROGRAM = """
import torch
import tailgrad
from tailgrad.estimators import ESTIMATORS, advantages_ragged, bind, median_baseline, smallest_group
from tailgrad.training.launch import make_parser

rewards = torch.tensor([[0.0, 1.0, 5.0], [2.0, float("nan"), 4.0]])
assert bind("median_baseline")(rewards).tolist() == [[-1.0, 0.0, 4.0], [0.0, 0.0, 3.0]]
assert tailgrad.median_baseline is median_baseline is ESTIMATORS["median_baseline"].function
assert {"median_baseline"} <= set(tailgrad.__all__) & set(tailgrad.estimators.__all__) & set(dir(tailgrad))
assert advantages_ragged(rewards.flatten(), [0, 0, 0, 1, 1, 1], ESTIMATORS["median_baseline"])[2] == 4
assert smallest_group("median_baseline") == 2
words = "--use_cpu true --bf16 false --num_generations 4 --per_device_train_batch_size 4 --estimator"
parser = make_parser()
parsed = parser.read([*words.split(), "median_baseline:scale=2"])
(args,) = [one for one in parsed if hasattr(one, "estimator")]
assert args.estimator_options() == {"scale": 2}
row = ESTIMATORS["median_baseline"]
assert (row.follows_mean, row.scaling, row.takes_deploy_n, row.takes_ratios) == (True, "none", False, False)
assert "median_baseline " + row.summary in " ".join(parser.format_help().split())
"""


def lines_of(block: str) -> list[str]:
    """The lines of a printed block that name the example, without their indentation."""
    return [line.strip() for line in block.splitlines() if "median_baseline" in line]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package and its tests to which the page was done, and nothing else."""
    folder = tmp_path_factory.mktemp("copy")
    copy_package(folder, ["estimators", "test_front_door.py", "test_architecture.py"])
    estimators, tests = folder / "src" / "tailgrad" / "estimators", folder / "tests" / "estimators"
    (estimators / "median_baseline.py").write_text(FILE)
    imported, row = lines_of(ROW)
    insert(estimators / "registry.py", imported, before="from tailgrad.types import")
    insert(estimators / "registry.py", row, before='}\n"""Every estimator by its plain name."""')
    contract, unbiased = lines_of(TESTS)
    insert(tests / "contract_rows.py", contract, before="]\n\n\ndef eighths(")
    insert(tests / "test_unbiased.py", unbiased, before="]\n\n\ndef all_tuples(")
    return folder


def test_it_is_known_everywhere(copy: Path) -> None:
    pytest.importorskip("trl", reason="the row is used in training too")
    run_in(copy, "-c", PROGRAM)


@pytest.mark.nightly
def test_the_tests_of_every_estimator_take_it(copy: Path) -> None:
    """Contract, bias and imports of the new one, and the tests that look at the whole table."""
    chosen = "median_baseline or every_estimator or over_batch or test_bind or (test_front_door and not training)"
    chosen += " or says_what_it_takes_returns_and_raises[estimators]"
    named = ("estimators/test_contract", "estimators/test_unbiased", "estimators/test_bind", "test_front_door")
    files = [f"tests/{name}.py" for name in (*named, "test_architecture")]
    printed = run_in(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, *files)
    assert int(re.findall(r"(\d+) passed", printed)[0]) > 100


def test_one_of_a_users_own() -> None:
    names: dict[str, object] = {}
    exec(OWN, names)
    advantages = names["advantages"]
    assert isinstance(advantages, torch.Tensor)
    assert advantages.tolist() == [-1.0, 0.0, 4.0, 0.0], "a group of one gets 0"
