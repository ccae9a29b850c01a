"""The reference corpus the quickstart's base policy is fitted to: prompts with middling responses.

A response keeps to its instruction only in part (how well is drawn anew for each), so that a policy fitted to the
corpus has something to learn and a wide spread of rewards to learn it from.
"""

from __future__ import annotations

import random
from typing import Final

from tailgrad.quickstart.lexicon import FUNCTION_WORDS, MAY_FOLLOW, TOPICS
from tailgrad.quickstart.task import SPLITS, Row, build_prompts, draw_row

MAX_RESPONSE_TOKENS: Final = 32
"""Upper limit of a response, the end token included."""

_NEXT_CLASS_WEIGHT: Final = {"adverb": 0.35, "adjective": 0.6, "conjunction": 0.5, "stop": 0.0}
_NOISE: Final = 0.1


def build_corpus(size: int, seed: int) -> list[dict[str, str]]:
    """Return `size` pairs of prompt and response; prompts of the validation and test splits are left out."""
    held_out = {row["prompt"] for split in SPLITS if split != "train" for row in build_prompts(split)}
    rng = random.Random(seed)
    pairs: list[dict[str, str]] = []
    while len(pairs) < size:
        row = draw_row(rng)
        if row["prompt"] not in held_out:
            pairs.append({"prompt": row["prompt"], "completion": " " + write_response(row, rng)})
    return pairs


def write_response(row: Row, rng: random.Random) -> str:
    """Write a middling response to one prompt, at most 31 tokens long."""
    care = rng.betavariate(3.0, 2.0)
    length = max(4, round(rng.gauss(0.9 * row["length"], 0.25 * row["length"])))
    tokens = _write_list(row, rng, care, length) if row["kind"] == "list" else _write_sentence(row, rng, care, length)
    return " ".join([*tokens[: MAX_RESPONSE_TOKENS - 2], "."])


def _pick(word_class: str, row: Row, rng: random.Random, care: float) -> str:
    """Pick a word of a class: often from a topic asked for, sometimes with the letter asked for."""
    if word_class in FUNCTION_WORDS:
        words = FUNCTION_WORDS[word_class]
    else:
        asked = [row["topic"], row["other_topic"] or row["topic"]]
        topic = rng.choice(asked) if rng.random() < 0.3 + 0.6 * care else rng.choice(tuple(TOPICS))
        words = TOPICS[topic][word_class]
    lettered = [word for word in words if row["letter"] and word.startswith(row["letter"])]
    return rng.choice(lettered if lettered and rng.random() < 0.7 * care else words)


def _write_list(row: Row, rng: random.Random, care: float, length: int) -> list[str]:
    nouns = [_pick("noun", row, rng, care) for _ in range(min(length, (MAX_RESPONSE_TOKENS - 2) // 2))]
    sorted_part = round(len(nouns) * care * rng.random())
    nouns = sorted(nouns[:sorted_part]) + nouns[sorted_part:]
    return [token for noun in nouns for token in (noun, ",")][:-1]


def _write_sentence(row: Row, rng: random.Random, care: float, length: int) -> list[str]:
    word_class, tokens = "start", list[str]()
    while len(tokens) < length or word_class not in ("noun", "verb", "adverb"):
        choices = sorted(MAY_FOLLOW[word_class])
        weights = [_NEXT_CLASS_WEIGHT.get(choice, 1.0) for choice in choices]
        word_class = rng.choices(choices, weights)[0]
        drawn = _pick(word_class, row, rng, care)
        tokens.append(_pick(rng.choice(("noun", "verb")), row, rng, 0.0) if rng.random() < _NOISE else drawn)
    for place, keyword in enumerate(filter(None, row["keywords"].split(" and "))):
        if rng.random() < 0.3 + 0.6 * care:
            last = row["kind"] == "story" and place == 1 and rng.random() < care
            tokens[len(tokens) - 1 if last else rng.randrange(len(tokens))] = keyword
    return tokens
