"""Interruption: a training that is killed and resumed ends where one that was not killed ends."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import TrainerCallback
from trl import GRPOTrainer

from tailgrad.quickstart.task import verifier
from tailgrad.rollouts.generation import TRAINING_RECORD
from tailgrad.training import TailGRPOConfig, TailGRPOTrainer
from tailgrad.training.resume import last_checkpoint

Train = Callable[..., TailGRPOTrainer]


@pytest.fixture
def train(policy, prompts, options, tmp_path: Path) -> Train:
    """Train on six prompts, three batches of rollouts per epoch, into a folder of the given name."""

    def run(name: str, resume: str | Path | bool | None = None, **changes: Any) -> TailGRPOTrainer:
        own = {
            key: changes.pop(key)
            for key in ("reward_funcs", "train_dataset", "peft_config", "callbacks")
            if key in changes
        }
        common = {"max_steps": -1, "num_train_epochs": 2, "save_strategy": "steps", "save_steps": 1, "deploy_n": 64}
        args = TailGRPOConfig(**options(**common | changes | {"output_dir": str(tmp_path / name)}))
        rows = prompts.select(range(6))
        given = {
            "model": str(policy),
            "reward_funcs": verifier,
            "train_dataset": rows,
            "eval_dataset": rows.select([0]),
        }
        trainer = TailGRPOTrainer(args=args, **given | own)
        trainer.train(resume_from_checkpoint=str(resume) if isinstance(resume, Path) else resume)
        return trainer

    return run


def end_of(trainer: TailGRPOTrainer) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """The trained weights, and what was logged but for times and the summary."""
    logged = [
        {name: value for name, value in entry.items() if "time" not in name and "per_second" not in name}
        for entry in trainer.state.log_history
        if "train_runtime" not in entry
    ]
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}, logged


def assert_same_end(one: TailGRPOTrainer, other: TailGRPOTrainer) -> None:
    (weights, logged), (found, found_logged) = end_of(one), end_of(other)
    assert all(torch.equal(weights[name], found[name]) for name in weights)
    assert len(logged) >= one.state.global_step
    assert logged == found_logged


@pytest.mark.parametrize(
    ("changes", "resumed"),
    [
        ({"num_train_epochs": 3}, (2, 3, 4, 6, 8)),  # in the first epoch, at its end, after it, ...
        ({"shuffle_dataset": False}, (4,)),
        ({"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2}, (3, 4)),
        ({"gradient_accumulation_steps": 2, "steps_per_generation": 1}, (2, 3)),  # the epoch's last step is shorter
        ({"num_iterations": 2, "save_steps": 2}, (6, 8)),
        ({"per_device_train_batch_size": 8, "steps_per_generation": 2, "save_steps": 2}, (6, 8)),
        (
            {
                "num_iterations": 3,
                "gradient_accumulation_steps": 2,
                "steps_per_generation": 1,
                "save_strategy": "epoch",
            },
            (5,),
        ),
        ({"dataloader_num_workers": 1}, (3, 4)),
        ({"eval_strategy": "steps", "eval_steps": 2, "num_generations_eval": 4}, (3, 4)),
        ({"max_steps": 8, "save_steps": 0.25, "lr_scheduler_type": "cosine"}, (4, 6)),
    ],
    ids=lambda value: "-".join(map(str, value if isinstance(value, tuple) else value.values())),
)
def test_resumed_anywhere_it_ends_with_the_same_weights_and_logs(train, tmp_path, changes, resumed) -> None:
    whole = train("whole", **changes)
    for step in resumed:
        assert_same_end(whole, train("resumed", tmp_path / "whole" / f"checkpoint-{step}", **changes))


def test_an_adapter_with_dropout_is_resumed(train, tmp_path) -> None:
    from peft import LoraConfig

    def adapter() -> LoraConfig:
        return LoraConfig(r=2, target_modules=["q_proj", "v_proj"], lora_dropout=0.1, task_type="CAUSAL_LM")

    whole = train("whole", peft_config=adapter())
    assert_same_end(whole, train("resumed", tmp_path / "whole" / "checkpoint-4", peft_config=adapter()))


class Stop(TrainerCallback):
    """Ends a training as an interruption would, before the step after so many."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.after:
            raise KeyboardInterrupt


@pytest.mark.parametrize("after", [0, 5])
def test_last_goes_on_where_an_interruption_left_off(train, after: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        train("killed", save_steps=2, callbacks=[Stop(after)])
    assert_same_end(train("whole", save_steps=2), train("killed", "last", save_steps=2))


def test_one_trainer_can_be_resumed_after_it_has_trained(train, tmp_path) -> None:
    whole = train("whole", num_iterations=2, save_steps=2)
    weights = end_of(whole)[0]
    whole.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-6"))
    assert all(torch.equal(tensor, weights[name]) for name, tensor in end_of(whole)[0].items())


def test_a_checkpoint_in_the_middle_of_a_batch_of_rollouts_is_not_resumed(train, tmp_path, caplog) -> None:
    train("out", num_iterations=2, save_steps=2, max_steps=5)  # checkpoint-5 is the last, and allowed
    longer = {"num_iterations": 2, "save_steps": 2, "max_steps": 8, "lr_scheduler_type": "constant"}
    with pytest.raises(ValueError, match="checkpoint-5 cannot be resumed exactly: step 5 is in the middle of a batch"):
        train("out", tmp_path / "out" / "checkpoint-5", **longer)
    shorter = {"lr_scheduler_type": "constant", "num_iterations": 2, "save_steps": 2}
    whole = train("whole", max_steps=8, **shorter)
    train("cut", max_steps=5, **shorter)
    caplog.clear()
    resumed = train("cut", "last", max_steps=8, **shorter)
    assert "checkpoint-5 is passed over" in caplog.text
    assert all(torch.equal(tensor, end_of(whole)[0][name]) for name, tensor in end_of(resumed)[0].items())


def test_a_checkpoint_without_the_optimizers_state_is_not_resumed(train, tmp_path) -> None:
    train("out", max_steps=3, save_only_model=True)
    with pytest.raises(
        ValueError, match=r"No checkpoint .* checkpoint-3: it has no optimizer state \(--save_only_model"
    ):
        train("out", "last", max_steps=4)


def test_a_checkpoint_at_the_last_step_is_loaded_and_no_step_taken(train, tmp_path) -> None:
    whole = train("out", num_iterations=2, save_steps=2, max_steps=5, save_only_model=True)
    again = train("out", "last", num_iterations=2, save_steps=2, max_steps=5)
    assert again.state.global_step == 5
    assert all(torch.equal(tensor, end_of(whole)[0][name]) for name, tensor in end_of(again)[0].items())


def other_reward(*, completions: list[str], **_: Any) -> list[float]:
    return [float(len(text)) for text in completions]


def test_another_run_is_not_resumed_and_free_options_are_free(train, prompts, tmp_path, caplog) -> None:
    train("out", max_steps=2)
    last = tmp_path / "out" / "checkpoint-2"
    for changes, words in (
        ({"train_dataset": prompts.select(range(1, 7))}, "other data"),
        ({"reward_funcs": other_reward}, "other rewards"),
        ({"learning_rate": 2e-2, "beta": 0.1}, "learning_rate was 0.01, is 0.02; beta was 0.05, is 0.1"),
        ({"estimator": "grpo"}, "estimator was flat_tea, is grpo"),
        ({"min_p": 0.1}, "min_p was None, is 0.1"),
        ({"seed": 4}, "seed was 3, is 4"),
    ):
        with pytest.raises(ValueError, match=f"checkpoint-2 is of another run: {words}"):
            train("out", last, **{"max_steps": 3} | changes)
    caplog.clear()
    train("elsewhere", last, max_steps=3, logging_steps=5, save_steps=100, save_total_limit=1, run_name="again")
    assert "other options, and will not end as one that was not interrupted: max_steps was 2, is 3." in caplog.text
    caplog.clear()
    halves = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2}  # where memory ran out
    undivided, divided = train("same", last, max_steps=3), train("halves", last, max_steps=3, **halves)
    assert "per_device_train_batch_size was 16, is 8; " in caplog.text
    rewards = [trainer.state.log_history[2]["reward"] for trainer in (undivided, divided)]
    assert rewards[0] == rewards[1]  # the same rollouts
    (last / "tailgrad_run.json").unlink()
    train("old", last, max_steps=3)
    assert "does not say what decided its run" in caplog.text


def test_what_is_cut_off_while_it_is_written_again_no_longer_passes_for_whole(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, out = train("out", max_steps=2), tmp_path / "out"
    trainer.save_model()
    assert last_checkpoint(out) == out / "checkpoint-2"
    assert (out / TRAINING_RECORD).is_file()

    def cut_off(trainer: GRPOTrainer, folder: str | None = None, _internal_call: bool = False) -> None:
        Path(folder or trainer.args.output_dir, "model.safetensors").write_bytes(b"")
        raise KeyboardInterrupt

    monkeypatch.setattr(GRPOTrainer, "save_model", cut_off)
    with pytest.raises(KeyboardInterrupt):
        train("out", out / "checkpoint-1", max_steps=2)
    assert last_checkpoint(out) == out / "checkpoint-1"
    assert not (out / "checkpoint-2" / TRAINING_RECORD).exists()
    with pytest.raises(KeyboardInterrupt):
        trainer.save_model()
    assert not (out / TRAINING_RECORD).exists()


def test_true_without_a_checkpoint_is_an_error_as_in_transformers(train) -> None:
    with pytest.raises(ValueError, match="no checkpoint"):
        train("out", True)


def test_a_trainer_that_stopped_amid_a_batch_of_rollouts_goes_on_at_fresh_ones(train: Train, tmp_path: Path) -> None:
    changes = {"num_iterations": 2, "save_steps": 2}
    trainer = train("out", **changes, max_steps=4)
    trainer._step += 1  # as after an exception between two passes on one batch
    trainer.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))
    expected = load_file(tmp_path / "out" / "checkpoint-4" / "model.safetensors")
    found = trainer.model.state_dict()
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


def test_a_script_goes_on_as_its_configuration_says(train: Train, caplog: pytest.LogCaptureFixture) -> None:
    """`resume_from_checkpoint` of the config acts without an argument; a new start over checkpoints is said."""
    whole = train("out")
    assert "holds checkpoints" not in caplog.text
    for step in range(3, whole.state.global_step + 1):
        shutil.rmtree(Path(whole.args.output_dir, f"checkpoint-{step}"))
    begun: list[int] = []

    class Begins(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            begun.append(state.global_step)

    assert_same_end(train("out", resume_from_checkpoint="last", callbacks=[Begins()]), whole)
    assert begun == list(range(2, whole.state.global_step))
    assert "holds checkpoints" not in caplog.text
    train("out", max_steps=1)
    assert "holds checkpoints of a training before this one (the newest is checkpoint-" in caplog.text


def test_the_best_policy_is_loaded_also_where_a_finished_training_is_resumed(train: Train) -> None:
    best = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 1, "learning_rate": 0.5}
    best |= {"metric_for_best_model": "eval_reward", "greater_is_better": True}
    first = train("out", **best)
    assert 0 < int(first.state.best_model_checkpoint.rpartition("-")[2]) < first.state.global_step
    again = train("out", resume="last", **best)
    for name, weights in first.model.state_dict().items():
        assert torch.equal(weights, again.model.state_dict()[name])
