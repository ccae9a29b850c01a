"""Rollouts out of a file: a table of `tailgrad sample`, or anybody's prompts and rewards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from tailgrad.curves.rollouts import Rollouts
from tailgrad.files import expanded
from tailgrad.rollouts.groups import Groups, groups_of
from tailgrad.rollouts.layout import COLUMNS, OPTIONAL, leave_out, roles_of, step_column
from tailgrad.rollouts.parquet import ParquetColumns
from tailgrad.rollouts.table import METADATA_KEY, ROLLOUT_TABLE, metadata_of, open_table
from tailgrad.rollouts.text_rollouts import JSON_ENDINGS, SEPARATORS, is_wide, text_columns, wide_rewards

_MAY_LACK: Final = ("reference_logprob", "token_ids", "selection_reward")
_COMPRESSED: Final = (".gz", ".bz2", ".xz")
_PADDING: Final = {"float64": np.nan, "int32": 0, "bool": False}


def read_rollouts(
    path: str | Path,
    *,
    name: str | None = None,
    prompt_column: str | None = None,
    reward_column: str | None = None,
    response_column: str | None = None,
) -> Rollouts:
    r"""Open the rollouts of one policy: prompts are read and checked, other columns when they are first used.

    The file's ending says how it is read: `.parquet`; `.csv`, `.tsv`, `.jsonl` or `.json`, also with `.gz`; or `.npy`.
    A `.npy` file, and a CSV file without a header, has one row per prompt and one column per response. A table needs
    only a prompt and a reward. Columns that are not named here are looked for: `prompt_id`, `prompt` or `input`;
    `reward` or `score`; `response`, `completion` or `output`; the others under their names in a rollout table. A table
    of `tailgrad sample` must be whole; in others prompts may have different numbers of responses, and a column of
    another type than in a rollout table is left out with a warning, unless it is the prompt, the reward or
    `response_index`.

    Args:
        path: The file.
        name: The name in figures and tables; None is the path as it is given.
        prompt_column: What tells the prompts apart: their texts, chats, or ids. This option and the next two are for
            tables from elsewhere: an array of rewards has no columns, and a table of `tailgrad sample` has its own
            names.
        reward_column: The reward.
        response_column: The response.

    Returns:
        The rollouts: prompts in the order of their ids, or in that of the file where the prompts are their ids.
        Responses are in the order of `response_index`, or in that of the file without one.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, has no rows, lacks a column or has one with another type, repeats a response,
            has two prompts with one id, or a column is named where there is no choice.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     mine = Path(folder, "mine.csv")
        ...     _ = mine.write_text("prompt,reward\nname a prime,1\nname a prime,0\nthe sea,1\n")
        ...     read_rollouts(mine).rewards
        array([[ 1.,  0.],
               [ 1., nan]])
    """
    name = str(path) if name is None else name
    path = expanded(path)
    source, ending = f"{ROLLOUT_TABLE} {str(path)!r}", _ending(path)
    if path.is_dir():
        raise ValueError(f"{source} is a folder; give one file of rollouts in it, those of one policy.")
    asked = {"prompt": prompt_column, "reward": reward_column, "response": response_column}
    if not path.is_file() or ending not in (".npy", *SEPARATORS, *JSON_ENDINGS):
        columns = _parquet(path, ending)
        return _of_columns(columns, name, asked, step_column(columns.names))
    if ending == ".npy":
        _refuse_choice(source, asked, "it is an array of rewards alone")
        return Rollouts(_array(path, source), name=name)
    if ending in SEPARATORS and is_wide(path, ending, source):
        _refuse_choice(source, asked, "its first line is numbers, rewards of the first prompt, and no header")
        rewards, counts = wide_rewards(path, ending, source)
        return Rollouts(_finite(source, rewards, "reward"), name=name, counts=counts)
    columns = text_columns(path, ending, source, asked)
    return _of_columns(columns, name, {}, "step" if "step" in columns.names else None)


def _refuse_choice(source: str, asked: Mapping[str, str | None], why: str) -> None:
    if named := [f"{role}_column={column!r}" for role, column in asked.items() if column is not None]:
        raise ValueError(f"{source}: {', '.join(named)} cannot be chosen, since {why}. Leave it out.")


def _ending(path: Path) -> str:
    """The file's ending, before that of its compression."""
    return (Path(path.stem) if path.suffix.lower() in _COMPRESSED else path).suffix.lower()


def _parquet(path: Path, ending: str) -> ParquetColumns:
    try:
        return open_table(path)
    except ValueError as error:
        if ending in ("", ".parquet", ".pq"):
            raise
        known = ", ".join([".parquet", *SEPARATORS, *JSON_ENDINGS, ".npy"])
        raise ValueError(
            f"{ROLLOUT_TABLE} {str(path)!r} ends in {ending!r}; what can be read ends in {known}."
        ) from error


def _array(path: Path, source: str) -> np.ndarray:
    try:
        rewards = np.load(path, allow_pickle=False)
    except Exception as error:  # what a broken header makes numpy raise depends on where it breaks
        reason = " ".join(str(error).split())
        raise ValueError(f"{source} is not an array of numpy's format: {reason}. Write it with numpy.save.") from error
    if rewards.ndim != 2 or rewards.dtype.kind not in "biuf" or rewards.size == 0:
        raise ValueError(
            f"{source} holds {rewards.dtype} {rewards.shape}; rewards must be numbers [P, n]: "
            "one row per prompt, one column per response."
        )
    return _finite(source, rewards.astype(np.float64), "reward")


def _of_columns(columns: ParquetColumns, name: str, asked: dict[str, str | None], step: str | None) -> Rollouts:
    """The rollouts of a file; one that carries our metadata must be all that we write."""
    metadata, ours = metadata_of(columns), METADATA_KEY in columns.metadata
    if ours:
        _refuse_choice(columns.name, asked, "it is a table of `tailgrad sample`, whose columns have their own names")
        needed = [column for column in COLUMNS if column not in _MAY_LACK or column in metadata]
        if missing := [column for column in needed if column not in columns.names]:
            raise ValueError(f"{columns.name} lacks the columns {', '.join(missing)}.")
    if columns.rows == 0:
        raise ValueError(f"{columns.name} is empty: it has no rows.")
    roles = roles_of(columns.names, asked, columns.name)
    roles = roles if ours else _fitting(columns, roles)
    columns.check({column: _kind(columns, role, ours=ours) for role, column in roles.items()})
    _check_one_policy(columns, step)
    groups = groups_of(columns, roles)
    if ours and groups.n * len(groups.counts) != columns.rows:
        few, many = int(groups.counts.argmin()), int(groups.counts.argmax())
        raise ValueError(
            f"{columns.name} has different numbers of responses per prompt: {groups.counts[few]} for "
            f"prompt {groups.prompt_ids[few]}, {groups.n} for prompt {groups.prompt_ids[many]}. Sample all with one n."
        )
    return _rollouts(columns, roles, groups, name, metadata, ours=ours)


def _fitting(columns: ParquetColumns, roles: dict[str, str]) -> dict[str, str]:
    """Leave out the optional columns that hold something else than a rollout table's."""
    fitting = dict(roles)
    for role in OPTIONAL:
        if role in roles:
            try:
                columns.check({roles[role]: COLUMNS[role]})
            except ValueError as error:
                leave_out(error)
                fitting.pop(role)
    return fitting


def _kind(columns: ParquetColumns, role: str, *, ours: bool) -> str:
    """What a column must hold. A prompt id is a whole number or a text; others' prompts and responses may be chats."""
    if role == "prompt_id" and columns.kind_of("prompt_id") == "string":
        return "string"
    return COLUMNS[role] if ours or COLUMNS[role] != "string" else "any"


def _check_one_policy(columns: ParquetColumns, step: str | None) -> None:
    """Refuse what TRL and verl log of a training where it is of more than one step."""
    steps = [] if step is None else columns.encoded(step)[1]
    if len(steps) > 1:
        raise ValueError(
            f"{columns.name} has the rollouts of {len(steps)} steps of a training ({steps[0]} to {steps[-1]}), each of "
            "another policy. Give a file of one step."
        )


def _rollouts(
    columns: ParquetColumns, roles: dict[str, str], groups: Groups, name: str, metadata: dict[str, Any], *, ours: bool
) -> Rollouts:
    numbers = partial(_numbers, columns, groups, roles)
    counted = numbers if ours else partial(_numbers_that_fit, columns, groups, roles)

    def later(role: str, read: Callable[..., Any], *args: Any, **options: Any) -> Callable[[], Any] | None:
        return partial(read, *args, **options) if role in roles else None

    counts = later("num_tokens", counted, "num_tokens")
    return Rollouts(
        partial(numbers, "reward", may_be_unknown=False),
        name=name,
        prompt_ids=groups.prompt_ids,
        prompts=groups.prompts,
        counts=None if groups.n * len(groups.counts) == columns.rows else groups.counts,
        metadata=metadata,
        selection_rewards=later(
            "selection_reward", numbers, "selection_reward", may_be_unknown="selection_reward" not in metadata
        ),
        num_tokens=later("num_tokens", _lengths, columns, groups) if "engine" in metadata else counts,
        finished=later("finished", counted, "finished"),
        logprobs=later("logprob", numbers, "logprob"),
        reference_logprobs=later("reference_logprob", numbers, "reference_logprob"),
        responses=later("response", _responses, columns, groups, roles.get("response")),
        distinct=later("response", _distinct, columns, groups, roles.get("response")),
        token_ids=later("token_ids", _token_ids, columns, groups, all_or_none="engine" not in metadata),
    )


def _numbers(
    columns: ParquetColumns, groups: Groups, roles: dict[str, str], role: str, *, may_be_unknown: bool = True
) -> np.ndarray | None:
    """A column of numbers; None where it holds none."""
    kind = COLUMNS[role]
    values = columns.numbers(roles[role], kind)
    if may_be_unknown and kind == "float64" and np.isnan(values).all():
        return None
    if role in ("reward", "selection_reward"):
        _finite(columns.name, values, roles[role])
    return groups.matrix(values, _PADDING[kind])


def _lengths(columns: ParquetColumns, groups: Groups) -> np.ndarray | None:
    """Tokens of each response; None where a server did not tell all of them."""
    lengths = columns.numbers("num_tokens", "float64")
    return None if np.isnan(lengths).any() else groups.matrix(lengths.astype(np.int32), 0)


def _numbers_that_fit(columns: ParquetColumns, groups: Groups, roles: dict[str, str], role: str) -> np.ndarray | None:
    """Somebody's column of numbers; None where a value is missing or of another type, unless the file is damaged."""
    try:
        return _numbers(columns, groups, roles, role)
    except ValueError as error:
        if isinstance(error.__cause__, OSError):
            raise
        leave_out(error)
        return None


def _finite(source: str, values: np.ndarray, column: str) -> np.ndarray:
    if np.isinf(values).any():
        raise ValueError(f"{source}: column {column!r} has an infinity; it must hold numbers, null where unscored.")
    return values


def _responses(columns: ParquetColumns, groups: Groups, column: str) -> list[list[str]]:
    texts = columns.texts(column)
    if groups.order is not None:
        texts = [texts[row] for row in groups.order]
    ends = np.cumsum(groups.counts).tolist()
    return [texts[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _distinct(columns: ParquetColumns, groups: Groups, column: str) -> np.ndarray:
    """They are told apart by a hash of 64 bits: among 4096 responses two are taken for one with probability 5e-13."""
    hashes = groups.matrix(columns.hashes(column), 0)
    padding = np.arange(groups.n) >= groups.counts[:, None]
    hashes = np.sort(np.where(padding, hashes[:, :1], hashes), axis=1)
    return 1 + np.asarray((hashes[:, 1:] != hashes[:, :-1]).sum(axis=1))


def _token_ids(columns: ParquetColumns, groups: Groups, *, all_or_none: bool) -> np.ndarray | None:
    """None if they were not kept; kept for a part of the responses is an error, unless a server need not tell them."""
    tokens = np.empty(columns.rows, dtype=object)
    tokens[:] = columns.lists("token_ids")
    missing = sum(ids is None for ids in tokens)
    if missing == len(tokens) or (missing and not all_or_none):
        return None
    if missing:
        raise ValueError(f"{columns.name}: column 'token_ids' is null in {missing} of {len(tokens)} rows.")
    return groups.matrix(tokens, None)
