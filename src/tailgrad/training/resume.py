"""Interruption and resume: which checkpoints are whole, and where a checkpoint may be cut."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from trl import GRPOConfig

_STATE_FILE: Final = "trainer_state.json"
"""The file that `transformers.Trainer` writes last, so that a checkpoint holding a readable one is whole."""


def check_save_steps(config: GRPOConfig) -> None:
    """Refuse a `save_steps` that cuts a batch of rollouts in two.

    TRL generates rollouts once every `steps_per_generation * num_iterations` backward passes and does not save them: a
    checkpoint in between is resumed with fresh rollouts in the place of the rest, and ends in other weights.

    Args:
        config: TRL's configuration.

    Raises:
        ValueError: Checkpoints are saved by steps and `save_steps` is not aligned; the message names one that is.
    """
    if config.save_strategy != "steps" or config.save_steps < 1:
        return
    passes = config.steps_per_generation * config.num_iterations
    aligned = passes // math.gcd(passes, config.gradient_accumulation_steps)
    if config.save_steps % aligned:
        raise ValueError(
            f"save_steps = {config.save_steps:g} would cut a batch of rollouts in two: rollouts are generated every "
            f"{aligned} steps (steps_per_generation {config.steps_per_generation} x num_iterations "
            f"{config.num_iterations} / gradient_accumulation_steps {config.gradient_accumulation_steps}) and are not "
            f"saved, so a resumed run would differ from one that was not interrupted. Use a multiple of {aligned}, "
            f"such as --save_steps {math.ceil(config.save_steps / aligned) * aligned}."
        )


def last_checkpoint(output_dir: str | Path) -> Path | None:
    """Return the newest whole checkpoint; one that was cut off while it was written is passed over.

    Args:
        output_dir: The training's output folder; it need not exist.

    Returns:
        A folder `checkpoint-<step>`, or None.
    """
    folders = [folder for folder in Path(output_dir).glob("checkpoint-*") if folder.name[11:].isdigit()]
    whole = [folder for folder in folders if _is_whole(folder)]
    return max(whole, key=lambda folder: int(folder.name[11:]), default=None)


def resolve_resume(resume: str | bool | None, output_dir: str | Path) -> str | None:
    """Turn `--resume_from_checkpoint` into the checkpoint to start from.

    Args:
        resume: None or false (start anew), true or `"last"` (the newest whole checkpoint, or anew where there is none),
            or a checkpoint's folder.
        output_dir: The training's output folder.

    Returns:
        A folder, or None to start anew.

    Raises:
        ValueError: A new start would overwrite the checkpoints that are there, or the folder given is not whole.
    """
    choice = str(resume or "false").lower()
    newest = last_checkpoint(output_dir)
    if choice in ("true", "last"):
        return str(newest) if newest else None
    if choice == "false":
        if newest:
            raise ValueError(
                f"{output_dir} holds checkpoints (the newest is {newest.name}) that a new start would overwrite. Give "
                "--resume_from_checkpoint last to go on from there, or another --output_dir."
            )
        return None
    if not _is_whole(Path(str(resume))):
        raise ValueError(f"{resume} is not a whole checkpoint: it has no readable {_STATE_FILE}.")
    return str(resume)


def _is_whole(folder: Path) -> bool:
    try:
        json.loads((folder / _STATE_FILE).read_text())
    except (OSError, ValueError):
        return False
    return True
