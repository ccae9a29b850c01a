"""What cannot be the name of a model is refused before anything is loaded, and the way out is named."""

from pathlib import Path

import pytest

from tailgrad.models.loading import check_model_name


def test_a_folder_of_checkpoints_alone_names_the_newest_that_can_be_loaded(tmp_path: Path) -> None:
    for name in ("checkpoint-2", "checkpoint-10", "checkpoint-30", "checkpoint-best"):
        (tmp_path / name).mkdir()
    for name in ("checkpoint-2", "checkpoint-10"):
        (tmp_path / name / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError) as caught:
        check_model_name(str(tmp_path), "model")
    assert str(caught.value) == (
        f"model {str(tmp_path)!r} holds checkpoints and no saved model: name one, such as {tmp_path}/checkpoint-10, or "
        "call trainer.save_model() at the end of the script."
    )


def test_a_checkpoint_may_be_an_adapter(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-4").mkdir()
    (tmp_path / "checkpoint-4" / "adapter_config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"such as .*/checkpoint-4, or"):
        check_model_name(str(tmp_path), "model")


def test_a_folder_without_model_and_checkpoints_is_told_as_before(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-4").mkdir()
    with pytest.raises(FileNotFoundError, match=r"has no config.json, so it is not a saved model. Give a folder"):
        check_model_name(str(tmp_path), "model")
