"""Rollouts of a text that is written to a file."""

import json
from pathlib import Path
from typing import Any

from tailgrad.curves import Rollouts
from tailgrad.rollouts import read_rollouts


def rollouts_of(path: Path, text: str | bytes, **columns: str) -> Rollouts:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_rollouts(path, **columns)


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)
