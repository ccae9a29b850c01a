"""Precisions and devices by their names."""

from __future__ import annotations

import torch

from tailgrad.processes import local_index

DTYPES = ("float32", "bfloat16", "float16", "auto")


def torch_dtype(dtype: str) -> torch.dtype | str:
    """Return the torch dtype of a name ("auto" stays: the dtype the weights were saved in).

    Args:
        dtype: One of `DTYPES`.

    Returns:
        The torch dtype, or "auto".

    Raises:
        ValueError: Any other name.

    Examples:
        >>> torch_dtype("bfloat16")
        torch.bfloat16
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r} is unknown; allowed: {', '.join(DTYPES)}.")
    resolved: torch.dtype | str = dtype if dtype == "auto" else getattr(torch, dtype)
    return resolved


def torch_device(device: str | None) -> torch.device:
    """Return the device of a name; None is a GPU where there is one, else the CPU.

    Of several processes on a machine each takes the next GPU, in turn where there are fewer.

    Args:
        device: A torch device name ("cpu", "cuda", "cuda:1", "mps") or None.

    Returns:
        The device.

    Raises:
        ValueError: torch does not know the name, or has no such device here.

    Examples:
        >>> torch_device("cpu")
        device(type='cpu')
    """
    if device is None:
        if not torch.cuda.is_available():
            return torch.device("cpu")
        place = local_index()
        return torch.device("cuda") if place is None else torch.device("cuda", place % torch.cuda.device_count())
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device {device!r} is unknown to torch; allowed: cpu, cuda, cuda:1, mps, ...") from error
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {device!r}: torch sees {torch.cuda.device_count()} CUDA devices here. Use device 'cpu'."
        )
    return resolved
