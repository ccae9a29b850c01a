"""Loading helpers shared by everything that takes a model name: clear errors, dtypes and devices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

DTYPES = ("float32", "bfloat16", "float16", "auto")


def check_model_name(name: str, what: str) -> None:
    """Refuse a model name that can be neither a saved model's folder nor a hub name.

    Args:
        name: Hub name or local path.
        what: What the model is for, the first word of the error message.

    Raises:
        FileNotFoundError: The name is written as a path and there is no such folder, or no model in it.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        if not any((path / file).exists() for file in ("config.json", "adapter_config.json")):
            raise FileNotFoundError(
                f"{what} {name!r}: the folder has no config.json, so it is not a saved model. "
                "Give a folder written by save_pretrained, or a hub name."
            )
        return
    if path.is_file():
        raise FileNotFoundError(f"{what} {name!r} is a file. Give the folder that save_pretrained wrote.")
    if not name or name.startswith((".", "/", "~")) or name.endswith("/") or name.count("/") > 1:
        raise FileNotFoundError(f"{what} {name!r}: there is no such folder. Give an existing path or a hub name.")


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
    except OSError as error:
        reason = str(error).strip().split("\n")[0]
        if Path(name).expanduser().is_dir():
            raise FileNotFoundError(f"{what} {name!r} could not be loaded from that folder: {reason}") from error
        raise FileNotFoundError(
            f"{what} {name!r} is not a local folder and the hub did not give it: {reason}"
        ) from error
    except (ValueError, KeyError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"{what} {name!r} could not be loaded: {reason}") from error


def check_loaded(loading_info: dict[str, Any], name: str, what: str, kind: str) -> None:
    """Refuse a model of which some weights were not in the files and were drawn at random.

    Args:
        loading_info: What `from_pretrained(..., output_loading_info=True)` returns beside the model.
        name: Hub name or local path.
        what: What the model is for, the first word of the error message.
        kind: The kind of model that was asked for.

    Raises:
        ValueError: Weights are missing.
    """
    missing = sorted(loading_info["missing_keys"])
    if missing:
        raise ValueError(
            f"{what} {name!r} is not a {kind}: it has no weights for {', '.join(missing[:3])}"
            f"{' and others' if len(missing) > 3 else ''}. Give a trained {kind}."
        )


def torch_dtype(dtype: str) -> torch.dtype | str:
    """Return the torch dtype of a name ("auto" stays: the dtype the weights were saved in).

    Args:
        dtype: One of `DTYPES`.

    Returns:
        The torch dtype, or "auto".

    Raises:
        ValueError: Any other name.

    Example:
        >>> torch_dtype("bfloat16")
        torch.bfloat16
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r} is unknown; allowed: {', '.join(DTYPES)}.")
    resolved: torch.dtype | str = dtype if dtype == "auto" else getattr(torch, dtype)
    return resolved


def torch_device(device: str | None) -> torch.device:
    """Return the device of a name; None is the first GPU where there is one, else the CPU.

    Args:
        device: A torch device name ("cpu", "cuda", "cuda:1", "mps") or None.

    Returns:
        The device.

    Raises:
        ValueError: torch does not know the name, or has no such device here.

    Example:
        >>> torch_device("cpu")
        device(type='cpu')
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device {device!r} is unknown to torch; allowed: cpu, cuda, cuda:1, mps, ...") from error
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {device!r}: torch sees {torch.cuda.device_count()} CUDA devices here. Use device 'cpu'."
        )
    return resolved


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
