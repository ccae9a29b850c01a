"""A workshop: a tiny policy, prompts and a rollout table, and every command on them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from in_process import InProcess
from tailgrad.cli.main import main
from tailgrad.quickstart.task import build_prompts

VERIFIER = "tailgrad.quickstart.task.verifier"
TRAIN = f"""--reward_funcs {VERIFIER} --num_generations 4 --per_device_train_batch_size 8 --max_completion_length 4
    --max_steps 3 --save_steps 1 --logging_steps 1 --learning_rate 1e-2 --beta 0.05 --report_to none --use_cpu true
    --bf16 false --gradient_checkpointing false --disable_tqdm true --resume_from_checkpoint last"""
GRID = {
    "results": "out/results.parquet",
    "work": "out/work",
    "rewards": {"verifier": VERIFIER},
    "estimators": ["grpo"],
    "m_and_n": [[4, 8]],
    "learning_rates": [0.01],
    "seeds": [0],
    "prompts_per_step": 2,
    "train": {"max_steps": 2, "max_completion_length": 4, "use_cpu": True, "bf16": False}
    | {"gradient_checkpointing": False},
    "sample": {"max_completion_length": 4},
    "checkpoints": [1],
    "test_n": 8,
    "checkpoint_n": 4,
    "per_device_train_batch_size": 8,
}


@dataclass(frozen=True)
class Workshop:
    """Where everything is that commands need.

    Attributes:
        folder: It.
        policy: A tiny policy.
        prompts: Six prompts of the quickstart's task.
        table: Eight responses of the policy to each of four prompts.
    """

    folder: Path
    policy: Path
    prompts: Path
    table: Path

    def argv(self, command: str) -> list[str]:
        """The words of a command that writes into the folder `out` of the working folder."""
        on_prompts = f"--model_name_or_path {self.policy} --dataset_name {self.prompts}"
        to_table = f"--reward_funcs {VERIFIER} --batch_size 8 --out out/table.parquet"
        words = {
            "train": f"{on_prompts} {TRAIN} --output_dir out",
            "sample": f"{on_prompts} {to_table} --n 4 --max_completion_length 4",
            "score": f"{self.table} {to_table}",
            "curve": f"{self.table} --out out",
            "plan": f"{self.table} --out out --deploy_n 4 --num_generations 4 --rollouts_per_step 8 --estimators grpo",
            "fidelity": f"{self.table} --model_name_or_path {self.policy} --out out --estimators grpo --deploy_n 4 "
            "--num_generations 2 --dim 16 --parameters all",
            "grid": "--config grid.yaml",
        }
        return [command, *words[command].split()]

    def run(self, command: str) -> int:
        """Run a command in this process; the jobs of a grid too."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tailgrad.grid.run.run_side_by_side", InProcess())
            patch.setenv("TAILGRAD_EVENTS", "")
            return main(self.argv(command))


@pytest.fixture(scope="session")
def workshop(policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    folder = tmp_path_factory.mktemp("workshop")
    for name, split, count in (("train", "train", 6), ("choose", "validation", 2), ("test", "test", 2)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in build_prompts(split)[:count]))
    made = Workshop(folder, policy, folder / "train.jsonl", folder / "table.parquet")
    words = made.argv("sample")
    words[words.index("--out") + 1] = str(made.table)
    assert main([*words, "--limit", "4", "--n", "8"]) == 0
    return made


@pytest.fixture
def new_folder(tmp_path: Path, workshop: Workshop) -> Callable[[], Path]:
    """Make empty working folders, with a grid in each."""
    count = iter(range(10**6))

    def make() -> Path:
        folder = tmp_path / f"run-{next(count)}"
        folder.mkdir()
        prompts = {name: str(workshop.folder / f"{name}.jsonl") for name in ("train", "choose", "test")}
        grid = GRID | {"policies": {"tiny": str(workshop.policy)}, "prompts": {"tasks": prompts}}
        (folder / "grid.yaml").write_text(yaml.safe_dump(grid))
        return folder

    return make
