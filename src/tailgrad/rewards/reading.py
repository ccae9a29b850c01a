"""How a reward model reads a rollout: the text, and the tokens of it."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tailgrad.models.loading import model_errors, model_path

INPUT_FORMATS = ("auto", "chat", "text")


def check_reading(batch_size: int, max_length: int | None, input_format: str) -> None:
    """Refuse options of a reward model that are out of range, before it is loaded.

    Args:
        batch_size: Rollouts scored together.
        max_length: Most tokens, None is the model's limit.
        input_format: One of `INPUT_FORMATS`.

    Raises:
        ValueError: One of them is out of range.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size of the reward model is {batch_size}; it must be at least 1.")
    if max_length is not None and max_length < 1:
        raise ValueError(f"max_length of the reward model is {max_length}; it must be at least 1.")
    if input_format not in INPUT_FORMATS:
        raise ValueError(f"input_format {input_format!r} is unknown; allowed: {', '.join(INPUT_FORMATS)}.")


def load_tokenizer(name: str, **options: Any) -> Any:
    """Load the tokenizer of a reward model.

    Args:
        name: Hub name or local folder.
        **options: `revision` and `trust_remote_code`.

    Returns:
        The tokenizer, which cuts texts at their beginning.
    """
    from transformers import AutoTokenizer

    with model_errors(name, "tokenizer of reward model"):
        return AutoTokenizer.from_pretrained(model_path(name), truncation_side="left", **options)


class RolloutReader(ABC):
    """A reward model that reads tokens, which it makes of rollouts; `RewardModel` says by which rules.

    Args:
        name: The reward model, for messages.
        tokenizer: Its tokenizer.
        config: Its transformers config.
        max_length: Most tokens of prompt and response together; None: as many as model and tokenizer allow.
        input_format: "auto", "chat" or "text".
    """

    def __init__(self, name: str, tokenizer: Any, config: Any, max_length: int | None, input_format: str) -> None:
        self.name, self.tokenizer, self.input_format = name, tokenizer, input_format
        self.__name__ = Path(name).name
        self.max_length = max_length or _longest(config.get_text_config(), tokenizer)
        self._warned = False

    def __call__(self, /, *, prompts: list[Any], completions: list[Any], **columns: Any) -> list[float]:
        """Score rollouts.

        Args:
            prompts: One prompt per rollout: a string or a list of messages.
            completions: One response per rollout: a string or a list of messages.
            columns: Other columns; not used.

        Returns:
            One score per rollout, in the model's own units.

        Raises:
            ValueError: Messages and no chat template, or a rollout without a single token.
            ServerDownError: A server that the model is behind failed too often.
            RefusedError: Such a server refuses the batch.
        """
        return self._rewards(self.token_ids(prompts, completions))

    @abstractmethod
    def _rewards(self, token_ids: list[list[int]]) -> list[float]:
        """The score of each sequence of tokens."""

    def token_ids(self, prompts: Sequence[Any], completions: Sequence[Any]) -> list[list[int]]:
        """Return the tokens that the model reads for each rollout, truncated to `max_length`.

        Args:
            prompts: One prompt per rollout.
            completions: One response per rollout.

        Returns:
            Token ids, one list per rollout.

        Raises:
            ValueError: Messages and no chat template, or a rollout without a single token.
        """
        pairs = list(zip(prompts, completions, strict=True))
        token_ids = [self._tokenize(prompt, completion) for prompt, completion in pairs]
        for i, ids in enumerate(token_ids):
            if not ids:
                raise ValueError(
                    f"reward model {self.name!r}: rollout {i} has no tokens, prompt and response are empty."
                )
        return token_ids

    def _tokenize(self, prompt: Any, completion: Any) -> list[int]:
        text, templated = self._text(prompt, completion)
        ids: list[int] = self.tokenizer(text, add_special_tokens=not templated, verbose=False)["input_ids"]
        if self.max_length is None or len(ids) <= self.max_length:
            return ids
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"reward model {self.name!r}: prompt and response of {len(ids)} tokens are cut to the last "
                f"{self.max_length}; scores of longer texts do not see their beginning. Said once.",
                stacklevel=2,
            )
        cut: list[int] = self.tokenizer(
            text, add_special_tokens=not templated, truncation=True, max_length=self.max_length
        )["input_ids"]
        return cut

    def _text(self, prompt: Any, completion: Any) -> tuple[str, bool]:
        """Return the text that the model reads and whether it came from the chat template."""
        is_chat = not isinstance(prompt, str)
        if self.input_format == "chat" or (self.input_format == "auto" and is_chat):
            if not is_chat:
                prompt = [{"role": "user", "content": prompt}]
                completion = [{"role": "assistant", "content": completion}]
            return self._apply_chat_template(prompt + completion), True
        if is_chat:
            return "\n".join(self._content(message) for message in prompt + completion), False
        return prompt + completion, False

    def _apply_chat_template(self, messages: list[dict[str, Any]]) -> str:
        if getattr(self.tokenizer, "chat_template", None) is None:
            raise ValueError(
                f"reward model {self.name!r} has no chat template, and the rollouts are messages. "
                "Save one with its tokenizer, or use input_format 'text'."
            )
        text: str = self.tokenizer.apply_chat_template(messages, tokenize=False)
        return text

    def _content(self, message: dict[str, Any]) -> str:
        content = message.get("content")
        if not isinstance(content, str):
            raise ValueError(
                f"reward model {self.name!r}: input_format 'text' needs messages whose content is a string, "
                f"got {repr(message)[:80]}."
            )
        return content


def _longest(config: Any, tokenizer: Any) -> int | None:
    """Return the most tokens that model and tokenizer allow, None where neither says."""
    limits = [getattr(config, "max_position_embeddings", None), tokenizer.model_max_length]
    known = [limit for limit in limits if limit is not None and 0 < limit < 1_000_000_000]
    return min(known, default=None)
