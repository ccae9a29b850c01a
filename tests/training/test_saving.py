"""Checkpoints at given steps stay, of the others the newest alone; the record tells the prompts of a step."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tailgrad import __version__
from tailgrad.cli.main import main
from tailgrad.quickstart.task import build_prompts, verifier
from tailgrad.rollouts.generation import TRAINING_RECORD
from tailgrad.training import TailGRPOConfig, TailGRPOTrainer
from tailgrad.training.record import card_of
from tailgrad.training.resume import last_checkpoint
from tailgrad.training.saving import SaveAtSteps


def test_the_model_card_names_the_estimator_and_cites_its_source_beside_that_of_grpo(policy, prompts, options) -> None:
    args = TailGRPOConfig(**options(), estimator="tea:tail_fraction=0.5", deploy_n=64)
    trainer = TailGRPOTrainer(str(policy), verifier, args, prompts)
    trainer.create_model_card(model_name="mine")
    card = Path(args.output_dir, "README.md").read_text()
    said = next(line for line in card.splitlines() if line.startswith("This model was trained with "))
    assert "tea:tail_fraction=0.5" in said
    assert "best of 64" in said
    assert "DeepSeekMath" not in said, "which did not introduce it"
    cited = card.partition("## Citations")[2].partition("Cite TRL")[0]
    assert cited.index("@article{shao2024deepseekmath") < cited.index("@software{tailgrad")
    assert __version__ in cited
    assert "TEA, arXiv 2605.10716" in cited
    assert cited.count("{") == cited.count("}")


@pytest.mark.parametrize(
    ("estimator", "said"),
    [
        ("grpo", "GRPO"),
        ("max_at_k:k=4", "GRPO with the advantages of max_at_k:k=4"),
        ("tea", "GRPO with the advantages of tea for the best of 64"),
    ],
)
def test_a_card_names_n_where_the_estimator_knows_it(estimator: str, said: str) -> None:
    args = TailGRPOConfig(estimator=estimator, deploy_n=64, num_generations=16, report_to="none", use_cpu=True)
    assert card_of(args)[0] == said


def test_checkpoints_at_given_steps_are_kept(policy: Path, options: Any, tmp_path: Path) -> None:
    data = tmp_path / "prompts.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in build_prompts("train")[:12]))
    given = options(max_steps=5, save_strategy="steps", save_steps=2)
    given |= {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 3}
    given |= {"model_name_or_path": policy, "dataset_name": data}
    given |= {"reward_funcs": "tailgrad.quickstart.task.verifier"}
    argv = ["train", *(word for name, value in given.items() for word in (f"--{name}", str(value)))]
    assert main([*argv, "--save_at_steps", "1", "3"]) == 0
    folders = {folder.name for folder in (tmp_path / "out").glob("checkpoint-*")}
    assert folders == {"checkpoint-1", "checkpoint-3", "checkpoint-5"}
    for folder in (tmp_path / "out", *(tmp_path / "out").glob("checkpoint-*")):
        record = json.loads((folder / TRAINING_RECORD).read_text())
        assert record["prompts_per_step"] == 8 * 3 / 8


def test_a_checkpoint_whose_removal_is_cut_off_does_not_pass_for_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))

    def cut_off(folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", cut_off)
    state = SimpleNamespace(is_world_process_zero=True, global_step=2)
    with pytest.raises(KeyboardInterrupt):
        SaveAtSteps([]).on_save(SimpleNamespace(output_dir=tmp_path), state, None)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-2"
    (tmp_path / "checkpoint-2" / "trainer_state.json").unlink()
    assert last_checkpoint(tmp_path) is None


@pytest.mark.parametrize("resumed", [True, False])
def test_checkpoints_of_another_training_are_not_removed(tmp_path: Path, resumed: bool) -> None:
    def saved(step: int) -> None:
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir(exist_ok=True)
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))

    for step in (1, 2, 4):
        saved(step)
    args, state = SimpleNamespace(output_dir=str(tmp_path)), SimpleNamespace(is_world_process_zero=True, global_step=0)
    state.global_step = 2 if resumed else 0
    keeper = SaveAtSteps([3])
    keeper.on_train_begin(args, state, None)
    for step in (4, 5):  # the one at 4 is written over
        saved(step)
        state.global_step = step
        keeper.on_save(args, state, None)
    left = {folder.name for folder in tmp_path.iterdir()}
    assert left == {"checkpoint-5"} | (set() if resumed else {"checkpoint-1", "checkpoint-2"})
