"""The quickstart's task: instructions in plain English, and a verifier that grades a response in many small parts.

There are six kinds of instruction. Each response is graded from 0 to 10 as a weighted mean of squared parts in [0, 1]:
how much of it is on topic, how near its length is to the length asked for, whether neighbouring words may follow
each other, and what the kind asks for besides (words to use, alphabetical order, a favourite letter, ...).
No model takes part in the grading.

Example:
    >>> from tailgrad.quickstart.task import verifier
    >>> row = {"kind": "list", "topic": "farm", "other_topic": "", "keywords": "", "letter": "", "length": 4}
    >>> columns = {name: [value] for name, value in row.items()}
    >>> verifier(completions=["barn , fence , goat , hen ."], **columns)
    [10.0]
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import combinations, pairwise
from typing import Any, Final

from tailgrad.quickstart.lexicon import CLASS_OF, MAY_FOLLOW, TOPIC_OF, TOPICS

MAX_REWARD: Final = 10.0
LETTERS: Final = ("b", "c", "f", "h", "m", "s", "t", "w")
LENGTHS: Final = tuple(range(12, 23))
LIST_LENGTHS: Final = tuple(range(6, 13))
SPLITS: Final = {"train": 384, "validation": 50, "test": 50}
TASK_SEED: Final = 20260522

TEMPLATES: Final[dict[str, str]] = {
    "describe": "describe the {topic} in about {length} words and use {keywords} early .",
    "story": "tell a story about the {topic} in about {length} words that starts with {first} and ends with {last} .",
    "list": "list {length} things that belong to the {topic} in alphabetical order .",
    "letter": "write about the {topic} in about {length} words , most of them with the letter {letter} in front .",
    "growth": "write about the {topic} in about {length} words that grow longer and longer .",
    "compare": "compare the {topic} with the {other_topic} in about {length} words and use {keywords} early .",
}
"""Instruction kind -> its text. A prompt is this text followed by ` answer :`."""

Row = dict[str, Any]
Part = Callable[[list[str], Row], float]


def build_prompts(split: str) -> list[Row]:
    """Return one split of the task's prompts, always the same, with no prompt in two splits.

    Args:
        split: `"train"` (384 prompts), `"validation"` (50) or `"test"` (50).

    Returns:
        One row per prompt: `prompt` and the columns that `verifier` reads (`kind`, `topic`, `other_topic`, `keywords`
        (joined by ` and `), `letter`, `length` in words).

    Raises:
        ValueError: The split does not exist.
    """
    if split not in SPLITS:
        raise ValueError(f"The quickstart task has no split {split!r}; choose one of {', '.join(SPLITS)}.")
    rng = random.Random(TASK_SEED)
    rows: dict[str, Row] = {}
    while len(rows) < sum(SPLITS.values()):
        row = draw_row(rng)
        rows.setdefault(row["prompt"], row)
    start = 0
    for name, size in SPLITS.items():
        if name == split:
            break
        start += size
    return list(rows.values())[start : start + SPLITS[split]]


def draw_row(rng: random.Random) -> Row:
    """Draw one prompt with the columns that `verifier` reads."""
    kind = rng.choice(tuple(TEMPLATES))
    topic, other_topic = rng.sample(tuple(TOPICS), 2)
    first_noun, second_noun = rng.sample(TOPICS[topic]["noun"], 2)
    keywords = {
        "describe": (first_noun, rng.choice(TOPICS[topic]["verb"])),
        "story": (first_noun, second_noun),
        "compare": (first_noun, rng.choice(TOPICS[other_topic]["noun"])),
    }.get(kind, ())
    row: Row = {
        "kind": kind,
        "topic": topic,
        "other_topic": other_topic if kind == "compare" else "",
        "keywords": " and ".join(keywords),
        "letter": rng.choice(LETTERS) if kind == "letter" else "",
        "length": rng.choice(LIST_LENGTHS if kind == "list" else LENGTHS),
    }
    first, last = keywords or ("", "")
    return row | {"prompt": TEMPLATES[kind].format(**row, first=first, last=last) + " answer :"}


def verifier(*, completions: Sequence[str], **columns: Any) -> list[float]:
    """Grade responses to the quickstart's prompts.

    Args:
        completions: The responses, B strings.
        **columns: The columns of `build_prompts`, each a sequence of length B. Others are ignored.

    Returns:
        B rewards in [0, 10].
    """
    names = ("kind", "topic", "other_topic", "keywords", "letter", "length")
    rows = [dict(zip(names, values, strict=True)) for values in zip(*(columns[n] for n in names), strict=True)]
    return [grade(completion, row) for completion, row in zip(completions, rows, strict=True)]


def grade(response: str, row: Row) -> float:
    """Grade one response: ten times the weighted mean of its kind's squared parts (half done earns a quarter)."""
    tokens = response.split()
    parts = PARTS[row["kind"]]
    total = sum(weight * part(tokens, row) ** 2 for part, weight in parts)
    return MAX_REWARD * total / sum(weight for _, weight in parts)


def _words(tokens: list[str]) -> list[str]:
    return [token for token in tokens if token.isalpha()]


def _content(tokens: list[str]) -> list[str]:
    return [token for token in tokens if token in TOPIC_OF]


def length_fit(tokens: list[str], row: Row) -> float:
    """One minus the relative error of the number of words."""
    return max(0.0, 1.0 - abs(len(_words(tokens)) - row["length"]) / row["length"])


def on_topic(tokens: list[str], row: Row) -> float:
    """Share of the content words that belong to the topic."""
    content = _content(tokens)
    return sum(TOPIC_OF[word] == row["topic"] for word in content) / max(1, len(content))


def both_topics(tokens: list[str], row: Row) -> float:
    """Twice the smaller of the two topics' shares of the content words."""
    content = _content(tokens)
    shares = [sum(TOPIC_OF[word] == row[name] for word in content) for name in ("topic", "other_topic")]
    return 2.0 * min(shares) / max(1, len(content))


def grammar(tokens: list[str], row: Row) -> float:
    """Share of neighbouring words whose classes may follow each other, the start of the response included."""
    classes = ["start", *(CLASS_OF.get(token, "unknown") for token in tokens)]
    legal = sum(after in MAY_FOLLOW.get(before, ()) for before, after in pairwise(classes))
    return legal / max(2, len(tokens)) * (classes[-1] == "stop" or 0.8)


def commas(tokens: list[str], row: Row) -> float:
    """Share of places that keep to noun, comma, noun, comma, ... and a full stop at the end."""
    expected = ["stop" if i == len(tokens) - 1 else ("noun", "comma")[i % 2] for i in range(len(tokens))]
    return sum(CLASS_OF.get(t) == e for t, e in zip(tokens, expected, strict=True)) / max(4, len(tokens))


def variety(tokens: list[str], row: Row) -> float:
    """Share of the content words that are distinct, of four at least."""
    content = _content(tokens)
    return len(set(content)) / max(4, len(content))


def keywords_early(tokens: list[str], row: Row) -> float:
    """For each keyword that is used, one less its place (from 0 to 1) in the response; their mean."""
    words, wanted = _words(tokens), row["keywords"].split(" and ")
    return sum(1.0 - words.index(word) / len(words) for word in wanted if word in words) / len(wanted)


def starts_and_ends(tokens: list[str], row: Row) -> float:
    """How near the first keyword is to the start and the second one to the end; their mean."""
    words = _words(tokens)
    first, last = row["keywords"].split(" and ")
    near_start = 1.0 - words.index(first) / len(words) if first in words else 0.0
    near_end = 1.0 - words[::-1].index(last) / len(words) if last in words else 0.0
    return (near_start + near_end) / 2.0


def alphabetical(tokens: list[str], row: Row) -> float:
    """Share of the pairs of distinct words that stand in alphabetical order, above the half that chance gives."""
    pairs = list(combinations(_words(tokens), 2))
    return max(0.0, 2.0 * sum(a < b for a, b in pairs) / max(3, len(pairs)) - 1.0)


def letter_in_front(tokens: list[str], row: Row) -> float:
    """Share of the words that begin with the letter, full from two thirds on."""
    words = _words(tokens)
    return min(1.0, 1.5 * sum(word.startswith(row["letter"]) for word in words) / max(4, len(words)))


def growing(tokens: list[str], row: Row) -> float:
    """Share of the pairs of words that grow in length (a tie counts half), above the half that chance gives."""
    pairs = list(combinations([len(word) for word in _words(tokens)], 2))
    grown = sum((a < b) + 0.5 * (a == b) for a, b in pairs)
    return max(0.0, 2.0 * grown / max(6, len(pairs)) - 1.0)


PARTS: Final[dict[str, tuple[tuple[Part, float], ...]]] = {
    "describe": ((keywords_early, 3), (on_topic, 2), (length_fit, 1.5), (grammar, 2), (variety, 1.5)),
    "story": ((starts_and_ends, 3), (on_topic, 2), (length_fit, 1.5), (grammar, 2), (variety, 1.5)),
    "list": ((alphabetical, 3), (on_topic, 3), (length_fit, 1.5), (commas, 1), (variety, 1.5)),
    "letter": ((letter_in_front, 3), (on_topic, 2), (length_fit, 1.5), (grammar, 2), (variety, 1.5)),
    "growth": ((growing, 3), (on_topic, 2), (length_fit, 1.5), (grammar, 2), (variety, 1.5)),
    "compare": ((keywords_early, 2.5), (both_topics, 2.5), (length_fit, 1.5), (grammar, 2), (variety, 1.5)),
}
"""Instruction kind -> its parts with their weights."""
