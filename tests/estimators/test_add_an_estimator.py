"""docs/add_an_estimator.md, done for real: its file and its row, in a copy of the package; and one of a user's own."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "add_an_estimator.md").read_text()
PROGRAM = """
import torch
from tailgrad.estimators import ESTIMATORS, advantages_ragged, bind, smallest_group
from tailgrad.training.config import TailGRPOConfig

rewards = torch.tensor([[0.0, 1.0, 5.0], [2.0, float("nan"), 4.0]])
assert bind("median_baseline")(rewards).tolist() == [[-1.0, 0.0, 4.0], [0.0, 0.0, 3.0]]
assert advantages_ragged(rewards.flatten(), [0, 0, 0, 1, 1, 1], ESTIMATORS["median_baseline"])[2] == 4
assert smallest_group("median_baseline") == 2
sizes = {"num_generations": 4, "per_device_train_batch_size": 4}
assert TailGRPOConfig(estimator="median_baseline:scale=2", use_cpu=True, bf16=False, **sizes)
row = ESTIMATORS["median_baseline"]
assert (row.follows_mean, row.scaling, row.takes_deploy_n, row.takes_ratios) == (True, "none", False, False)
assert row.summary in TailGRPOConfig.__dataclass_fields__["estimator"].metadata["help"]
"""


def test_one_file_and_one_row(tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="the row is used in training too")
    file, row, _ = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    copy = tmp_path / "tailgrad"
    shutil.copytree(ROOT / "src" / "tailgrad", copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "estimators" / "median_baseline.py").write_text(file)
    table = copy / "estimators" / "registry.py"
    (new_row,) = re.findall(r'^    "median_baseline.*$', row, flags=re.MULTILINE)
    start = "ESTIMATORS: dict[str, EstimatorRow] = {\n"
    imported = "from tailgrad.estimators.median_baseline import median_baseline\n"
    text = table.read_text().replace(start, f"{start}{new_row}\n")
    table.write_text(text.replace("from tailgrad.types", imported + "from tailgrad.types"))
    run = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_one_of_a_users_own() -> None:
    names: dict[str, object] = {}
    exec(re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)[2], names)
    advantages = names["advantages"]
    assert isinstance(advantages, torch.Tensor)
    assert advantages.tolist() == [-1.0, 0.0, 4.0, 0.0], "a group of one gets 0"
