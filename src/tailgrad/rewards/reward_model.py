"""A Hugging Face sequence-classification model with one output as a reward."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from tailgrad.identity import model_sha256, sha256_of
from tailgrad.models.loading import (
    check_loaded,
    check_model_name,
    model_errors,
    model_path,
    revision_of,
    torch_device,
    torch_dtype,
)

INPUT_FORMATS = ("auto", "chat", "text")


class RewardModel:
    """A reward model: the score of a rollout is the model's one logit for prompt and response.

    It is called like any reward. The score equals that of an unbatched forward pass of the rollout alone. Batches are
    padded on the right, whatever the tokenizer's padding side is, with the pad token of the model's config. If the
    config has none, they are padded with a token that is not in the batch, so that an end token at the end of a text is
    not taken for padding.

    Input format "auto" follows the prompts: messages go through the reward model's chat template, and strings are
    concatenated with the response. "chat" also wraps strings into a user and an assistant message; "text" also joins
    the contents of messages with newlines. Plain text gets the tokenizer's special tokens; a chat template brings its
    own.

    Text longer than `max_length` tokens loses its beginning, never the response's end; it warns once.

    Args:
        model_name_or_path: Hub name or local folder.
        revision: Branch, tag or commit of the hub.
        batch_size: Rollouts in one forward pass.
        max_length: Most tokens of prompt and response together; None: as many as model and tokenizer allow.
        dtype: "float32", "bfloat16", "float16", or "auto" (as saved).
        device: A torch device name; None is the GPU where there is one, else the CPU.
        input_format: "auto", "chat" or "text".
        trust_remote_code: Run the model code that comes with the model.

    Raises:
        FileNotFoundError: There is no such folder, or the hub does not give the model.
        ValueError: It is not a sequence-classification model with one label, or an option is out of range.
    """

    def __init__(
        self,
        model_name_or_path: str,
        *,
        revision: str | None = None,
        batch_size: int = 16,
        max_length: int | None = None,
        dtype: str = "float32",
        device: str | None = None,
        input_format: Literal["auto", "chat", "text"] = "auto",
        trust_remote_code: bool = False,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size of the reward model is {batch_size}; it must be at least 1.")
        if max_length is not None and max_length < 1:
            raise ValueError(f"max_length of the reward model is {max_length}; it must be at least 1.")
        if input_format not in INPUT_FORMATS:
            raise ValueError(f"input_format {input_format!r} is unknown; allowed: {', '.join(INPUT_FORMATS)}.")
        self.name = model_name_or_path
        self.batch_size = batch_size
        self.input_format = input_format
        self.__name__ = Path(model_name_or_path).name
        self.device = torch_device(device)
        options = {"revision": revision, "trust_remote_code": trust_remote_code}
        self.model, self.tokenizer = _load(model_name_or_path, torch_dtype(dtype), options)
        self.model.to(self.device)
        self.revision = revision_of(self.model, revision)
        self.max_length = max_length or _longest(self.model.config.get_text_config(), self.tokenizer)
        self._warned = False

    def __repr__(self) -> str:
        return f"RewardModel({self.name!r})"

    @cached_property
    def content_sha256(self) -> str:
        """Hash of all that decides a score: the model's files or commit, and how it is called."""
        content = model_sha256(self.name) or [self.name, self.revision]
        return sha256_of([content, str(self.model.dtype), self.max_length, self.input_format])

    def __call__(self, *, prompts: list[Any], completions: list[Any], **columns: Any) -> list[float]:
        """Score rollouts.

        Args:
            prompts: One prompt per rollout: a string or a list of messages.
            completions: One response per rollout: a string or a list of messages.
            columns: Other columns; not used.

        Returns:
            One score per rollout, in the model's own units.

        Raises:
            ValueError: Messages and no chat template, or a rollout without a single token.
        """
        token_ids = self.token_ids(prompts, completions)
        scores: list[float] = self.scores(token_ids).tolist()
        return scores

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

    def scores(self, token_ids: list[list[int]]) -> Float[Tensor, " B"]:
        """Return the model's score for each sequence of tokens.

        Args:
            token_ids: Token ids, one list per rollout.

        Returns:
            Scores `[B]`, float32 on the CPU.
        """
        order = sorted(range(len(token_ids)), key=lambda i: len(token_ids[i]))
        scores = torch.empty(len(token_ids), dtype=torch.float32)
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            scores[rows] = self._forward([token_ids[i] for i in rows])
        return scores

    def _forward(self, rows: list[list[int]]) -> Float[Tensor, " b"]:
        config = self.model.config.get_text_config()
        pad_token_id = config.pad_token_id
        if pad_token_id is None or pad_token_id < 0:
            used = {token for row in rows for token in row}
            pad = next(token for token in range(config.vocab_size) if token not in used)
        else:
            pad = pad_token_id
        length = max(map(len, rows))
        input_ids = torch.tensor([row + [pad] * (length - len(row)) for row in rows], device=self.device)
        mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows], device=self.device)
        config.pad_token_id = pad
        try:
            with torch.inference_mode():
                logits = self.model(input_ids=input_ids, attention_mask=mask).logits
        finally:
            config.pad_token_id = pad_token_id
        scores: Tensor = logits[:, 0].float().cpu()
        return scores

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


def _load(name: str, dtype: torch.dtype | str, options: dict[str, Any]) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    what = "reward model"
    check_model_name(name, what)
    path = model_path(name)
    with model_errors(name, what):
        model, info = AutoModelForSequenceClassification.from_pretrained(
            path, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    with model_errors(name, f"tokenizer of {what}"):
        tokenizer = AutoTokenizer.from_pretrained(path, truncation_side="left", **options)
    check_loaded(info, name, what, "sequence-classification model")
    if model.config.num_labels != 1:
        raise ValueError(f"reward model {name!r} has {model.config.num_labels} labels; a reward model has one.")
    return model.eval(), tokenizer


def _longest(config: Any, tokenizer: Any) -> int | None:
    """Return the most tokens that model and tokenizer allow, None where neither says."""
    limits = [getattr(config, "max_position_embeddings", None), tokenizer.model_max_length]
    known = [limit for limit in limits if limit is not None and 0 < limit < 1_000_000_000]
    return min(known, default=None)
