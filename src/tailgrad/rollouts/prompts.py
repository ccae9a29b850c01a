"""Prompts: from a data set on disk or on the hub to token ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from tailgrad.models.token_ids import TokenIds
from tailgrad.rollouts.chats import check_prompts, is_chat
from tailgrad.rollouts.data_sets import content_sha256, load_rows
from tailgrad.rollouts.text_files import BATCH

RESERVED_COLUMNS: Final = ("prompt", "completion", "completion_ids")
"""Columns that are not passed to rewards, as in TRL."""

REWARD_ARGUMENTS: Final = ("prompts", "completions", "trainer_state", "log_extra", "log_metric", "environments")
"""What rewards are passed beside the columns, here or by TRL; no column may be called so."""

PICTURE_COLUMNS: Final = ("image", "images")
"""Columns that TRL gives to the policy."""


@dataclass(frozen=True)
class Prompts:
    """The prompts of a data set and its other columns.

    Attributes:
        rows: A memory-mapped `datasets.Dataset`: the column `prompt` (all strings or all chats) and the other columns,
            which rewards are passed. Training and sampling read the same one.
        split: The split they are from, None where the data set has none.
    """

    rows: Any
    split: str | None

    def __len__(self) -> int:
        """The number of prompts."""
        return len(self.rows)

    @property
    def prompts(self) -> Sequence[Any]:
        """The prompts, read from disk when they are looked at."""
        column: Sequence[Any] = self.rows["prompt"]
        return column

    @cached_property
    def sha256(self) -> str:
        """Hash of prompts and columns; see `content_sha256`."""
        return content_sha256(self.rows)


def load_prompts(
    dataset: str,
    *,
    split: str = "test",
    config: str | None = None,
    prompt_column: str = "prompt",
    limit: int | None = None,
    pictures: bool = False,
    split_option: str = "dataset_split",
) -> Prompts:
    """Read the prompts of a data set.

    Args:
        dataset: A hub name, a folder (of `save_to_disk`, or of data files), or one .jsonl, .json, .parquet or
            .csv file, also with .gz.
        split: The split to read; a single file and a data set saved without splits are read whole.
        config: The hub data set's configuration.
        prompt_column: The column with the prompts.
        limit: Only the first `limit` prompts; None is all.
        pictures: The policy reads pictures, so the data set may have columns with them.
        split_option: The option that names the split, for the error message.

    Returns:
        Prompts and other columns in the order of the data set.

    Raises:
        FileNotFoundError: There is no such file or folder, or the hub does not give the data set.
        ValueError: No such split or column, no rows, or a row whose prompt is not a string or a chat.
    """
    rows, source = load_rows(dataset, config), f"data set {dataset!r}"
    has_splits = isinstance(rows, dict)
    if has_splits:
        rows = split_of(rows, split, source, split_option)
    rows = with_prompt_column(rows, source, prompt_column=prompt_column, pictures=pictures)
    if limit is not None:
        rows = rows.select(range(min(limit, len(rows))))
    check_prompts(rows["prompt"], source, pictures=pictures)
    return Prompts(rows, split if has_splits else None)


def split_of(splits: Mapping[str, Any], split: str, source: str, option: str) -> Any:
    """Return one of several splits.

    Args:
        splits: Rows by the names of their splits.
        split: The name asked for.
        source: What has the splits, the first words of the error message.
        option: The option that names the split.

    Returns:
        Its rows.

    Raises:
        ValueError: There is no such split.
    """
    if split not in splits:
        raise ValueError(f"{source} has no split {split!r}; it has {', '.join(splits)}. Choose one: --{option}.")
    return splits[split]


def with_prompt_column(rows: Any, source: str, *, prompt_column: str = "prompt", pictures: bool = False) -> Any:
    """Return a data set, or a stream, whose prompts are in the column `prompt` and whose other columns are for rewards.

    Args:
        rows: A `datasets.Dataset` or `datasets.IterableDataset`.
        source: What it is, the first words of error messages.
        prompt_column: The column with the prompts.
        pictures: The policy reads pictures.

    Returns:
        The same rows; nothing is copied.

    Raises:
        ValueError: There are no rows, there is no such column, or another has a name that means something else.
    """
    names = rows.column_names or list(next(iter(rows), {}))  # a stream may not know its columns
    if hasattr(rows, "__len__") and len(rows) == 0:
        raise ValueError(f"{source} is empty: there are no prompts in it.")
    if prompt_column not in names:
        raise ValueError(
            f"{source} has no column {prompt_column!r}; it has {', '.join(names) or 'none'}. "
            "Name the column with the prompts: --prompt_column."
        )
    columns = [name for name in names if name not in (prompt_column, *RESERVED_COLUMNS)]
    for name in columns:
        if name in REWARD_ARGUMENTS:
            raise ValueError(f"{source} has a column {name!r}: rewards get something else by that name. Rename it.")
        if name in PICTURE_COLUMNS and not pictures:
            raise ValueError(
                f"{source} has a column {name!r}: pictures of that name go to the policy, and this one reads text "
                "alone. Rename the column if it is for the reward, or remove it."
            )
    rows = rows.select_columns([prompt_column, *columns])
    return rows if prompt_column == "prompt" else rows.rename_column(prompt_column, "prompt")


def tokenize_prompts(
    tokenizer: Any,
    prompts: Sequence[Any],
    chat_template_kwargs: dict[str, Any] | None = None,
    *,
    source: str = "the data set",
) -> TokenIds:
    """Return the token ids of prompts, the same as TRL's trainers see.

    Args:
        tokenizer: The policy's tokenizer.
        prompts: All strings or all chats; chats go through the tokenizer's chat template.
        chat_template_kwargs: Further arguments of the chat template.
        source: Where the prompts are from, the first words of error messages.

    Returns:
        Token ids, one list per prompt.

    Raises:
        ValueError: Chats and no chat template, a prompt that the chat template refuses, or one without tokens.
    """
    if is_chat(prompts[0]) and tokenizer.chat_template is None:
        raise ValueError(
            "the prompts are chats (lists of messages), and the model's tokenizer has no chat template. "
            "Use a model with one, save one with its tokenizer, or give prompts that are plain strings."
        )

    def rows() -> Iterator[list[int]]:
        for start in range(0, len(prompts), BATCH):
            yield from _tokenized(tokenizer, prompts[start : start + BATCH], chat_template_kwargs or {}, source, start)

    token_ids = TokenIds(rows())
    if not token_ids.lengths.all():
        row = int(token_ids.lengths.argmin())
        where = f"{source}: the prompt in row {row} (counted from 0)"
        raise ValueError(f"{where} has no tokens ({prompts[row]!r}); remove the row.")
    return token_ids


def _tokenized(
    tokenizer: Any, prompts: Sequence[Any], chat_template_kwargs: dict[str, Any], source: str, first: int
) -> list[list[int]]:
    """Tokenize prompts together; where that fails, one at a time, so that the error names the row."""
    options: dict[str, Any] = {"add_generation_prompt": True, "tokenize": True, "return_dict": True}
    try:
        if is_chat(prompts[0]):
            encoded = tokenizer.apply_chat_template(list(prompts), **options, **chat_template_kwargs)
        else:
            encoded = tokenizer(text=list(prompts))
    except Exception as error:  # whatever a template raises
        if len(prompts) > 1:
            single = ([prompt] for prompt in prompts)
            return [
                _tokenized(tokenizer, prompt, chat_template_kwargs, source, first + i)[0]
                for i, prompt in enumerate(single)
            ]
        by = "chat template" if is_chat(prompts[0]) else "tokenizer"
        where = f"the prompt in row {first} (counted from 0)"
        raise ValueError(f"{source}: the model's {by} refuses {where}: {error}") from error
    token_ids: list[list[int]] = encoded["input_ids"]
    return token_ids


def plain_completions(prompts: list[Any], texts: list[str]) -> list[Any]:
    """Return responses as rewards see them where nothing is parsed.

    Args:
        prompts: One prompt per response, all strings or all chats.
        texts: The responses' texts without special tokens.

    Returns:
        For strings the texts; for chats a list with one assistant message per response.
    """
    return [[{"role": "assistant", "content": text}] for text in texts] if is_chat(prompts[0]) else texts


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
        prompts: One prompt per response, all strings or all chats.
        prompt_token_ids: Their tokens.
        response_token_ids: The responses' tokens.
        texts: The responses' texts without special tokens.

    Returns:
        For strings the texts; for chats a list with one assistant message per response, parsed (thinking, tool
        calls) where the tokenizer says how.
    """
    has_parser = any(getattr(tokenizer, name, None) for name in ("response_template", "response_schema"))
    if not has_parser or not is_chat(prompts[0]):
        return plain_completions(prompts, texts)
    from trl.chat_template_utils import parse_response

    pairs = zip(prompt_token_ids, response_token_ids, strict=True)
    return [[parse_response(tokenizer, ids, prefix=prefix)] for prefix, ids in pairs]
