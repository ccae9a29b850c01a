"""What counts as the same model: content, and nothing but what decides a number."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from tailgrad import identity
from tailgrad.identity import file_sha256, model_sha256, sha256_of

CONFIG = {"architectures": ["LlamaForCausalLM"], "vocab_size": 12}
TOKENIZER = {"pad_token": "[PAD]"}


def save_model(folder: Path, **files: str | bytes) -> Path:
    """A folder with the files of a model, as far as their names and contents matter; `__` stands for a dot."""
    folder.mkdir(parents=True)
    named = {name.replace("__", "."): content for name, content in files.items()}
    contents = {
        "config.json": json.dumps(CONFIG),
        "generation_config.json": '{"eos_token_id": 2}',
        "tokenizer.json": '{"model": 1}',
        "tokenizer_config.json": json.dumps(TOKENIZER),
        "chat_template.jinja": "{{ messages }}",
        **named,
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_model(tmp_path / "model", model__safetensors=b"weights")


@pytest.fixture
def adapter(tmp_path: Path, model: Path) -> Path:
    config = json.dumps({"base_model_name_or_path": str(model), "r": 8})
    return save_model(tmp_path / "adapter", adapter_model__safetensors=b"small", adapter_config__json=config)


def write(file: str, content: str) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(content)

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: os.utime(folder / "model.safetensors", ns=(1, 1)),
        lambda folder: folder.rename(folder.with_name("moved")).rename(folder),
        write("README.md", "a model"),
        write("tailgrad_training.json", '{"estimator": "tea"}'),
        write("trainer_state.json", "{}"),
        write("training_args.bin", "pickle"),
        write("optimizer.pt", "moments"),
        write("optimizer.bin", "moments"),
        write("checkpoint-7/model.safetensors", "weights of another step"),
        write("config.json", json.dumps({"vocab_size": 12, "architectures": ["LlamaForCausalLM"]}, indent=1)),
        write("config.json", json.dumps(CONFIG | {"_name_or_path": "runs/a", "transformers_version": "5"})),
        write("tokenizer_config.json", json.dumps(TOKENIZER | {"is_local": True, "local_files_only": False})),
    ],
)
def test_what_decides_no_number_is_not_part_of_a_model(model: Path, change: Callable[[Path], Any]) -> None:
    before = model_sha256(model)
    change(model)
    assert model_sha256(str(model)) == before


@pytest.mark.parametrize(
    "change",
    [
        write("model.safetensors", "weightz"),
        write("config.json", json.dumps(CONFIG | {"vocab_size": 13})),
        write("config.json", "not JSON"),
        write("config.json", "[]"),
        write("generation_config.json", '{"eos_token_id": 3}'),
        write("tokenizer.json", '{"model": 2}'),
        write("tokenizer_config.json", "{}"),
        write("vocab.txt", "one"),
        write("spiece.model", "one"),
        write("tekken.json", "{}"),
        write("chat_template.jinja", "{{ messages[1:] }}"),
        write("additional_chat_templates/tool_use.jinja", "{{ tools }}"),
        write("modeling_own.py", "import torch"),
        lambda folder: (folder / "generation_config.json").unlink(),
    ],
)
def test_what_decides_a_number_is(model: Path, change: Callable[[Path], Any]) -> None:
    before = model_sha256(model)
    change(model)
    assert model_sha256(model) != before


def test_a_copy_is_the_same_model(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(model, tmp_path / "copy")
    assert model_sha256(tmp_path / "copy") == model_sha256(model)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert model_sha256("~/copy") == model_sha256(model)


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_every_shard_of_the_weights_counts(tmp_path: Path, kind: str) -> None:
    shards = {f"model-0000{i}-of-00002__{kind}": f"shard {i}" for i in (1, 2)}
    folder = save_model(tmp_path / "sharded", **shards, **{f"model__{kind}__index__json": '{"weight_map": {}}'})
    hashes = [model_sha256(folder)]
    for i in (1, 2):
        write(f"model-0000{i}-of-00002.{kind}", f"Shard {i}")(folder)
        hashes.append(model_sha256(folder))
    write(f"model.{kind}.index.json", '{"weight_map": {"a": "b"}}')(folder)
    assert len({*hashes, model_sha256(folder)}) == 4


def test_a_pointer_to_weights_is_content_like_any_other(tmp_path: Path) -> None:
    pointers = [f"version https://git-lfs.github.com/spec/v1\noid sha256:{digit * 64}\nsize 9\n" for digit in "ab"]
    folders = [save_model(tmp_path / str(i), model__safetensors=text) for i, text in enumerate(pointers)]
    assert model_sha256(folders[0]) != model_sha256(folders[1])


def test_a_hub_name_has_no_content_here() -> None:
    assert model_sha256("org/model") is None


def test_an_adapter_is_its_own_files_and_its_base(adapter: Path, model: Path, tmp_path: Path) -> None:
    before = model_sha256(adapter)
    write("README.md", "a model")(model)
    config = json.loads((adapter / "adapter_config.json").read_text())
    write("adapter_config.json", json.dumps(config | {"peft_version": "0.21.2"}))(adapter)
    assert model_sha256(adapter) == before != model_sha256(model)
    write("model.safetensors", "weightz")(model)
    other_base = model_sha256(adapter)
    write("adapter_model.safetensors", "SMALL")(adapter)
    assert len({before, other_base, model_sha256(adapter)}) == 3


def test_an_adapter_and_its_base_may_be_moved(adapter: Path, model: Path, tmp_path: Path) -> None:
    before = model_sha256(adapter)
    shutil.move(model, tmp_path / "base")
    config = json.dumps({"base_model_name_or_path": str(tmp_path / "base"), "r": 8})
    write("adapter_config.json", config)(adapter)
    assert model_sha256(adapter) == before
    write("adapter_config.json", config.replace("8", "16"))(adapter)
    assert model_sha256(adapter) != before


@pytest.mark.parametrize("base", ["org/model", None])
def test_an_adapter_is_the_same_in_whatever_order_peft_writes_a_set(
    adapter: Path, model: Path, base: str | None
) -> None:
    """In another one in every process."""
    hashes = []
    for names in (["q_proj", "v_proj", "o_proj"], ["o_proj", "q_proj", "v_proj"], ["o_proj", "q_proj"]):
        config = {"base_model_name_or_path": base or str(model), "target_modules": names, "modules_to_save": None}
        write("adapter_config.json", json.dumps(config))(adapter)
        hashes.append(model_sha256(adapter))
    assert hashes[0] == hashes[1] != hashes[2]


def test_an_adapter_of_a_hub_model_is_told_by_the_name(adapter: Path) -> None:
    hashes = set()
    for base in ("org/model", "org/other"):
        write("adapter_config.json", json.dumps({"base_model_name_or_path": base}))(adapter)
        hashes.add(model_sha256(adapter))
    assert len(hashes) == 2


def test_a_settled_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"weights")
    read = []
    digest = identity.hashlib.file_digest
    monkeypatch.setattr(identity.hashlib, "file_digest", lambda *args: read.append(args) or digest(*args))
    monkeypatch.setattr(identity, "_SETTLED", 0)
    assert len({file_sha256(path) for _ in range(3)}) == len(read) == 1
    path.write_bytes(b"weightz" * 2)
    assert file_sha256(path) == file_sha256(str(path)) == identity.hashlib.sha256(b"weightz" * 2).hexdigest()
    assert len(read) == 2


def test_a_file_that_has_just_been_written_is_read_again(tmp_path: Path) -> None:
    """Within one tick of the file system's clock two contents may carry the same time of change."""
    path, hashes = tmp_path / "small", set()
    for i in range(100):
        path.write_bytes(bytes([i]))
        os.utime(path, ns=(os.stat(path).st_mtime_ns // 10**9 * 10**9,) * 2)
        hashes.add(file_sha256(path))
    assert len(hashes) == 100


def test_values_are_told_apart() -> None:
    values = [None, 0, 0.5, "0", [], {}, [1, 2], [2, 1], {"a": 1}, {"a": [1]}, float("nan")]
    assert len({sha256_of(value) for value in values}) == len(values)


def test_a_model_that_was_loaded_and_saved_again_is_the_same_online_or_offline(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for offline in (False, True):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
        for loaded in (AutoModelForCausalLM.from_pretrained(policy), AutoTokenizer.from_pretrained(policy)):
            loaded.save_pretrained(tmp_path / str(offline))
    written = [json.loads((tmp_path / name / "tokenizer_config.json").read_text()) for name in ("False", "True")]
    assert [one["local_files_only"] for one in written] == [False, True]
    assert model_sha256(tmp_path / "False") == model_sha256(tmp_path / "True") == model_sha256(policy)
