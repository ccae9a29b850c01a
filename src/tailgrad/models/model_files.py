"""The files of a saved model, looked at before anything is loaded: what is broken is named."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any, Final

from tailgrad.files import expanded

_LFS: Final = b"version https://git-lfs.github.com/spec/"
_READ: Final = ("*.safetensors", "*.bin", "*.json", "*.jinja", "*.model", "*.txt", "*.py")
"""Files that loading may read."""

_CONFIGS: Final = ("*config.json", "tokenizer.json", "special_tokens_map.json", "added_tokens.json", "*.index.json")
"""Files that hold a JSON object."""


TORCH_WEIGHTS: Final = "TAILGRAD_TORCH_WEIGHTS"
"""Environment variable that asks, as 1, for weights that torch saved, too: they are a pickle."""


def weight_options() -> dict[str, Any]:
    """What `from_pretrained` is told of the format of weights: safetensors alone, unless others were asked for.

    Nor is a service of the hub asked to convert them, as transformers does by itself.
    """
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    return {} if os.environ.get(TORCH_WEIGHTS) == "1" else {"use_safetensors": True}


def how_to_get_safetensors() -> str:
    """What to do about a model whose weights are no safetensors, the end of an error."""
    return (
        "Save it anew as safetensors with save_pretrained of transformers, or, if you trust who made it, set "
        f"{TORCH_WEIGHTS}=1."
    )


def check_model_files(folder: Path, name: str, what: str) -> None:
    """Refuse a saved model with a file that cannot be what it is called; an adapter's local base model too.

    Args:
        folder: The model.
        name: Its name in error messages.
        what: What the model is for, the first word of error messages.

    Raises:
        FileNotFoundError: The base model of an adapter is not there.
        ValueError: A file is a Git LFS pointer or broken, or the weights are a pickle; the message names it.
    """
    for file in sorted({file for pattern in _READ for file in folder.glob(pattern) if file.is_file()}):
        with file.open("rb") as stream:
            if stream.read(len(_LFS)) == _LFS:
                kind = "weights" if file.suffix in (".safetensors", ".bin") else "its content"
                raise ValueError(
                    f"{what} {name!r}: {file.name} is a Git LFS pointer, not {kind}. Run `git lfs pull` in that folder."
                )
    for file in sorted({file for pattern in _CONFIGS for file in folder.glob(pattern) if file.is_file()}):
        _json_object(file, name, what)
    for file in sorted(folder.glob("*.safetensors")):
        _check_safetensors(file, name, what)
    for file in sorted({*folder.glob("pytorch_model*.bin"), *folder.glob("adapter_model.bin")}):
        _check_torch_file(file, name, what)
        if weight_options() and not any(folder.glob("*.safetensors")):
            raise ValueError(
                f"{what} {name!r}: {file.name} has weights as torch saves them, a pickle; safetensors are read. "
                f"{how_to_get_safetensors()}"
            )
    _check_base(folder, name, what)


def _json_object(file: Path, name: str, what: str) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{what} {name!r}: {file.name} is not JSON: {error}. Save or download it again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{what} {name!r}: {file.name} is no JSON object. Save or download it again.")
    return content


def _check_safetensors(file: Path, name: str, what: str) -> None:
    """Read the header, which says how long the file must be."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt"):
            pass
    except SafetensorError as error:
        size = file.stat().st_size
        raise ValueError(
            f"{what} {name!r}: {file.name} ({size:,} bytes) is cut off or no safetensors file: {error}. "
            "Save or download it again."
        ) from error


def _check_torch_file(file: Path, name: str, what: str) -> None:
    """Weights that torch saved are an archive; before torch 1.6 they were a pickle."""
    with file.open("rb") as stream:
        is_pickle = stream.read(1) == b"\x80"
    if not is_pickle and not zipfile.is_zipfile(file):
        raise ValueError(
            f"{what} {name!r}: {file.name} ({file.stat().st_size:,} bytes) is cut off or no file of torch weights. "
            "Save or download it again."
        )


def _check_base(folder: Path, name: str, what: str) -> None:
    file = folder / "adapter_config.json"
    if not file.is_file():
        return
    base = _json_object(file, name, what).get("base_model_name_or_path")
    if not base:
        raise ValueError(f"{what} {name!r}: adapter_config.json names no base model (base_model_name_or_path).")
    path = expanded(base)
    if path.is_dir():
        check_model_files(path, str(base), f"base model of {what}")
    elif base.startswith((".", "/", "~")) or base.count("/") > 1:
        raise FileNotFoundError(
            f"{what} {name!r}: its adapter_config.json names the base model {base!r}, and there is no such folder."
        )
