"""What a prompt may be: a string, or a chat."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from tailgrad.rollouts.text_files import BATCH

Prompt = str | list[dict[str, Any]]
"""A prompt is a string, or a chat: a list of messages with "role" and "content"."""

_ALLOWED: Final = "a prompt is a string, or a list of messages, each with a role and a content that is a string"


def is_chat(prompt: Prompt) -> bool:
    """Return whether a prompt is a list of messages.

    Args:
        prompt: A prompt.

    Returns:
        True for a chat, False for a string.

    Examples:
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

    Examples:
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

    Examples:
        >>> prompts_of_texts(['[{"role": "user", "content": "Hello"}]'])[0][0]["content"]
        'Hello'
    """
    chats = []
    for text in texts:
        try:
            chat = json.loads(text)
        except ValueError:
            return texts
        is_list = isinstance(chat, list) and bool(chat)
        if not (is_list and all(isinstance(message, dict) and "role" in message for message in chat)):
            return texts
        chats.append(chat)
    return chats


def check_prompts(prompts: Sequence[Any], source: str, *, pictures: bool = False) -> None:
    """Refuse a column in which a row is no prompt, or strings and chats stand together.

    Args:
        prompts: The column.
        source: Where the prompts are from, the first words of error messages.
        pictures: The policy reads pictures: the content of a message may be a list of parts.

    Raises:
        ValueError: The message names the first such row, its message and key.
    """
    first = prompts[0]
    for start in range(0, len(prompts), BATCH):
        for row, prompt in enumerate(prompts[start : start + BATCH], start):
            check_prompt(prompt, f"{source}: the prompt in row {row} (counted from 0)", pictures=pictures)
            if isinstance(prompt, str) != isinstance(first, str):
                raise ValueError(
                    f"{source}: row {row} (counted from 0) is {'a chat' if is_chat(prompt) else 'a string'} and row 0 "
                    "is not; the prompts must be all strings or all chats."
                )


def check_prompt(prompt: Any, what: str, *, pictures: bool = False) -> None:
    """Refuse what is neither a string nor a chat whose every message has a role and a content.

    A message without content is one that calls tools (a `tool_calls` that is not empty).

    Args:
        prompt: A value of the column with the prompts.
        what: Names it, the first words of error messages.
        pictures: The policy reads pictures: the content of a message may be a list of parts.

    Raises:
        ValueError: The message names the message and the key.

    Examples:
        >>> check_prompt([{"role": "user", "value": "one"}], "row 3")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ValueError: row 3: message 0 has no 'content' (its keys: role, value); a prompt is a string, or ...
    """
    if isinstance(prompt, str):
        return
    if not isinstance(prompt, list) or not prompt or not all(isinstance(message, dict) for message in prompt):
        raise ValueError(f"{what} is {repr(prompt)[:60]} ({type(prompt).__name__}); {_ALLOWED}.")
    for i, message in enumerate(prompt):
        for key in ("role", "content"):
            value = message.get(key)
            is_list = key == "content" and pictures and isinstance(value, list)
            if isinstance(value, str) or is_list or (key == "content" and value is None and message.get("tool_calls")):
                continue
            given = ", ".join(name for name, part in message.items() if part is not None) or "none"
            found = f"no {key!r} (its keys: {given})" if value is None else f"{repr(value)[:40]} as its {key!r}"
            raise ValueError(f"{what}: message {i} has {found}; {_ALLOWED}.")
