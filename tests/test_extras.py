"""Each extra is enough for the commands that it is said to be for: every other package is hidden from them."""

import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

from tailgrad.rollouts import write_table

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# Run in a process of its own: a package that is not allowed is not found.
PROGRAM = """
import json, sys
hidden, statement = json.loads(sys.argv[1])
class Without:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in hidden else self.finder.find_spec(name, path, target)
sys.meta_path[:] = map(Without, sys.meta_path)
exec(statement)
"""


def installed(extra: str | None) -> set[str]:
    """The packages that come with tailgrad and an extra, with all that these need."""
    waiting = [Requirement(text) for text in PROJECT["dependencies"]]
    waiting += [] if extra is None else [Requirement(f"tailgrad[{extra}]")]
    found: set[str] = set()
    while waiting:
        requirement = waiting.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name == "tailgrad":
            texts = [text for asked in requirement.extras for text in PROJECT["optional-dependencies"][asked]]
            waiting += map(Requirement, texts)
        elif name not in found:
            found.add(name)
            needed = map(Requirement, metadata.requires(name) or [])
            waiting += [one for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


def run(extra: str | None, statement: str, folder: Path) -> subprocess.CompletedProcess[str]:
    allowed = installed(extra) | {"tailgrad"}
    hidden = [
        name
        for name, owners in metadata.packages_distributions().items()
        if not allowed & {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners}
    ]
    command = [sys.executable, "-c", PROGRAM, json.dumps([hidden, statement])]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def call(extra: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(extra, f"from tailgrad.cli.main import main; sys.exit(main({list(arguments)}))", folder)


def save_rollouts(path: Path) -> None:
    prompts, n = 3, 8
    numbers = np.arange(prompts * n)
    columns = {
        "prompt_id": (numbers // n).tolist(),
        "prompt": [f"prompt {number // n}" for number in numbers],
        "response": [f"response {number}" for number in numbers],
        "response_index": (numbers % n).tolist(),
        "reward": np.random.default_rng(0).normal(size=prompts * n).tolist(),
        "num_tokens": [5] * len(numbers),
        "finished": [True] * len(numbers),
        "logprob": [-4.0] * len(numbers),
        "reference_logprob": [-4.0] * len(numbers),
    }
    sampling = {"n": n, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_new_tokens": 8}
    write_table(path, columns, {"sampling": sampling, "reward": "r", "dataset": {"name": "sums"}, "seed": 0})


def test_the_core_needs_no_extra(tmp_path: Path) -> None:
    rooms = "tailgrad.curves, tailgrad.display, tailgrad.estimators, tailgrad.fidelity, tailgrad.statistics"
    found = run(None, f"import {rooms}; assert tailgrad.estimators.bind('tea', deploy_n=8)", tmp_path)
    assert found.returncode == 0, found.stderr


def test_eval_draws_curves_and_writes_pages(tmp_path: Path) -> None:
    save_rollouts(tmp_path / "rollouts.parquet")
    found = call("eval", tmp_path, "curve", "rollouts.parquet", "--out", "curve")
    assert found.returncode == 0, found.stderr
    assert {path.suffix for path in (tmp_path / "curve").iterdir()} == {".png", ".svg", ".md", ".json"}
    (tmp_path / "trainer_state.json").write_text('{"log_history": [{"step": 1, "reward": 0.5}]}')
    given = ["curve", "rollouts.parquet", "trainer_state.json"]
    found = call("eval", tmp_path, "report", *given, "--out", "page.html")
    assert found.returncode == 0, found.stderr


def test_sample_samples_and_scores(tmp_path: Path, policy: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "two three"}\n{"prompt": "seven"}\n')
    (tmp_path / "words.py").write_text("def words(completions, **columns):\n    return [len(c) for c in completions]\n")
    sample = ["--n", "4", "--max_completion_length", "3", "--reward_funcs", "words.words"]
    sample += ["--dataset_name", "prompts.jsonl", "--out", "rollouts.parquet"]
    found = call("sample", tmp_path, "sample", "--model_name_or_path", str(policy), *sample)
    assert found.returncode == 0, found.stderr
    scored = ["--reward_funcs", "words.words", "--dataset_name", "prompts.jsonl", "--out", "scored.parquet"]
    found = call("sample", tmp_path, "score", "rollouts.parquet", *scored)
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize(
    ("extra", "command", "needed"),
    [("eval", "sample", "sample"), ("sample", "train", "train"), ("sample", "serve", "serve")],
)
def test_a_command_names_the_extra_that_it_needs(tmp_path: Path, extra: str, command: str, needed: str) -> None:
    sample = ["--model_name_or_path", "m", "--dataset_name", "d.jsonl", "--reward_funcs", "r.py:r", "--out", "o"]
    serve = ["--model_name_or_path", "m", "--reward_funcs", "statistics.mean"]
    given = {"sample": sample, "train": [], "serve": serve}
    found = call(extra, tmp_path, command, *given[command])
    assert found.returncode != 0
    assert f"tailgrad[{needed}]" in found.stderr


def test_serve_has_all_that_serving_loads(tmp_path: Path) -> None:
    statement = "import httpx2, tailgrad.serving.run; from tailgrad.cli.main import main; main(['serve', '--help'])"
    found = run("serve", statement, tmp_path)
    assert found.returncode == 0, found.stderr


def test_train_has_all_that_training_and_grids_load(tmp_path: Path) -> None:
    found = run("train", "import tailgrad.training.launch, tailgrad.grid, tailgrad.quickstart.run", tmp_path)
    assert found.returncode == 0, found.stderr
