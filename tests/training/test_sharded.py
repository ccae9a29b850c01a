"""Policies sharded by FSDP and, in `make check-sharded`, by DeepSpeed, with the files of the recipe."""

import json
import subprocess
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification, set_seed

import trained_sharded
from tailgrad.quickstart.task import build_prompts
from trained_by_many import CASES, check

from .test_two_processes import launched, torchrun

TESTS = Path(__file__).resolve().parents[1]
RECIPES = TESTS.parent / "recipes" / "accelerate"
WHOLE, HALF = (9872,) * 2, (4952, 4920)  # a policy's numbers on each of two processes
KINDS = {"fsdp": ("FSDP", HALF, HALF)}
TRIED = ["weighted", "lora", "long"]
if find_spec("deepspeed"):
    even = (4936, 4936)
    KINDS |= {"zero2": ("DEEPSPEED", WHOLE, even), "zero3": ("DEEPSPEED", even, even)}
    TRIED = list(CASES)


def launch(kind: str | None, *words: object) -> None:
    """Run the script as two processes: with a file of the recipe, less its bfloat16, or each with all of the policy."""
    words = (trained_sharded.__file__, *map(str, words))
    if kind is None:
        torchrun(2, *words)
        return
    launcher = ["accelerate.commands.launch", "--mixed_precision", "no", "--num_processes", "2"]
    launcher += ["--config_file", str(RECIPES / f"{kind}.yaml"), "--main_process_port", "0"]  # one that is free
    launched(*launcher, *words, DS_ACCELERATOR="cpu")


@pytest.fixture(scope="module")
def unsharded(policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes train that hold all of the policy."""
    out = tmp_path_factory.mktemp("unsharded")
    launch(None, policy, out, *TRIED)
    return out


@pytest.fixture(scope="module", params=KINDS)
def sharded(request: pytest.FixtureRequest, policy: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What two processes train that share the policy."""
    out = tmp_path_factory.mktemp(request.param)
    launch(request.param, policy, out, *TRIED)
    return request.param, out


@pytest.mark.parametrize("case", TRIED)
def test_advantages_are_those_of_one_process_to_the_last_bit(
    policy: Path, sharded: tuple[str, Path], case: str
) -> None:
    check(case, str(policy), sharded[1], 2)


@pytest.mark.parametrize("case", [case for case in TRIED if case != "long"])  # which draws otherwise in parts
def test_the_policy_is_that_of_processes_that_hold_all_of_it(
    sharded: tuple[str, Path], unsharded: Path, case: str
) -> None:
    ours, theirs = (saved(folder / case / "policy") for folder in (sharded[1], unsharded))
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=5e-7, msg=name)  # steps are of 1e-2


def test_each_process_holds_its_share(sharded: tuple[str, Path]) -> None:
    kind, folder = sharded
    held = [json.loads((folder / f"weighted-{rank}.held.json").read_text()) for rank in (0, 1)]
    name, weights, moments = KINDS[kind]
    assert [one["kind"] for one in held] == [name, name]
    assert (tuple(one["weights"] for one in held), tuple(one["moments"] for one in held)) == (weights, moments)


@pytest.fixture(scope="module")
def options(policy: Path, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """Options of `tailgrad train` with a reward model."""
    folder = tmp_path_factory.mktemp("options")
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, build_prompts("train")[:16])))
    set_seed(1)
    config = LlamaConfig.from_pretrained(policy, num_labels=1, initializer_range=0.5)
    LlamaForSequenceClassification(config).save_pretrained(folder / "reward")
    AutoTokenizer.from_pretrained(policy).save_pretrained(folder / "reward")
    given = f"""--model_name_or_path {policy} --dataset_name {folder}/prompts.jsonl --report_to none --disable_tqdm true
        --reward_model_name_or_path {folder}/reward --num_generations 8 --per_device_train_batch_size 4 --beta 0.05
        --max_completion_length 6 --save_steps 2 --learning_rate 1e-2 --deploy_n 64 --logging_steps 1 --bf16 false
        --gradient_checkpointing false --resume_from_checkpoint last
        --lr_scheduler_type constant --use_cpu true"""
    return list(given.split())


@pytest.fixture(scope="module")
def whole(options: list[object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command trains in four steps where each process holds all of the policy."""
    out = tmp_path_factory.mktemp("whole")
    launch(None, "train", *options, "--output_dir", out, "--max_steps", 4)
    return out


@pytest.mark.nightly
@pytest.mark.parametrize("kind", KINDS)
def test_the_command_shards_the_policy_alone_and_goes_on(
    kind: str, options: list[object], whole: Path, tmp_path: Path
) -> None:
    for steps in (2, 4):
        launch(kind, "train", *options, "--output_dir", tmp_path, "--max_steps", steps)
    check_as(whole, tmp_path)
    # once more at the end: DeepSpeed saves nothing that it has not trained, and leaves what is there
    with nullcontext() if kind == "fsdp" else pytest.raises(subprocess.CalledProcessError):
        launch(kind, "train", *options, "--output_dir", tmp_path, "--max_steps", 4)
    check_as(whole, tmp_path)
    assert (tmp_path / "tailgrad_training.json").is_file()


def check_as(whole: Path, folder: Path) -> None:
    """Compare rewards and weights of two trainings."""
    assert len(logged(folder)) == 4
    assert logged(folder) == pytest.approx(logged(whole), rel=1e-5)
    for name, tensor in saved(folder).items():
        torch.testing.assert_close(tensor, saved(whole)[name], rtol=0, atol=1e-6, msg=name)


def logged(folder: Path) -> list[float]:
    """The mean reward of each step."""
    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return [entry["reward"] for entry in history if "reward" in entry]


def saved(folder: Path) -> dict[str, torch.Tensor]:
    """The weights that were saved."""
    (path,) = folder.glob("*.safetensors")
    return load_file(path)
