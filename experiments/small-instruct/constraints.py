"""Verifiable constraints attached to instructions, in the manner of IFEval, each with a grade between 0 and 1.

A prompt carries its constraints as sentences behind the instruction, and in the column `checks` as JSON: a mapping
from kind to value. The reward is 10 times the mean grade. `score` is the reward function for `tailgrad`.

| kind | asks | grade |
|---|---|---|
| length | "Use N words." | min(w / N, N / w) for w words |
| mention | "Use the words A and B." | mean over both of the best Dice overlap of letter pairs with a word |
| start | "Begin with A." | Dice overlap of letter pairs of the first word with A |
| letter | "Use many words with C." | share of the words that begin with C, over one half, at most 1 |
| long | "Use long words." | (mean letters of the distinct words - 3) / 4, within 0 and 1 |
| sentences | "Write N sentences." | 1 / (1 + difference in the number of sentences) |
"""

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence

MAXIMUM = 10.0
LONG_WORD = 5.5
TEXTS: dict[str, str] = {
    "length": "Use {0} words.",
    "mention": "Use the words {0} and {1}.",
    "start": "Begin with {0}.",
    "letter": "Use many words with {0}.",
    "long": "Use long words.",
    "sentences": "Write {0} sentences.",
}
ALWAYS, OPTIONAL = ("length", "mention", "long"), ("start", "letter", "sentences")
STARTS = ("The", "When", "One", "Many", "There", "You", "It", "In", "We", "First")
LETTERS = "bcdfghlmprstw"
Value = str | int | list[str] | None
Checks = dict[str, Value]


def words_of(text: str) -> list[str]:
    """Lower-case words of a text."""
    return re.findall(r"[a-z0-9]+(?:'[a-z]+)?", text.lower())


def count_sentences(text: str) -> int:
    """Stretches of text that end in a full stop, exclamation or question mark, or with the text."""
    return len(re.findall(r"[^.!?]*\w[^.!?]*", text))


def letter_pairs(word: str) -> set[str]:
    """Pairs of neighbouring letters of a word with its ends marked."""
    marked = f"^{word.lower()}$"
    return {marked[i : i + 2] for i in range(len(marked) - 1)}


def overlap(word: str, other: str) -> float:
    """Dice overlap of the letter pairs of two words, from 0 to 1 (equal words).

    Example:
        >>> overlap("water", "waiter"), overlap("water", "Water")
        (0.7692307692307693, 1.0)
    """
    ours, theirs = letter_pairs(word), letter_pairs(other)
    return 2 * len(ours & theirs) / (len(ours) + len(theirs))


def _length(words: list[str], text: str, value: int) -> float:
    return min(len(words) / value, value / len(words))


def _mention(words: list[str], text: str, value: list[str]) -> float:
    return sum(max(overlap(asked, word) for word in words) for asked in value) / len(value)


def _start(words: list[str], text: str, value: str) -> float:
    return overlap(words[0], value)


def _letter(words: list[str], text: str, value: str) -> float:
    return min(1.0, 2 * sum(word[0] == value for word in words) / len(words))


def _long(words: list[str], text: str, value: None) -> float:
    distinct = set(words)
    return min(1.0, max(0.0, (sum(map(len, distinct)) / len(distinct) - 3) / 4))


def _sentences(words: list[str], text: str, value: int) -> float:
    return 1 / (1 + abs(count_sentences(text) - value))


GRADES: dict[str, Callable[..., float]] = {
    "length": _length,
    "mention": _mention,
    "start": _start,
    "letter": _letter,
    "long": _long,
    "sentences": _sentences,
}


def grades(response: str, checks: Checks) -> dict[str, float]:
    """The grade of every constraint; 0 throughout for a response without a word."""
    words = words_of(response)
    if not words:
        return dict.fromkeys(checks, 0.0)
    return {kind: GRADES[kind](words, response, value) for kind, value in checks.items()}


def reward_of(response: str, checks: Checks) -> float:
    """Reward of one response, 0 to 10.

    Example:
        >>> reward_of("When water falls.", {"length": 3, "start": "When", "sentences": 2})
        8.333333333333334
    """
    return MAXIMUM * sum(grades(response, checks).values()) / len(checks)


def score(completions: Sequence[str | list[dict[str, str]]], checks: Sequence[str], **_: object) -> list[float]:
    """Rewards of a batch, as TRL and tailgrad call it: one completion and one `checks` per response."""
    texts = (given if isinstance(given, str) else given[-1]["content"] for given in completions)
    return [reward_of(text, json.loads(asked)) for text, asked in zip(texts, checks, strict=True)]


def sentence_of(kind: str, value: Value) -> str:
    """The constraint as the sentence behind an instruction."""
    values = value if isinstance(value, list) else [value]
    text = TEXTS[kind].format(*values)
    return text.replace("1 sentences", "1 sentence")


def asked_prompt(instruction: str, checks: Checks) -> str:
    """Instruction and constraints as one text."""
    ended = instruction if not checks or instruction[-1] in ".?!" else instruction + "."
    return " ".join([ended, *(sentence_of(kind, value) for kind, value in checks.items())])


def random_checks(generator: random.Random, vocabulary: Sequence[str]) -> Checks:
    """Length, two words to mention, long words and one other kind, none of them looked up in an answer."""
    values: dict[str, Value] = {
        "length": generator.randint(6, 14),
        "mention": generator.sample(vocabulary, 2),
        "start": generator.choice(STARTS),
        "letter": generator.choice(LETTERS),
        "long": None,
        "sentences": generator.randint(1, 3),
    }
    return {kind: values[kind] for kind in (*ALWAYS, generator.choice(OPTIONAL))}


def hindsight_checks(generator: random.Random, answer: str, vocabulary: set[str]) -> Checks:
    """Up to four constraints that the answer meets, so that a policy can learn to follow them from plain data."""
    words = words_of(answer)
    known = sorted(set(words) & vocabulary)
    values: dict[str, Value] = {"length": len(words), "sentences": count_sentences(answer)}
    values["start"] = answer.split()[0].strip(".,:;!?")
    if len(known) >= 2:
        values["mention"] = generator.sample(known, 2)
    if sum(map(len, set(words))) >= LONG_WORD * len(set(words)):
        values["long"] = None
    for letter, count in Counter(word[0] for word in words if word[0] in LETTERS).most_common(1):
        if count >= max(3, len(words) / 4):
            values["letter"] = letter
    chosen = generator.choice([kind for kind in OPTIONAL if kind in values])
    return {kind: values[kind] for kind in (*ALWAYS, chosen) if kind in values}
