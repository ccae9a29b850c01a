"""Human preference pairs as chats: read, counted in tokens, split by first question, and with length held level.

The longer answer is the preferred one in most pairs, so a model trained on all of them learns to count words. Here the
pairs are sorted by how much longer one answer is than the other (`RATIOS`), and in each class as many pairs are kept
where the longer answer was preferred as where the shorter one was. All answers stay whole: cut ones would tell where
they were cut. In what is left, length says nothing about which answer is preferred.
"""

import random
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path += [str(Path(__file__).resolve().parents[1] / folder) for folder in ("first-real-run", "small-instruct")]
from hub_data import hh_rows
from make_prompts import normalised, read_lines

HELD_OUT_SHARE = 0.2
RATIOS = (1.1, 1.25, 1.6, 2.5)
"""Bounds of the classes of how many times longer the longer answer is."""
ROLES = {"Human": "user", "Assistant": "assistant"}
Message = dict[str, str]


@dataclass(frozen=True)
class Pair:
    """Two answers to a chat, and the number of tokens of each."""

    prompt: list[Message]
    chosen: str
    rejected: str
    chosen_tokens: int = 0
    rejected_tokens: int = 0

    @property
    def first(self) -> str:
        """The first question, by which pairs are split."""
        return normalised(self.prompt[0]["content"])

    def chat(self, which: str) -> list[Message]:
        """The chat with one of the answers, "chosen" or "rejected"."""
        return [*self.prompt, *self.answer(which)]

    def answer(self, which: str) -> list[Message]:
        """One of the answers as a message."""
        return [{"role": "assistant", "content": getattr(self, which)}]


def chat_of(turns: Iterable[Sequence[str]]) -> list[Message]:
    """Turns of a transcript as messages; empty if they do not alternate from the user's first to the user's last."""
    messages = [{"role": ROLES.get(speaker, ""), "content": text.strip()} for speaker, text in turns]
    expected = ("user", "assistant")
    whole = len(messages) % 2 == 1 and all(
        message["role"] == expected[i % 2] and message["content"] for i, message in enumerate(messages)
    )
    return messages if whole else []


def transcript_pairs(rows: Iterable[dict[str, Any]]) -> Iterator[Pair]:
    """Pairs of HH-helpful."""
    for row in rows:
        yield Pair(chat_of(row["turns"]), row["chosen"].strip(), row["rejected"].strip())


def voted_pairs(rows: Iterable[dict[str, Any]]) -> Iterator[Pair]:
    """Pairs of PandaLM and LLMBar with more votes for one answer than for the other."""
    for row in rows:
        for_a, for_b = row["votes"].count(1), row["votes"].count(2)
        if for_a != for_b:
            answers = (row["a"].strip(), row["b"].strip())
            chosen, rejected = answers if for_a > for_b else answers[::-1]
            yield Pair(chat_of([("Human", row["prompt"])]), chosen, rejected)


def read_pairs(data: str) -> list[Pair]:
    """Pairs of a data folder, or of the part helpful-base of a hub data set in the format of Anthropic/hh-rlhf."""
    if Path(data).is_dir():
        pairs = [
            *transcript_pairs(read_lines(Path(data), "hh_helpful_pairs")),
            *voted_pairs(read_lines(Path(data), "human_pairs_misc")),
        ]
    else:
        from datasets import load_dataset

        pairs = list(transcript_pairs(hh_rows(load_dataset(data, data_dir="helpful-base", split="train"))))
    return [pair for pair in pairs if pair.prompt and pair.chosen and pair.rejected and pair.chosen != pair.rejected]


def counted(pairs: Iterable[Pair], tokens_of: Callable[[list[Message]], int], most: int) -> list[Pair]:
    """The pairs of which both chats have at most `most` tokens, with the tokens of their answers."""
    found = []
    for pair in pairs:
        asked = tokens_of(pair.prompt)
        chosen, rejected = (tokens_of(pair.chat(which)) for which in ("chosen", "rejected"))
        if max(chosen, rejected) <= most:
            found.append(Pair(pair.prompt, pair.chosen, pair.rejected, chosen - asked, rejected - asked))
    return found


def split_by_prompt(pairs: Iterable[Pair], generator: random.Random) -> tuple[list[Pair], list[Pair]]:
    """Training and held-out pairs; all pairs with the same first question are on one side."""
    by_prompt: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        by_prompt[pair.first].append(pair)
    prompts = sorted(by_prompt)
    generator.shuffle(prompts)
    bound = round(HELD_OUT_SHARE * len(prompts))
    held_out, train = ([pair for one in part for pair in by_prompt[one]] for part in (prompts[:bound], prompts[bound:]))
    return train, held_out


def log_ratio(pair: Pair) -> float:
    """Logarithm of the chosen answer's tokens over the rejected one's."""
    return float(np.log(pair.chosen_tokens / pair.rejected_tokens))


def level(pairs: Sequence[Pair], generator: random.Random) -> list[Pair]:
    """As many pairs with the longer answer preferred as with the shorter one, in each class of `RATIOS`."""
    classes: dict[tuple[int, int], list[Pair]] = defaultdict(list)
    for pair in pairs:
        shorter, longer = sorted((pair.chosen_tokens, pair.rejected_tokens))
        sign = (pair.chosen_tokens > pair.rejected_tokens) - (pair.chosen_tokens < pair.rejected_tokens)
        classes[int(np.digitize(longer / shorter, RATIOS)), sign].append(pair)
    kept = []
    for number in range(len(RATIOS) + 1):
        longer, shorter = classes[number, 1], classes[number, -1]
        size = min(len(longer), len(shorter))
        kept += [*classes[number, 0], *generator.sample(longer, size), *generator.sample(shorter, size)]
    generator.shuffle(kept)
    return kept
