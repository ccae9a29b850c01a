"""Prompts: from a data set on disk or on the hub to token ids."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE_FORMATS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}
"""Endings of data set files (each also with .gz) and how they are read."""

RESERVED_COLUMNS = ("prompt", "completion", "completion_ids")
"""Columns that are not passed to rewards, as in TRL."""

Prompt = str | list[dict[str, Any]]
"""A prompt is a string, or a chat: a list of messages with "role" and "content"."""


@dataclass(frozen=True)
class Prompts:
    """The prompts of a data set and its other columns.

    Attributes:
        prompts: All strings or all chats.
        columns: The other columns, one value a prompt: what rewards are passed.
        split: The split they are from, None where the data set has none.
        sha256: Hash of prompts and columns.
    """

    prompts: list[Any]
    columns: dict[str, list[Any]]
    split: str | None
    sha256: str


def load_prompts(
    dataset: str,
    *,
    split: str = "test",
    config: str | None = None,
    prompt_column: str = "prompt",
    limit: int | None = None,
) -> Prompts:
    """Read the prompts of a data set.

    Args:
        dataset: A hub name, a folder (of `save_to_disk`, or of data files), or one .jsonl, .json, .parquet or
            .csv file, also with .gz.
        split: The split to read; a single file and a data set saved without splits are read whole.
        config: The hub data set's configuration.
        prompt_column: The column with the prompts.
        limit: Only the first `limit` prompts; None is all.

    Returns:
        Prompts and other columns in the order of the data set.

    Raises:
        FileNotFoundError: There is no such file or folder, or the hub does not give the data set.
        ValueError: No such split or column, no rows, or a row whose prompt is not a string or a chat.
    """
    rows = _load_dataset(dataset, config)
    if isinstance(rows, dict):
        if split not in rows:
            raise ValueError(
                f"data set {dataset!r} has no split {split!r}; it has {', '.join(rows)}. Choose one: --dataset_split."
            )
        return _prompts(rows[split], dataset, split, prompt_column, limit)
    return _prompts(rows, dataset, None, prompt_column, limit)


def _prompts(rows: Any, dataset: str, split: str | None, prompt_column: str, limit: int | None) -> Prompts:
    if prompt_column not in rows.column_names:
        raise ValueError(
            f"data set {dataset!r} has no column {prompt_column!r}; "
            f"it has {', '.join(rows.column_names) or 'none'}. "
            "Name the column with the prompts: --prompt_column."
        )
    if len(rows) == 0:
        raise ValueError(f"data set {dataset!r} is empty: there are no prompts in it.")
    values = rows[: len(rows) if limit is None else limit]
    prompts = values.pop(prompt_column)
    _check_prompts(prompts, dataset)
    columns = {name: column for name, column in values.items() if name not in RESERVED_COLUMNS}
    clash = [name for name in ("prompts", "completions") if name in columns]
    if clash:
        raise ValueError(f"data set {dataset!r} has a column {clash[0]!r}: rewards get the rollouts so. Rename it.")
    digest = hashlib.sha256(json.dumps([prompts, columns], sort_keys=True, default=str).encode()).hexdigest()
    return Prompts(prompts, columns, split, digest)


def is_chat(prompt: Prompt) -> bool:
    """Return whether a prompt is a list of messages.

    Args:
        prompt: A prompt.

    Returns:
        True for a chat, False for a string.

    Example:
        >>> is_chat([{"role": "user", "content": "Hello"}])
        True
    """
    return not isinstance(prompt, str)


def prompt_text(prompt: Prompt) -> str:
    """Return a prompt as the rollout table holds it: a string as it is, a chat as JSON.

    Args:
        prompt: A prompt.

    Returns:
        The text.

    Example:
        >>> prompt_text([{"role": "user", "content": "Hello"}])
        '[{"role": "user", "content": "Hello"}]'
    """
    return prompt if isinstance(prompt, str) else json.dumps(prompt, ensure_ascii=False)


def prompts_of_texts(texts: list[str]) -> list[Any]:
    """Return prompts from their texts in a rollout table, the inverse of `prompt_text`.

    Args:
        texts: The prompts of one table.

    Returns:
        Chats where every text is the JSON of a list of messages, else the texts.

    Example:
        >>> prompts_of_texts(['[{"role": "user", "content": "Hello"}]'])[0][0]["content"]
        'Hello'
    """
    chats = []
    for text in texts:
        try:
            chat = json.loads(text)
        except ValueError:
            return texts
        if not _is_messages(chat):
            return texts
        chats.append(chat)
    return chats


def _is_messages(prompt: Any) -> bool:
    is_list = isinstance(prompt, list) and bool(prompt)
    return is_list and all(isinstance(message, dict) and "role" in message for message in prompt)


def tokenize_prompts(
    tokenizer: Any, prompts: list[Any], chat_template_kwargs: dict[str, Any] | None = None
) -> list[list[int]]:
    """Return the token ids of prompts, the same as TRL's trainers see.

    Args:
        tokenizer: The policy's tokenizer.
        prompts: All strings or all chats; chats go through the tokenizer's chat template.
        chat_template_kwargs: Further arguments of the chat template.

    Returns:
        Token ids, one list a prompt.

    Raises:
        ValueError: Chats and no chat template, or a prompt without tokens.
    """
    if is_chat(prompts[0]):
        if tokenizer.chat_template is None:
            raise ValueError(
                "the prompts are chats (lists of messages), and the model's tokenizer has no chat template. "
                "Use a model with one, save one with its tokenizer, or give prompts that are plain strings."
            )
        encoded = tokenizer.apply_chat_template(
            prompts, add_generation_prompt=True, tokenize=True, return_dict=True, **chat_template_kwargs or {}
        )
    else:
        encoded = tokenizer(text=prompts)
    token_ids: list[list[int]] = encoded["input_ids"]
    empty = [i for i, ids in enumerate(token_ids) if not ids]
    if empty:
        raise ValueError(f"prompt {empty[0]} of the data set has no tokens; remove the row.")
    return token_ids


def completions_of(
    tokenizer: Any,
    prompts: list[Any],
    prompt_token_ids: list[list[int]],
    response_token_ids: list[list[int]],
    texts: list[str],
) -> list[Any]:
    """Return responses as rewards see them, the same as in TRL's trainers.

    Args:
        tokenizer: The policy's tokenizer.
        prompts: One prompt a response, all strings or all chats.
        prompt_token_ids: Their tokens.
        response_token_ids: The responses' tokens.
        texts: The responses' texts without special tokens.

    Returns:
        For strings the texts; for chats a list with one assistant message a response, parsed (thinking, tool
        calls) where the tokenizer says how.
    """
    if not is_chat(prompts[0]):
        return texts
    has_parser = any(getattr(tokenizer, name, None) for name in ("response_template", "response_schema"))
    if not has_parser:
        return [[{"role": "assistant", "content": text}] for text in texts]
    from trl.chat_template_utils import parse_response

    pairs = zip(prompt_token_ids, response_token_ids, strict=True)
    return [[parse_response(tokenizer, ids, prefix=prefix)] for prefix, ids in pairs]


def _check_prompts(prompts: list[Any], dataset: str) -> None:
    for i, prompt in enumerate(prompts):
        is_messages = _is_messages(prompt)
        if not isinstance(prompt, str) and not is_messages:
            raise ValueError(
                f"data set {dataset!r}: the prompt in row {i} is {repr(prompt)[:60]} "
                f"({type(prompt).__name__}); a prompt is a string, or a list of messages (role, content)."
            )
        if isinstance(prompt, str) != isinstance(prompts[0], str):
            raise ValueError(
                f"data set {dataset!r}: row {i} is {'a chat' if is_messages else 'a string'} and row 0 "
                "is not; the prompts must be all strings or all chats."
            )


@contextmanager
def _reading(dataset: str) -> Iterator[None]:
    try:
        yield
    except (ConnectionError, FileNotFoundError) as error:
        raise FileNotFoundError(
            f"data set {dataset!r} is not a local file or folder and the hub did not give it: {error}"
        ) from error
    except Exception as error:
        if "corresponds to no data" in str(error):  # how datasets says that it found no rows
            raise ValueError(f"data set {dataset!r} is empty: there are no prompts in it.") from error
        raise ValueError(f"data set {dataset!r} could not be read: {error.__cause__ or error}") from error


def _load_dataset(dataset: str, config: str | None) -> Any:
    """Return a data set, or a dict of its splits where it has splits."""
    import datasets

    path = Path(dataset).expanduser()
    if path.is_file():
        suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
        if suffix not in FILE_FORMATS:
            raise ValueError(
                f"data set file {dataset!r}: allowed endings are {', '.join(FILE_FORMATS)}, also with .gz."
            )
        if path.stat().st_size == 0:
            raise ValueError(f"data set {dataset!r} is empty: the file has no bytes.")
        with _reading(dataset):
            return _load_file(path, FILE_FORMATS[suffix])
    is_saved = any((path / name).exists() for name in ("dataset_dict.json", "state.json"))
    local = (*FILE_FORMATS, ".gz")
    if not path.exists() and (dataset.startswith((".", "/", "~")) or dataset.count("/") > 1 or path.suffix in local):
        raise FileNotFoundError(f"data set {dataset!r}: there is no such file or folder.")
    if is_saved:
        _check_saved(path, dataset)
    with _reading(dataset):
        if is_saved:
            return datasets.load_from_disk(str(path))
        return datasets.load_dataset(str(path) if path.is_dir() else dataset, config)


def _check_saved(path: Path, dataset: str) -> None:
    """Refuse what `save_to_disk` writes for no rows, which `load_from_disk` cannot read."""
    for state in path.glob("**/state.json"):
        if not json.loads(state.read_text()).get("_data_files"):
            raise ValueError(f"data set {dataset!r} is empty: there are no prompts in {str(state.parent)!r}.")


def _load_file(path: Path, file_format: str) -> Any:
    """Read one file into memory, so that no copy of it stays in the cache."""
    import datasets

    with tempfile.TemporaryDirectory() as cache:
        return datasets.load_dataset(
            file_format, data_files=str(path), split="train", cache_dir=cache, keep_in_memory=True
        )
