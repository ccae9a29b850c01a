"""How much better a larger language model predicts a response given its prompt than without it.

The reward is (log p(response | prompt) - log p(response | empty instruction)) / tokens of the response, end token
included, in nats per token: the pointwise mutual information per token under the large policy of `policy.py`. It has no
maximum. `score` is the reward function for `tailgrad`; the model is read from artifacts/policies/large.

Policies trained on `score` end in responses of one or two tokens. `floored` divides by 8 where there are fewer, so that
a response gains nothing by being shorter than that.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tailgrad.models.loading import load_policy
from tailgrad.models.logprobs import response_logprobs

SCORER = Path(__file__).resolve().parent / "artifacts" / "policies" / "large"
EMPTY = [{"role": "user", "content": ""}]
FLOOR = 8
"""Fewest tokens, the end token among them, that `floored` divides by."""
Messages = list[dict[str, str]]


@lru_cache(maxsize=1)
def scorer() -> tuple[Any, Any]:
    """The scoring model and its tokenizer."""
    return load_policy(str(SCORER))


def gain(
    model: Any, tokenizer: Any, prompts: Sequence[Messages], responses: Sequence[str], floor: int = 1
) -> np.ndarray:
    """Mutual information of each prompt and response over its tokens, at least `floor` of them, in nats `[B]`."""
    asked = [tokenizer.apply_chat_template(one, add_generation_prompt=True)["input_ids"] for one in prompts]
    empty = tokenizer.apply_chat_template(EMPTY, add_generation_prompt=True)["input_ids"]
    answers = [[*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in responses]
    given = response_logprobs(model, asked, answers)
    alone = response_logprobs(model, [empty] * len(answers), answers)
    return (given - alone) / np.array([max(len(answer), floor) for answer in answers])


def score(prompts: Sequence[Messages], completions: Sequence[Messages], **_: object) -> list[float]:
    """Rewards of a batch, as TRL and tailgrad call it."""
    return gain(*scorer(), prompts, [given[-1]["content"] for given in completions]).tolist()


def floored(prompts: Sequence[Messages], completions: Sequence[Messages], **_: object) -> list[float]:
    """Rewards of a batch, where a response shorter than `FLOOR` tokens is as if it had that many."""
    return gain(*scorer(), prompts, [given[-1]["content"] for given in completions], FLOOR).tolist()
