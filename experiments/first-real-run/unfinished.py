"""What an interrupted fit left: it is gone on with if its settings are the same, and refused if they are others."""

import json
from pathlib import Path
from typing import Any

from tailgrad.files import write_json
from tailgrad.rollouts.parts import check_same_settings
from tailgrad.training.resume import last_checkpoint

SETTINGS = "settings.json"


def take_up(folder: Path, settings: dict[str, Any]) -> str | None:
    """The newest whole checkpoint in a fit's folder, None where the fit begins; its settings are written beside it.

    Raises:
        ValueError: The fit was begun with other settings, or does not say with which.
    """
    record = folder / SETTINGS
    if record.is_file():
        check_same_settings(folder, json.loads(record.read_text()), settings)
    elif any(folder.glob("checkpoint-*")):
        raise ValueError(f"{str(folder)!r} holds an interrupted fit that does not say how it was begun. Delete it.")
    write_json(record, settings)
    found = last_checkpoint(folder)
    return str(found) if found else None
