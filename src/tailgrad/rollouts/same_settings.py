"""Whether what was made by an interrupted run was made as it would be made now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

_NAMES: Final = {
    "model": "model_files",
    "reference": "reference_files",
    "reward": "reward_files",
    "reward_options": "reward_files",
}
"""Metadata that is but a name where the hash beside it is known."""

_HOW_FAST: Final = {
    *("gpu_memory_utilization", "enforce_eager", "swap_space", "cpu_offload_gb", "disable_log_stats"),
    *("max_num_seqs", "max_num_batched_tokens", "tensor_parallel_size", "pipeline_parallel_size"),
}
"""Arguments of vLLM that may change after an interruption, such as one for want of memory."""

_SAME_DATA: Final = ("sha256", "num_prompts")


def check_same_settings(made: Path, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    """Refuse to go on with what was made with other settings; what is known by content may have another name.

    Args:
        made: What was made, for the message.
        theirs: The settings it was made with.
        ours: The settings now; JSON types only.

    Raises:
        ValueError: They differ; the message names the setting and both values.
    """
    ours = json.loads(json.dumps(ours))
    known = {name for name, files in _NAMES.items() if _is_known(theirs.get(files)) and _is_known(ours.get(files))}
    for name in (*ours, *(name for name in theirs if name not in ours)):
        left, right = (_content(name, settings.get(name)) for settings in (theirs, ours))
        if name not in known and left != right:
            raise ValueError(
                f"{str(made)!r} holds an interrupted run with another {name}: {left!r} there, {right!r} now. "
                "Delete it, choose another --out, or go on with the settings it was made with."
            )


def _content(name: str, value: Any) -> Any:
    """What counts of a setting: of a data set its content, of an engine's arguments those that may shape a response."""
    if name == "engine_kwargs":
        return {key: one for key, one in (value or {}).items() if key not in _HOW_FAST}
    return {key: value.get(key) for key in _SAME_DATA} if isinstance(value, dict) and "sha256" in value else value


def _is_known(files: Any) -> bool:
    """Whether there is a hash, or a hash for each of several."""
    return bool(files) and (isinstance(files, str) or None not in files)
