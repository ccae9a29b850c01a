"""Every command and every Python block of the README and of docs/ runs as printed."""

from __future__ import annotations

import doctest
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pages import PAGES, ROOT, Block, blocks_of, save_models, save_prompts

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
TRAIN_PROMPTS = ["name a prime", "name the sea", "the old sea", "a blue sea"]
TRAIN_PROMPTS += ["seven two", "a name", "the blue prime", "old three"]  # a step of the pages takes eight
TEST_PROMPTS = ["two three", "seven", "a prime"]

# What stands in the folder before a page is tried: the names that its blocks use and do not make themselves.
POLICIES = {
    "README.md": ["Qwen/Qwen3-0.6B"],
    "docs/evaluation.md": ["base", "tuned"],
    "docs/fidelity.md": ["policy"],
    "docs/plan.md": ["policy"],
    "docs/rollouts.md": ["runs/tea"],
    "docs/training.md": ["Qwen/Qwen3-0.6B"],
    "docs/tails.md": ["policy"],
    "docs/trl.md": ["Qwen/Qwen3-0.6B"],
    "docs/grid.md": ["policies/small"],
    "docs/rewards.md": [],
    "docs/judge.md": [],
}
REWARD_MODELS = ["Skywork/Skywork-Reward-V2-Qwen3-0.6B", "org/reward-model", "org/other-reward-model"]
DATA = {
    "README.md": {"prompts.jsonl": TRAIN_PROMPTS, "held_out.jsonl": TEST_PROMPTS},
    "docs/evaluation.md": {"prompts.jsonl": TEST_PROMPTS},
    "docs/fidelity.md": {"prompts.jsonl": TEST_PROMPTS[:2]},
    "docs/plan.md": {"prompts.jsonl": TEST_PROMPTS[:2]},
    "docs/rollouts.md": {"data/test.jsonl": TEST_PROMPTS},
    "docs/tails.md": {"prompts.jsonl": TEST_PROMPTS[:2]},
    "docs/training.md": {"my_prompts.jsonl": TRAIN_PROMPTS},
    "docs/trl.md": {"held_out.jsonl": TEST_PROMPTS},
    "docs/grid.md": {"train.jsonl": TRAIN_PROMPTS, "choose.jsonl": TRAIN_PROMPTS, "test.jsonl": TEST_PROMPTS},
}

# Blocks that are tried elsewhere, or are no whole programs.
ELSEWHERE = {
    "README.md:1": "make's targets: test_the_targets_of_make_exist",
    "README.md:5": "tests/serving/test_server.py: it serves until it is told to end",
    "docs/add_an_estimator.md:1": "tests/estimators/test_add_an_estimator.py",
    "docs/add_an_estimator.md:2": "tests/estimators/test_add_an_estimator.py",
    "docs/add_an_estimator.md:4": "tests/estimators/test_add_an_estimator.py",
    "docs/engines.md:1": "tests/rollouts/test_openai_engine.py: it needs a server",
    "docs/judge.md:1": "tests/cli/test_cli_judge.py: it needs a server",
    "docs/add_a_tail.md:1": "tests/tails/test_add_a_tail.py",
    "docs/add_a_tail.md:2": "tests/tails/test_add_a_tail.py",
    "docs/add_a_tail.md:3": "tests/tails/test_add_a_tail.py",
    "docs/add_a_tail.md:4": "tests/tails/test_add_a_tail.py",
    "docs/many_processes.md:1": "tests/rollouts/test_launchers.py, with fewer processes",
    "docs/many_processes.md:2": "a drawing",
    "docs/many_processes.md:3": "Slurm's command; tests/rollouts/test_many_processes.py sets the variables",
    "docs/serving.md:1": "tests/serving/test_failures.py: it needs a server, and serves until it is told to end",
    "docs/serving.md:2": "tests/serving/test_server.py: it needs that server",
    "docs/serving.md:3": "tests/serving/test_call.py: it needs a server",
    "docs/integrations.md:1": "tests/integrations/verl_itself",
    "docs/integrations.md:2": "tests/cli/test_cli_doctor.py",
    "docs/integrations.md:3": "tests/integrations/test_trl_async.py",
    "docs/integrations.md:4": "tests/integrations/test_other_trainers.py has a stand-in for SkyRL",
    "docs/integrations.md:5": "SkyRL's own command",
    "docs/integrations.md:6": "tests/integrations/test_other_trainers.py has a stand-in for rLLM",
    "docs/integrations.md:7": "slime's own command; tests/integrations/test_other_trainers.py",
}


def build(folder: Path, page: str) -> None:
    if page in POLICIES:
        save_models(folder, policies=POLICIES[page], reward_models=REWARD_MODELS)
    for name, prompts in DATA.get(page, {}).items():
        save_prompts(folder / name, prompts)
    if page == "docs/report.md":
        save_results(folder)
    if page == "docs/engines.md":
        save_adapter(folder)
    if page == "docs/trl.md":
        (folder / "my_rewards.py").write_text(
            "def reward(completions, **_):\n    return [len(c) for c in completions]\n"
        )
    if page == "docs/judge.md":
        for name, texts in (("base", ["two", "the sea"] * 32), ("tea", ["seven", "a blue sea"] * 32)):
            rows = {"prompt": TEST_PROMPTS[:2] * 32, "response": texts, "reward": list(range(64))}
            pq.write_table(pa.table(rows), folder / f"{name}.parquet")
    if page == "docs/forecasts.md":
        rewards = np.random.default_rng(0).normal(size=128)
        pq.write_table(pa.table({"prompt": ["a", "b"] * 64, "reward": rewards}), folder / "base.parquet")
    if page in ("README.md", "docs/grid.md"):
        (folder / "grid.yaml").write_text(yaml.safe_dump(small_grid(page)))


def save_adapter(folder: Path) -> None:
    """A policy that is an adapter, as a training with LoRA leaves it."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    save_models(folder, policies=["base"])
    base = AutoModelForCausalLM.from_pretrained(folder / "base")
    get_peft_model(base, LoraConfig(r=2, target_modules="all-linear")).save_pretrained(folder / "policy")
    AutoTokenizer.from_pretrained(folder / "base").save_pretrained(folder / "policy")


def save_results(folder: Path) -> None:
    """Rollout tables and a training, as small as they can be."""
    for name, reward in (("base", 0.0), ("tuned", 1.0)):
        rows = {"prompt": ["a", "a", "b", "b"], "reward": [reward, 1.0, 0.0, reward]}
        pq.write_table(pa.table(rows), folder / f"{name}.parquet")
    (folder / "policy").mkdir()
    (folder / "policy" / "trainer_state.json").write_text('{"log_history": [{"step": 1, "reward": 0.5}]}')


def small_grid(page: str) -> dict[str, Any]:
    """The page's grid with fewer trainings, each of two steps; of the README, whose grid is not printed, a like one."""
    (printed,) = [block for block in blocks_of(ROOT / "docs" / "grid.md") if block.language == "yaml"]
    grid = yaml.safe_load(printed.text)
    grid |= {"estimators": ["grpo", "tea"], "learning_rates": ["1e-3"], "seeds": [0], "checkpoints": [1], "test_n": 16}
    grid |= {"m_and_n": [[8, 16]], "checkpoint_n": 8, "prompts_per_step": 2, "processes": 1}
    grid["train"] |= {"max_steps": 2}
    grid["rewards"] = {"length": REWARD_MODELS[0] if page == "README.md" else "org/reward-model"}
    if page == "README.md":
        grid["policies"] = {"small": "Qwen/Qwen3-0.6B"}
        grid["prompts"] = {"tasks": {"train": "prompts.jsonl", "choose": "prompts.jsonl", "test": "held_out.jsonl"}}
    return grid


def names(page: str) -> dict[str, Any]:
    """What a page's Python takes as given: the reader's own reward, data set, rewards."""
    from datasets import Dataset

    def reward(*, completions: list[str], **columns: Any) -> list[float]:
        return [float(len(text.split())) for text in completions]

    script = {"reward": reward, "dataset": Dataset.from_dict({"prompt": TRAIN_PROMPTS})}
    rewards = np.random.default_rng(0).normal(size=(3, 256))
    given: dict[str, dict[str, Any]] = {
        "docs/training.md": script,
        "docs/trl.md": script,
        "docs/evaluation.md": {"rewards": rewards},
        "docs/tails.md": {"rewards": rewards},
    }
    return given.get(page, {})


LONG = ("fidelity.md", "grid.md")
"""Pages whose commands take longest; what they run is tried in the gate by tests of its own."""

TRIED = [page for page in PAGES if blocks_of(page)]


@pytest.mark.parametrize("page", [page for page in TRIED if page.name not in LONG], ids=lambda page: page.name)
def test_a_page_runs_as_printed(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm_shell: Callable[[str], str]
) -> None:
    try_page(page, tmp_path, monkeypatch, warm_shell)


@pytest.mark.nightly
@pytest.mark.parametrize("page", TRIED, ids=lambda page: page.name)
def test_a_page_runs_as_printed_in_processes_of_its_own(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: Callable[[str], str]
) -> None:
    try_page(page, tmp_path, monkeypatch, shell)


def test_a_command_that_fails_fails_its_page(warm_shell: Callable[[str], str], tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="--such_an_option is no option"):
        warm_shell("for number in 1; do\n    tailgrad tails --such_an_option\ndone")
    assert warm_shell('tailgrad --version | cut -d" " -f1 > found; cat found') == "tailgrad\n"
    assert (tmp_path / "found").exists()


def try_page(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, shell: Callable[[str], str]) -> None:
    name = str(page.relative_to(ROOT))
    build(folder, name)
    monkeypatch.chdir(folder)
    for block in blocks_of(page):
        if block.name in ELSEWHERE:
            continue
        if block.language == "bash":
            shell(block.text)
        elif block.language == "python":
            run_python(block, names(name))
        elif block.language == "diff":
            run_python(block._replace(text=changed(block.text)), names(name))
        else:
            assert block.language == "yaml", f"{block.name}: say how a block of {block.language!r} is tried"
            yaml.safe_load(block.text)


def changed(diff: str) -> str:
    """What a diff leaves."""
    return "".join(line[1:] for line in diff.splitlines(keepends=True) if not line.startswith("-"))


def run_python(block: Block, given: dict[str, Any]) -> None:
    if block.text.lstrip().startswith(">>>"):
        test = doctest.DocTestParser().get_doctest(block.text, given, block.name, str(block.page), 0)
        assert doctest.DocTestRunner().run(test).failed == 0
    else:
        exec(compile(block.text, block.name, "exec"), given)


def test_the_targets_of_make_exist() -> None:
    targets = re.findall(r"^make (\w+)", blocks_of(ROOT / "README.md")[0].text, re.MULTILINE)
    assert targets == ["quickstart", "check"]
    rules = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", rules, re.MULTILINE) for target in targets)


def test_the_printed_grid_is_valid(tmp_path: Path) -> None:
    from tailgrad.grid import read_grid

    (printed,) = [block for block in blocks_of(ROOT / "docs" / "grid.md") if block.language == "yaml"]
    build(tmp_path, "docs/grid.md")
    (tmp_path / "grid.yaml").write_text(printed.text)
    assert read_grid(tmp_path / "grid.yaml").reference == "grpo"


def test_nothing_is_excused_that_is_not_there() -> None:
    assert set(ELSEWHERE) <= {block.name for block in BLOCKS}
