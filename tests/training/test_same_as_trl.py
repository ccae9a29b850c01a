"""GRPO here is TRL's: the same weights, to the last bit, from the trainer and from the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import trl.scripts.grpo as trl_grpo
import yaml
from safetensors.torch import load_file
from transformers import Trainer
from trl import GRPOConfig, GRPOTrainer

from tailgrad.cli.main import main
from tailgrad.quickstart.task import build_prompts, verifier
from tailgrad.training import TailGRPOConfig, TailGRPOTrainer


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both leave out the logits of prompts, and read a prompt for each rollout; on a CPU the two differ in both."""
    monkeypatch.setattr("trl.trainer.utils._use_triton", lambda device: True)
    monkeypatch.setattr(TailGRPOTrainer, "_rows_are_alike", lambda trainer: False)


def uneven_reward(*, completions: list[str], **_: Any) -> list[float]:
    """A reward with no short binary form, so that sums of it round."""
    return [sum(ord(letter) for letter in text) / 977.0 for text in completions]


@pytest.mark.parametrize("reward", [uneven_reward, verifier])
@pytest.mark.parametrize("changes", [{}, {"num_iterations": 2, "loss_type": "grpo", "gradient_accumulation_steps": 2}])
def test_grpo_ends_with_bitwise_the_weights_of_trl(policy, prompts, options, reward, changes) -> None:
    ends = []
    for trainer_class, config_class, own in [
        (GRPOTrainer, GRPOConfig, {}),
        (TailGRPOTrainer, TailGRPOConfig, {"estimator": "grpo"}),
    ]:
        args = config_class(**options(max_steps=4, **changes), **own)
        trainer = trainer_class(model=str(policy), reward_funcs=reward, args=args, train_dataset=prompts)
        before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
        trainer.train()
        ends.append(trainer.model.state_dict())
        assert any(not torch.equal(before[name], ends[-1][name]) for name in before)
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_trl_grpo_and_tailgrad_train_end_with_the_same_weights_on_one_file(
    policy, options, tmp_path: Path, capsys, monkeypatch
) -> None:
    (tmp_path / "data").mkdir()
    rows = build_prompts("train")[:12]
    (tmp_path / "data" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = options(max_steps=4, num_iterations=2, lr_scheduler_type="cosine", save_strategy="steps", save_steps=2)
    values |= {
        "model_name_or_path": str(policy),
        "dataset_name": str(tmp_path / "data"),
        "reward_funcs": ["tailgrad.quickstart.task.verifier"],
        "dtype": "float32",
    }
    (tmp_path / "both.yaml").write_text(yaml.safe_dump(values))
    ended, has_end = [], hasattr(Trainer, "end")  # from transformers 5.18 on
    if has_end:
        monkeypatch.setattr(Trainer, "end", lambda trainer: ended.append(type(trainer).__name__))
    command = ["--config", str(tmp_path / "both.yaml"), "--output_dir"]
    trl_grpo.main(*trl_grpo.make_parser().parse_args_and_config([*command, str(tmp_path / "trl")]))
    assert main(["train", *command, str(tmp_path / "ours"), "--estimator", "grpo"]) == 0
    for place in ("checkpoint-2", "checkpoint-4", "."):
        theirs, ours = (load_file(tmp_path / name / place / "model.safetensors") for name in ("trl", "ours"))
        assert all(torch.equal(tensor, ours[name]) for name, tensor in theirs.items())
    start = load_file(policy / "model.safetensors")
    assert any(not torch.equal(tensor, ours[name]) for name, tensor in start.items())
    assert ended == (["GRPOTrainer", "TailGRPOTrainer"] if has_end else [])
