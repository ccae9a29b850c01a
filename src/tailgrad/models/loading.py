"""Loading helpers shared by everything that takes a model name: clear errors, dtypes and devices."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tailgrad.files import expanded
from tailgrad.models.devices import torch_device, torch_dtype
from tailgrad.models.model_files import check_model_files, how_to_get_safetensors, weight_options
from tailgrad.models.whole import whole


def check_model_name(name: str, what: str) -> None:
    """Refuse a model name that can be neither a saved model's folder nor a hub name, and a folder with broken files.

    Args:
        name: Hub name or local path.
        what: What the model is for, the first word of the error message.

    Raises:
        FileNotFoundError: The name is written as a path and there is no such folder, or no model in it.
        ValueError: A file of the model is a Git LFS pointer or broken.
    """
    path = expanded(name)
    if path.is_dir():
        if not _holds_model(path):
            if newest := _newest_checkpoint(path):
                raise FileNotFoundError(
                    f"{what} {name!r} holds checkpoints and no saved model: name one, such as {newest}, or call "
                    "trainer.save_model() at the end of the script."
                )
            raise FileNotFoundError(
                f"{what} {name!r}: the folder has no config.json, so it is not a saved model. "
                "Give a folder written by save_pretrained, or a hub name."
            )
        check_model_files(path, name, what)
        return
    if path.is_file():
        raise FileNotFoundError(f"{what} {name!r} is a file. Give the folder that save_pretrained wrote.")
    if not name or name.startswith((".", "/", "~")) or name.endswith("/") or name.count("/") > 1:
        raise FileNotFoundError(f"{what} {name!r}: there is no such folder. Give an existing path or a hub name.")


def _holds_model(folder: Path) -> bool:
    return any((folder / file).exists() for file in ("config.json", "adapter_config.json"))


def _newest_checkpoint(folder: Path) -> Path | None:
    """The last of the trainer's checkpoints in a folder from which a model can be loaded."""
    named = [checkpoint for checkpoint in folder.glob("checkpoint-*") if checkpoint.name[11:].isdigit()]
    return max(filter(_holds_model, named), key=lambda checkpoint: int(checkpoint.name[11:]), default=None)


def model_path(name: str) -> str:
    """Return the path of a local model, `~` written out, and a hub name as it is.

    Args:
        name: Hub name or local path.

    Returns:
        What `from_pretrained` takes.
    """
    path = expanded(name)
    return str(path) if path.is_dir() else name


@contextmanager
def model_errors(name: str, what: str) -> Iterator[None]:
    """Turn the loading errors of transformers into short ones that name the model.

    Args:
        name: Hub name or local path.
        what: What the model is for, the first word of the error message.

    Raises:
        FileNotFoundError: Files are missing, or the hub does not know or does not give the model.
        ValueError: The files are there and are not such a model.
    """
    try:
        yield
    except Exception as error:
        raise _named(error, name, what) from error


@contextmanager
def loading_errors(name: str, what: str) -> Iterator[None]:
    """The same around code that loads a model and does other things: errors of other things stay as they are.

    Args:
        name: Hub name or local path.
        what: What the model is for, the first word of the error message.

    Raises:
        FileNotFoundError: As for `model_errors`.
        ValueError: As for `model_errors`.
    """
    try:
        yield
    except Exception as error:
        if any(frame.f_code.co_name == "from_pretrained" for frame, _ in traceback.walk_tb(error.__traceback__)):
            raise _named(error, name, what) from error
        raise


def _named(error: Exception, name: str, what: str) -> Exception:
    """The error of loading a model in one line, with its name."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = " ".join(lines[:1] if isinstance(error, OSError) else lines[:3])
    reason = f"{reason[:397]}..." if len(reason) > 400 else reason
    if "ignore_mismatched_sizes" in reason:  # transformers says no more in the error
        reason = "its weights do not have the shapes that its config.json says"
    if "use_safetensors=True" in str(error):
        reason = f"it has no weights as safetensors. {how_to_get_safetensors()}"
    if "trust_remote_code=True" in str(error):
        reason = "it comes with code of its own, which runs only with trust_remote_code. Read that code first"
    if isinstance(error, OSError):
        if expanded(name).is_dir():
            return FileNotFoundError(f"{what} {name!r} could not be loaded from that folder: {reason}")
        return FileNotFoundError(f"{what} {name!r} is not a local folder and the hub did not give it: {reason}")
    kind = "" if isinstance(error, ValueError) and reason else f"{type(error).__name__}: "
    return ValueError(f"{what} {name!r} could not be loaded: {kind}{reason}")


def check_policy_weights(path: str, what: str, *, revision: str | None = None, trust_remote_code: bool = False) -> None:
    """Refuse a policy whose files lack weights, before code that would draw them at random loads it.

    Only shapes are looked at, so this takes neither long nor memory. Models that transformers has no class of causal
    language models for, with code of their own, or quantized ones are left to who loads them.

    Args:
        path: Hub name or local folder.
        what: What the model is for, the first word of the error message.
        revision: Branch, tag or commit of the hub.
        trust_remote_code: Run the code that comes with the model, where it has some.

    Raises:
        FileNotFoundError: As for `model_errors`.
        ValueError: Weights are missing or do not fit, or as for `model_errors`.
    """
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    if Path(path).is_dir() and not (Path(path) / "config.json").is_file():
        return  # an adapter
    with model_errors(path, what):
        config = AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=trust_remote_code)
    others = getattr(config, "auto_map", None) or getattr(config, "quantization_config", None)
    if others or type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return
    options: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True, "device_map": "meta"}
    with model_errors(path, what), whole():
        _, info = AutoModelForCausalLM.from_pretrained(path, revision=revision, **options, **weight_options())
    check_loaded(info, path, what, "causal language model")


def check_loaded(loading_info: dict[str, Any], name: str, what: str, kind: str) -> None:
    """Refuse a model of which some weights were drawn at random: not in the files, or of another shape there.

    Args:
        loading_info: What `from_pretrained(..., output_loading_info=True)` returns beside the model.
        name: Hub name or local path.
        what: What the model is for, the first word of the error message.
        kind: The kind of model that was asked for.

    Raises:
        ValueError: Weights are missing or do not fit.
    """
    for key, found, expected in sorted(loading_info.get("mismatched_keys", ())):
        raise ValueError(
            f"{what} {name!r}: config and weights do not fit: {key} has the shape {tuple(found)} in the files and "
            f"{tuple(expected)} by the config."
        )
    missing = sorted(loading_info["missing_keys"])
    if missing:
        raise ValueError(
            f"{what} {name!r} is not a {kind}: it has no weights for {', '.join(missing[:3])}"
            f"{' and others' if len(missing) > 3 else ''}. Give a trained {kind}."
        )


def revision_of(model: Any, revision: str | None) -> str | None:
    """Return the hub commit a model was loaded from, or the revision asked for where there is none.

    Args:
        model: A loaded transformers model.
        revision: The revision that was asked for.

    Returns:
        The commit hash, the given revision, or None (a local folder).
    """
    commit: str | None = getattr(model.config, "_commit_hash", None)
    return commit or revision


def load_tokenizer_of(name: str, revision: str | None, trust_remote_code: bool, what: str = "model") -> Any:
    """Load the tokenizer of a causal language model.

    Args:
        name: Hub name or local folder (also of a PEFT adapter).
        revision: Branch, tag or commit of the hub.
        trust_remote_code: Run the code that comes with the tokenizer.
        what: What the model is for, in error messages.

    Returns:
        The tokenizer.

    Raises:
        FileNotFoundError: The hub does not give it.
        ValueError: It cannot be loaded.
    """
    from transformers import AutoTokenizer

    options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    with model_errors(name, f"tokenizer of {what}"):
        return AutoTokenizer.from_pretrained(model_path(name), padding_side="left", truncation_side="left", **options)


def load_policy(
    name: str,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    device: str | None = None,
    trust_remote_code: bool = False,
    what: str = "model",
) -> tuple[Any, Any]:
    """Load a causal language model and its tokenizer.

    Args:
        name: Hub name or local folder (also of a PEFT adapter).
        revision: Branch, tag or commit of the hub.
        dtype: "float32", "bfloat16", "float16", or "auto" (as saved).
        device: A torch device name; None is the GPU where there is one, else the CPU.
        trust_remote_code: Run the model code that comes with the model.
        what: What the model is for, the first word of error messages.

    Returns:
        The model in evaluation mode and its tokenizer.

    Raises:
        FileNotFoundError: There is no such folder, or the hub does not give the model.
        ValueError: It is not a causal language model, or an option is out of range.
    """
    check_model_name(name, what)
    path = model_path(name)
    resolved_dtype, resolved_device = torch_dtype(dtype), torch_device(device)
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    from transformers import AutoModelForCausalLM

    load: Any = AutoModelForCausalLM.from_pretrained  # returns a pair with output_loading_info

    with model_errors(name, what), whole():
        how: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True, **weight_options()}
        model, info = load(path, dtype=resolved_dtype, **how, **options)
    tokenizer = load_tokenizer_of(name, revision, trust_remote_code, what)
    check_loaded(info, name, what, "causal language model")
    return model.to(resolved_device).eval(), tokenizer
