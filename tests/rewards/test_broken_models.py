"""A saved model with a broken file: each loader says in one line which model and which file."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from tailgrad.models.loading import load_policy
from tailgrad.rewards import RewardModel

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 988097824\n"
Break = Callable[[Path], Any]


def put(content: bytes) -> Break:
    return lambda file: file.write_bytes(content)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-50])


def keys(**changes: Any) -> Break:
    return lambda file: file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def remove(file: Path) -> None:
    file.unlink()


def as_torch_file(content: bytes | None) -> Break:
    """Weights in the old format in the place of the new one."""

    def change(file: Path) -> None:
        file.with_name("model.safetensors").unlink()
        torch.save({}, file)
        file.write_bytes(file.read_bytes()[:-50] if content is None else content)

    return change


POINTED = r"{file} is a Git LFS pointer, not .*\. Run `git lfs pull`"
CUT = r"{file} \([\d,]+ bytes\) is cut off or no"
CASES: list[tuple[str, Break, str]] = [
    ("model.safetensors", put(POINTER), POINTED),
    ("model.safetensors", put(b""), CUT),
    ("model.safetensors", put(b"<html>not found</html>"), CUT),
    ("model.safetensors", cut, CUT),
    ("model.safetensors", remove, "could not be loaded from that folder: .*{file}"),
    ("pytorch_model.bin", as_torch_file(POINTER), POINTED),
    ("pytorch_model.bin", as_torch_file(b"garbage"), CUT),
    ("pytorch_model.bin", as_torch_file(None), CUT),
    ("config.json", put(POINTER), POINTED),
    ("config.json", put(b'{"a'), "{file} is not JSON: Unterminated string"),
    ("config.json", put(b"[]"), "{file} is no JSON object"),
    ("config.json", keys(model_type="unheard_of"), "could not be loaded: .*`unheard_of`"),
    ("config.json", keys(hidden_size="wide"), "could not be loaded: StrictDataclass.*hidden_size"),
    ("config.json", keys(hidden_size=32), r"(config and weights do not fit: .* has the shape|do not have the shapes)"),
    ("generation_config.json", put(b"{"), "{file} is not JSON"),
    ("tokenizer.json", put(POINTER), POINTED),
    ("tokenizer.json", put(b"{}"), "could not be loaded: "),
    ("tokenizer.json", remove, "could not be loaded"),
    ("tokenizer_config.json", put(b"\xff\xfe"), "{file} is not JSON"),
    ("chat_template.jinja", put(POINTER), POINTED),
]


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A policy and a reward model."""
    from .conftest import saved_reward_model

    folder = tmp_path_factory.mktemp("saved")
    return {
        "policy": saved_reward_model(folder / "policy", architecture="causal"),
        "reward model": saved_reward_model(folder / "rm"),
    }


def load(what: str, folder: Path) -> None:
    load_policy(str(folder)) if what == "policy" else RewardModel(str(folder))


@pytest.mark.parametrize("what", ["policy", "reward model"])
@pytest.mark.parametrize(("file", "change", "message"), CASES)
def test_model_and_file_are_named(
    saved: dict[str, Path], tmp_path: Path, what: str, file: str, change: Break, message: str
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(saved[what], folder)
    change(folder / file)
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        load(what, folder)
    caught.match(str(folder))
    caught.match(message.replace("{file}", file.replace(".", r"\.")))
    assert "\n" not in str(caught.value)


ADAPTERS: list[tuple[str, Break, str]] = [
    ("adapter/adapter_model.safetensors", put(POINTER), POINTED.replace("{file}", r"adapter_model\.safetensors")),
    ("adapter/adapter_model.safetensors", cut, CUT.replace("{file}", r"adapter_model\.safetensors")),
    ("adapter/adapter_config.json", keys(base_model_name_or_path="./none"), r"'\./none', and there is no such folder"),
    ("adapter/adapter_config.json", keys(base_model_name_or_path=None), "names no base model"),
    ("adapter/adapter_config.json", keys(r=5), "do not fit: .*lora_A"),
    ("adapter/adapter_config.json", keys(peft_type="UNHEARD_OF"), "UNHEARD_OF"),
    ("base/model.safetensors", put(POINTER), "base model of model .*is a Git LFS pointer"),
]


@pytest.mark.parametrize(("file", "change", "message"), ADAPTERS)
def test_an_adapter_and_its_base(
    saved: dict[str, Path], tmp_path: Path, file: str, change: Break, message: str
) -> None:
    shutil.copytree(saved["policy"], tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    lora = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    get_peft_model(model, lora).save_pretrained(tmp_path / "adapter")
    AutoTokenizer.from_pretrained(tmp_path / "base").save_pretrained(tmp_path / "adapter")
    load("policy", tmp_path / "adapter")
    change(tmp_path / file)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        load("policy", tmp_path / "adapter")
    assert "\n" not in str(caught.value)


def test_a_model_that_torch_saved_is_loaded_where_that_is_asked_for(
    saved: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both of torch's formats, which are pickles; unasked neither is read."""
    for legacy in (True, False):
        folder = tmp_path / f"{legacy}"
        shutil.copytree(saved["reward model"], folder)
        (folder / "model.safetensors").unlink()
        model = AutoModelForSequenceClassification.from_pretrained(saved["reward model"])
        torch.save(model.state_dict(), folder / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
        monkeypatch.delenv("TAILGRAD_TORCH_WEIGHTS", raising=False)
        with pytest.raises(ValueError, match=r"pytorch_model\.bin has weights as torch saves them, a pickle"):
            load("reward model", folder)
        monkeypatch.setenv("TAILGRAD_TORCH_WEIGHTS", "1")
        load("reward model", folder)
