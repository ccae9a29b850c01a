"""The record of a training that lies beside a policy on the hub."""

from pathlib import Path
from unittest.mock import Mock

import huggingface_hub
import pytest
from huggingface_hub.errors import RemoteEntryNotFoundError

from tailgrad.rollouts.generation import TRAINING_RECORD, read_record


def test_the_record_of_a_model_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def gives(model: str, file: str, revision: str | None) -> str:
        asked.append((model, file, revision))
        if model == "org/untrained":
            raise RemoteEntryNotFoundError("no such file", response=Mock(headers={}))
        (tmp_path / file).write_text('{"generation": {"temperature": 0.7}}')
        return str(tmp_path / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", gives)
    assert read_record("org/trained", "v1") == {"generation": {"temperature": 0.7}}
    assert read_record("org/untrained") == {}
    assert asked == [("org/trained", TRAINING_RECORD, "v1"), ("org/untrained", TRAINING_RECORD, None)]


def test_a_record_that_was_never_asked_for_is_no_silent_absence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the hub out of reach; once the hub has said that there is none, the cache knows."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.warns(UserWarning, match=r"whether 'org/policy' was trained by tailgrad, .* is not known: the hub is"):
        assert read_record("org/policy") == {}
    folder = tmp_path / "models--org--policy"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("1f")
    (folder / ".no_exist" / "1f").mkdir(parents=True)
    (folder / ".no_exist" / "1f" / TRAINING_RECORD).touch()
    (folder / "snapshots").mkdir()
    assert read_record("org/policy") == {}
