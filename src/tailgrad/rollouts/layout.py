"""Which column of somebody's file is the prompt, the reward, the response."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Final

COLUMNS: Final = {
    "prompt_id": "int64",
    "prompt": "string",
    "response": "string",
    "response_index": "int32",
    "reward": "float64",
    "num_tokens": "int32",
    "finished": "bool",
    "logprob": "float64",
    "reference_logprob": "float64",
    "token_ids": "list<int32>",
    "selection_reward": "float64",
}
"""Columns of a rollout table and their Arrow types; `reward` and those from `logprob` on may be null, and `num_tokens`
where a server does not tell it."""

OPTIONAL: Final = ("num_tokens", "finished", "logprob", "reference_logprob", "token_ids", "selection_reward")
"""Columns that may hold something else in somebody's file, which happens to call it so: they are left out then."""

OTHER_NAMES: Final = {
    "prompt": ("prompt", "input"),
    "reward": ("reward", "score"),
    "response": ("response", "completion", "output"),
}
"""Names under which a column is looked for, in this order: ours, and those of TRL and verl."""

_TRL: Final = {"step", "prompt", "completion", "advantage"}
_VERL: Final = {"step", "input", "output", "score"}
_INDEX: Final = re.compile(r"|Unnamed: \d+|__index_level_\d+__")  # how pandas names an index that has no name


def roles_of(names: Sequence[str], asked: Mapping[str, str | None], source: str) -> dict[str, str]:
    """Say which column of a file is which of a rollout table.

    Args:
        names: The columns of the file.
        asked: Columns that the reader named for `prompt`, `reward` and `response`; None: look for it.
        source: Names the file, the first words of errors.

    Returns:
        Names in the file by those in `COLUMNS`; what is not there is left out. A prompt column that was asked for tells
        the prompts apart, in the place of a `prompt_id`.

    Raises:
        ValueError: A column that was asked for is not there, or none is found for the reward or for the prompt.

    Examples:
        >>> roles_of(["step", "input", "output", "score"], {}, "file")
        {'prompt': 'input', 'reward': 'score', 'response': 'output'}
    """
    there = f"it has the columns {', '.join(names)}"
    roles = {name: name for name in COLUMNS if name in names}
    for role, known in OTHER_NAMES.items():
        given = asked.get(role)
        if given is not None and given not in names:
            raise ValueError(f"{source} has no column {given!r}; {there}.")
        found = given or next((name for name in known if name in names), None)
        roles |= {} if found is None else {role: found}
    if asked.get("prompt") is not None:
        roles.pop("prompt_id", None)
    if "reward" not in roles:
        roles["reward"] = _reward_of_trl(names, source, there)
    if "prompt_id" not in roles and "prompt" not in roles:
        raise ValueError(
            f"{source} has no column that says which prompt a row belongs to (prompt_id, or "
            f"{' or '.join(OTHER_NAMES['prompt'])}); {there}. Say which it is with --prompt_column."
        )
    return roles


def leave_out(error: ValueError) -> None:
    """Warn that a column of `OPTIONAL` is left out.

    Args:
        error: What it holds instead, with the names of file and column.
    """
    warnings.warn(f"{error} It is left out.", stacklevel=2)


def step_column(names: Sequence[str]) -> str | None:
    """Name the column that tells policies of one training apart, in what TRL and verl log of their rollouts."""
    return "step" if set(names) >= _TRL or set(names) >= _VERL else None


def _reward_of_trl(names: Sequence[str], source: str, there: str) -> str:
    """The reward function whose column is the only one that TRL does not always write."""
    others = [name for name in names if name not in _TRL and not _INDEX.fullmatch(name)]
    if set(names) >= _TRL and len(others) == 1:
        return others[0]
    raise ValueError(
        f"{source} has no column {' or '.join(map(repr, OTHER_NAMES['reward']))}; {there}. "
        "Say which is the reward with --reward_column."
    )
