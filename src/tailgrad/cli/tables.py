"""The rollout tables that a command is given: their names, and how they are opened."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tailgrad.curves import Rollouts

_COLUMNS = ("prompt_column", "reward_column", "response_column")


def open_tables(command: str, options: Any) -> list[Rollouts]:
    """Open the tables that a command line names; of a rollout table that lost its metadata say so.

    Args:
        command: The command, for its warnings.
        options: Its options: `tables`, `names` and the three columns.

    Returns:
        The rollouts, each under its name.

    Raises:
        ValueError: If there are not as many names as tables, a table is given twice or one cannot be read.
        FileNotFoundError: If one is missing.
    """
    names = names_of(options.tables) if options.names is None else options.names
    if len(names) != len(options.tables):
        raise ValueError(f"--names has {len(names)} names for {len(options.tables)} tables: give one per table.")
    columns = {column: getattr(options, column) for column in _COLUMNS}
    return [open_table(command, path, name=name, **columns) for name, path in zip(names, options.tables, strict=True)]


def open_table(command: str, path: str, **how: str | None) -> Rollouts:
    """Open one table; of a rollout table that lost its metadata say so.

    Args:
        command: The command, for its warnings.
        path: The table.
        how: As `read_rollouts` takes it.

    Returns:
        The rollouts.

    Raises:
        ValueError: If the table cannot be read.
        FileNotFoundError: If it is missing.
    """
    from tailgrad.rollouts import read_rollouts

    rollouts = read_rollouts(path, **how)
    if not rollouts.metadata and "logprobs" in rollouts.columns:
        print(
            f"tailgrad {command}: warning: rollout table {path!r} carries no metadata (pandas drops it when it writes "
            "a table): how it was sampled and scored is unknown, so its KL is unknown and nothing but its prompts and "
            "n is checked against other tables.",
            file=sys.stderr,
        )
    return rollouts


def open_of_one_reward(command: str, path: str, **how: str | None) -> Rollouts:
    """Open one table as `open_table`, but none whose best response another reward picks.

    Args:
        command: The command, for its messages.
        path: The table.
        how: As `read_rollouts` takes it.

    Returns:
        The rollouts.

    Raises:
        ValueError: If the table cannot be read, or another reward picks the best.
        FileNotFoundError: If it is missing.
    """
    table = open_table(command, path, **how)
    check_one_reward(command, path, table)
    return table


def check_one_reward(command: str, path: str, table: Rollouts) -> None:
    """Refuse a table whose best response another reward picks.

    Args:
        command: The command, for its messages.
        path: The table's file.
        table: What is in it.

    Raises:
        ValueError: As said.
    """
    if table.selection_rewards is not None:
        raise ValueError(
            f"rollout table {path!r} is scored by {table.metadata.get('reward')!r}, and the best of N is picked by "
            f"{table.metadata.get('selection_reward')!r}; `tailgrad {command}` takes one reward. Give a table of "
            "`tailgrad sample`, or of `tailgrad score --selection reward`."
        )


def names_of(tables: Sequence[str]) -> list[str]:
    """Name each table after its file, with as many folders before it, or the ending, as tell the tables apart."""
    paths = [Path(table).with_suffix("").parts for table in tables]
    for depth in range(1, max(map(len, paths)) + 1):
        names = ["/".join(parts[-depth:]) for parts in paths]
        if len(set(names)) == len(names):
            return names
    if len(set(tables)) == len(tables):
        return list(tables)
    raise ValueError("a table is given twice: give each once, or name them with --names.")
