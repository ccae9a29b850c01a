"""Which checkpoints are whole, which of them can be resumed exactly, and where a new start is refused."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from tailgrad.training.resume import last_checkpoint, resolve_resume, why_not_exact
from tailgrad.training.schedule import Schedule


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "out" / "checkpoint-4"
    folder.mkdir(parents=True)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        (folder / name).touch()
    (folder / "trainer_state.json").write_text('{"global_step": 4, "epoch": 1.3}')
    return folder


@pytest.mark.parametrize(
    ("changes", "prompts", "words"),
    [
        ({}, 6, None),
        ({"world_size": 2}, 6, "random numbers .rng_state_0.pth"),
        ({"ignore_data_skip": True}, 6, "from the first"),
        ({"sync_ref_model": True}, 6, "sync_ref_model"),
        ({"dataloader_persistent_workers": True, "eval_strategy": "steps"}, 6, "evaluation's prompts"),
        ({}, None, "dataset_streaming"),
        ({"deepspeed_plugin": object()}, 6, "saved without DeepSpeed"),
    ],
)
def test_what_is_not_saved_is_why_a_checkpoint_is_not_resumed(checkpoint, changes, prompts, words) -> None:
    quiet = {"world_size": 1, "ignore_data_skip": False, "sync_ref_model": False, "eval_strategy": "no"}
    args = SimpleNamespace(**quiet | {"dataloader_persistent_workers": False} | changes)
    reason = why_not_exact(checkpoint, args, Schedule(prompts, 2, 1, 1, 9, 1.0))
    assert reason is None if words is None else re.search(words, str(reason))
    assert why_not_exact(checkpoint, args, Schedule(prompts, 2, 1, 1, 4, 1.0)) is None  # its last step


def test_a_checkpoint_of_deepspeed_is_resumed_with_deepspeed_alone(checkpoint: Path) -> None:
    (checkpoint / "optimizer.pt").unlink()
    (checkpoint / "global_step4").mkdir()
    others = {"ignore_data_skip": False, "sync_ref_model": False, "dataloader_persistent_workers": False}
    schedule = Schedule(6, 2, 1, 1, 9, 1.0)
    plain, deepspeed = (SimpleNamespace(world_size=1, deepspeed_plugin=one, **others) for one in (None, object()))
    assert "saved with DeepSpeed" in str(why_not_exact(checkpoint, plain, schedule))
    assert why_not_exact(checkpoint, deepspeed, schedule) is None


def test_a_checkpoint_cut_off_while_it_was_written_is_passed_over(checkpoint: Path, tmp_path: Path) -> None:
    args = SimpleNamespace(
        output_dir=str(tmp_path / "out"),
        world_size=1,
        ignore_data_skip=False,
        sync_ref_model=False,
        dataloader_persistent_workers=False,
    )
    nowhere = SimpleNamespace(output_dir=str(tmp_path / "nothing"))
    schedule = Schedule(6, 2, 1, 1, 20, 1.0)
    assert last_checkpoint(tmp_path / "nothing") is None
    for step, state in ((6, '{"global_'), (7, "[]"), (8, None)):
        folder = tmp_path / "out" / f"checkpoint-{step}"
        folder.mkdir()
        if state is not None:
            (folder / "trainer_state.json").write_text(state)
    assert last_checkpoint(tmp_path / "out") == checkpoint
    assert resolve_resume("last", args, schedule) == resolve_resume(True, args, schedule) == str(checkpoint)
    assert resolve_resume("last", nowhere, schedule) is None
    assert resolve_resume(None, nowhere, schedule) is None
    with pytest.raises(ValueError, match="--resume_from_checkpoint last"):
        resolve_resume(None, args, schedule)
    with pytest.raises(ValueError, match="not a whole checkpoint"):
        resolve_resume(str(tmp_path / "out" / "checkpoint-6"), args, schedule)


@pytest.mark.parametrize("resume", [None, "last"])
@pytest.mark.parametrize("name", ["adapter_config.json", "model.safetensors", "model-00001-of-00002.safetensors"])
def test_a_new_start_into_a_folder_with_a_model_is_refused(tmp_path: Path, name: str, resume: str | None) -> None:
    """An adapter that stays beside newly trained weights would be added to them when the folder is loaded."""
    (tmp_path / name).write_text("{}")
    args = SimpleNamespace(output_dir=str(tmp_path))
    with pytest.raises(ValueError, match=rf"holds a model \({name}\).*another --output_dir"):
        resolve_resume(resume, args, Schedule(6, 2, 1, 1, 20, 1.0))
