"""Interruption and resume: which checkpoints are whole, and which of them can be resumed exactly."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from tailgrad.training.log import STATE
from tailgrad.training.schedule import Schedule
from tailgrad.training.sharding import uses_deepspeed

logger = logging.getLogger(__name__)


def last_checkpoint(output_dir: str | Path) -> Path | None:
    """Return the newest whole checkpoint; one that was cut off while it was written is passed over.

    Args:
        output_dir: The training's output folder; it need not exist.

    Returns:
        A folder `checkpoint-<step>`, or None.
    """
    return next(iter(_whole_checkpoints(output_dir)), None)


def resolve_resume(resume: str | bool | None, args: Any, schedule: Schedule) -> str | None:
    """Turn `--resume_from_checkpoint` into the checkpoint to start from.

    Args:
        resume: None or false (start anew), true or `"last"` (the newest checkpoint that can be resumed exactly, or anew
            where there is no checkpoint), or a checkpoint's folder.
        args: TRL's configuration.
        schedule: The training's schedule.

    Returns:
        A folder, or None to start anew.

    Raises:
        ValueError: A new start would overwrite the checkpoints or the model that are there, or the checkpoint is not
            whole or cannot be resumed exactly.
    """
    choice = str(resume or "false").lower()
    if choice != "false" and (checkpoint := exact_checkpoint(resume, args, schedule)):
        return checkpoint
    newest = last_checkpoint(args.output_dir)
    if newest:
        raise ValueError(
            f"{args.output_dir} holds checkpoints (the newest is {newest.name}) that a new start would overwrite. Give "
            "--resume_from_checkpoint last to go on from there, or another --output_dir."
        )
    model = _model_in(Path(args.output_dir))
    if model:
        raise ValueError(
            f"{args.output_dir} holds a model ({model}) that a new start would overwrite, or that would be mixed with "
            "what is trained. Give another --output_dir, or delete it."
        )
    return None


def say_what_is_overwritten(output_dir: str | Path) -> None:
    """Warn of a new start over the checkpoints of a training before, which the command refuses.

    Args:
        output_dir: The training's output folder.
    """
    newest = last_checkpoint(output_dir)
    if newest:
        logger.warning(
            "%s holds checkpoints of a training before this one (the newest is %s), which starts anew and may "
            "overwrite them. Give resume_from_checkpoint='last' to go on from there, or another output_dir.",
            output_dir,
            newest.name,
        )


def exact_checkpoint(resume: str | bool | None, args: Any, schedule: Schedule) -> str | None:
    """Return the checkpoint to resume, one from which the training ends as if it had not been interrupted.

    Args:
        resume: True or `"last"`: the newest such checkpoint; what is passed over is said. Or a checkpoint's folder.
        args: TRL's configuration.
        schedule: The training's schedule.

    Returns:
        A folder, or None where there is no checkpoint.

    Raises:
        ValueError: The folder, or every checkpoint, is not such a one; the message says why.
    """
    if str(resume).lower() not in ("true", "last"):
        if not _state_of(Path(str(resume))):
            raise ValueError(f"{resume} is not a whole checkpoint: it has no readable {STATE}.")
        if reason := why_not_exact(Path(str(resume)), args, schedule):
            raise ValueError(f"{resume} cannot be resumed exactly: {reason} {_instead(resume)}")
        return str(resume)
    checkpoints = _whole_checkpoints(args.output_dir)
    if not checkpoints:
        return None
    reasons: dict[str, str] = {}
    for folder in checkpoints:
        reason = why_not_exact(folder, args, schedule)
        if reason is None:
            for passed, why in reasons.items():
                logger.warning("%s is passed over, it cannot be resumed exactly: %s", passed, why)
            return str(folder)
        reasons[folder.name] = reason
    newest = checkpoints[0]
    raise ValueError(
        f"No checkpoint in {args.output_dir} can be resumed exactly. {newest.name}: {reasons[newest.name]} "
        f"{_instead(newest)}"
    )


def step_of(checkpoint: str | Path | None) -> int:
    """Return how many steps a checkpoint has behind it; 0 for None."""
    return int(_state_of(Path(checkpoint))["global_step"]) if checkpoint else 0


def why_not_exact(folder: Path, args: Any, schedule: Schedule) -> str | None:
    """Return why a training resumed from a whole checkpoint would end in other weights, None where it would not.

    Args:
        folder: The checkpoint.
        args: TRL's configuration.
        schedule: The training's schedule.

    Returns:
        A sentence, or None. A checkpoint at the training's last step is never resumed, so any will do.
    """
    state = _state_of(folder)
    step = int(state["global_step"])
    if step >= schedule.total:
        return None
    by_deepspeed = any(folder.glob("global_step*"))
    if by_deepspeed != uses_deepspeed(args):  # transformers would begin the optimizer anew, without a word
        return (
            f"it was saved {'with' if by_deepspeed else 'without'} DeepSpeed, and this training is launched otherwise."
        )
    if missing := _missing_state(folder, args.world_size):
        return f"it has no {missing} (--save_only_model leaves that out)."
    if args.ignore_data_skip:
        return "ignore_data_skip starts the prompts again from the first."
    if args.sync_ref_model:
        return "the reference policy that sync_ref_model has moved is not saved."
    if args.dataloader_persistent_workers and args.eval_strategy != "no":
        return "with dataloader_persistent_workers the order of the evaluation's prompts is not saved."
    if schedule.prompts is None and state["epoch"] >= 1:
        return "where a stream starts again is not saved. Read the data set without --dataset_streaming."
    if not schedule.starts_a_batch(step):
        return (
            f"step {step} is in the middle of a batch of rollouts, which serves {schedule.reuse} backward passes, "
            f"{schedule.accumulation} per step, and is not saved."
        )
    return None


def _model_in(folder: Path) -> str | None:
    """The name of a file of a saved model in a folder, None where there is none."""
    patterns = ("adapter_config.json", "*.safetensors", "pytorch_model*.bin", "adapter_model.bin")
    return next((path.name for pattern in patterns for path in sorted(folder.glob(pattern))), None)


def _instead(checkpoint: Any) -> str:
    return f"Start anew in another --output_dir; to keep its weights, give --model_name_or_path {checkpoint}."


def _whole_checkpoints(output_dir: str | Path) -> list[Path]:
    folders = [folder for folder in Path(output_dir).glob("checkpoint-*") if folder.name[11:].isdigit()]
    return sorted(filter(_state_of, folders), key=lambda folder: -int(folder.name[11:]))


def _state_of(folder: Path) -> dict[str, Any]:
    """The trainer's state in a checkpoint; empty where there is none or it was cut off."""
    try:
        state = json.loads((folder / STATE).read_text())
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) and "global_step" in state else {}


def _missing_state(folder: Path, processes: int) -> str | None:
    """What is missing of all that `transformers.Trainer` saves beside the weights, in any of its layouts."""
    ranks = [f"rng_state_{rank}.pth" for rank in range(processes)] if processes > 1 else ["rng_state.pth"]
    sought = {
        "optimizer state": ["optimizer*", "global_step*"],
        "learning-rate schedule": ["scheduler.pt", "global_step*"],
    }
    sought |= {f"state of the random numbers ({name})": [name] for name in ranks}
    return next((what for what, names in sought.items() if not any(any(folder.glob(name)) for name in names)), None)
