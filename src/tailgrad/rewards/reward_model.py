"""A Hugging Face sequence-classification model with one output as a reward."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from tailgrad.identity import model_sha256, sha256_of
from tailgrad.models.batching import allowed
from tailgrad.models.devices import torch_device, torch_dtype
from tailgrad.models.loading import (
    check_loaded,
    check_model_name,
    model_errors,
    model_path,
    revision_of,
)
from tailgrad.models.model_files import weight_options
from tailgrad.models.whole import whole
from tailgrad.rewards.reading import RolloutReader, check_reading, load_tokenizer

logger = logging.getLogger(__name__)


class RewardModel(RolloutReader):
    """A reward model: the score of a rollout is the model's one logit for prompt and response.

    It is called like any reward. The score equals that of an unbatched forward pass of the rollout alone. Batches are
    padded on the right, whatever the tokenizer's padding side is, with the pad token of the model's config. If the
    config has none, they are padded with a token that is not in the batch, so that an end token at the end of a text is
    not taken for padding. A model for which that does not hold, as a look at its load shows, scores one by one.

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
        check_reading(batch_size, max_length, input_format)
        self.batch_size = batch_size
        self.device = torch_device(device)
        options = {"revision": revision, "trust_remote_code": trust_remote_code}
        self.model, tokenizer = _load(model_name_or_path, torch_dtype(dtype), options)
        self.model.to(self.device)
        self.revision = revision_of(self.model, revision)
        super().__init__(model_name_or_path, tokenizer, self.model.config, max_length, input_format)
        if batch_size > 1 and not self._is_the_same_in_batches():
            self.batch_size = 1
            logger.warning(
                "reward model %r (%s) gives a text another score in a batch than alone: texts are scored one by one.",
                model_name_or_path,
                self.model.config.model_type,
            )

    def __repr__(self) -> str:
        return f"RewardModel({self.name!r})"

    @cached_property
    def content_sha256(self) -> str:
        """Hash of all that decides a score: the model's files or commit, and how it is called."""
        content = model_sha256(self.name) or [self.name, self.revision]
        return sha256_of([content, str(self.model.dtype), self.max_length, self.input_format])

    def _rewards(self, token_ids: list[list[int]]) -> list[float]:
        scores: list[float] = self.scores(token_ids).tolist()
        return scores

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

    def _is_the_same_in_batches(self) -> bool:
        """Whether short texts beside a longer one have the scores that they have alone."""
        known = list(self.tokenizer("one two three four five")["input_ids"]) or [0]
        texts = [(known * 8)[: self.max_length][:length] for length in (1, 2, 4, 8 * len(known))]
        together, alone = self._forward(texts), torch.cat([self._forward([text]) for text in texts])
        return bool(((together - alone).abs() <= allowed(self.model) / 10 * (1 + alone.abs())).all())

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


def _load(name: str, dtype: torch.dtype | str, options: dict[str, Any]) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification

    what = "reward model"
    check_model_name(name, what)
    path = model_path(name)
    with model_errors(name, what), whole():
        how: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True, **weight_options()}
        model, info = AutoModelForSequenceClassification.from_pretrained(path, dtype=dtype, **how, **options)
    tokenizer = load_tokenizer(name, **options)
    check_loaded(info, name, what, "sequence-classification model")
    if model.config.num_labels != 1:
        raise ValueError(f"reward model {name!r} has {model.config.num_labels} labels; a reward model has one.")
    return model.eval(), tokenizer
