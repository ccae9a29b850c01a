"""IFEval's kinds of instructions that a response of 64 tokens can follow, and can fail to follow.

Each has a test of its arguments, and a draw of random ones for prompts to train on. Without a draw it stands in
IFEval's own prompts alone. Three of IFEval's 25 kinds are left out:

| kind | why |
|---|---|
| `language:response_language` | the policy writes English |
| `length_constraints:number_sentences`, `change_case:capital_word_frequency` | they need files that nltk downloads |

Of the others, arguments are left out that ask for more than fits, such as 100 words, or for nothing, such as fewer than
300 words.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from string import ascii_lowercase
from typing import Any, NamedTuple

Kwargs = dict[str, Any]
Words = list[str]
RELATIONS = ("less than", "at least")
FREQUENT_LETTERS = "aeilnorst"
ENDINGS = ("Is there anything else I can help with?", "Any other questions?", "That is all you need to know.")
MOST_INSTRUCTIONS = 3
CASES = {"change_case:english_capital", "change_case:english_lowercase"}
CONTRADICTIONS = {"detectable_format:multiple_sections": CASES}
"""What IFEval would combine although the one's check needs a capital and small letters."""


class Kind(NamedTuple):
    """What fits into a short response, and random arguments.

    Attributes:
        fits: Whether the instruction can be both followed and missed in 64 tokens.
        draw: Random arguments, from a generator and content words of the prompt; it takes the words that it uses.
        words: Number of words that `draw` takes.
    """

    fits: Callable[[Kwargs], bool]
    draw: Callable[[random.Random, Words], Kwargs] | None = None
    words: int = 0


def always(_: Kwargs) -> bool:
    """Nothing to measure: it has no arguments, or all of them fit."""
    return True


def at_most(name: str, most: int) -> Callable[[Kwargs], bool]:
    """Whether an argument is a number up to `most`."""
    return lambda kwargs: 1 <= kwargs[name] <= most


def drawn(name: str, least: int, most: int) -> Callable[[random.Random, Words], Kwargs]:
    """One argument that is a whole number."""
    return lambda generator, _: {name: generator.randint(least, most)}


def nothing(generator: random.Random, words: Words) -> Kwargs:
    """No arguments."""
    return {}


def _letter_fits(kwargs: Kwargs) -> bool:
    # for anything but a letter the check takes a random one
    return kwargs["letter"].lower() in ascii_lowercase and 1 <= kwargs["let_frequency"] <= 20


def _frequent_word(generator: random.Random, words: Words) -> Kwargs:
    relation = generator.choice(RELATIONS)
    return {"relation": relation, "keyword": words.pop(), "frequency": generator.randint(2, 4)}


def _letter(generator: random.Random, words: Words) -> Kwargs:
    relation = generator.choice(RELATIONS)
    number = generator.randint(4, 10) if relation == "less than" else generator.randint(8, 20)
    return {"let_relation": relation, "letter": generator.choice(FREQUENT_LETTERS), "let_frequency": number}


def _length(generator: random.Random, words: Words) -> Kwargs:
    return {"relation": generator.choice(RELATIONS), "num_words": generator.randint(15, 40)}


def _first_word(generator: random.Random, words: Words) -> Kwargs:
    number = generator.randint(2, 3)
    return {"num_paragraphs": number, "nth_paragraph": generator.randint(1, number), "first_word": words.pop()}


def _sections(generator: random.Random, words: Words) -> Kwargs:
    return {"section_spliter": generator.choice(("Section", "SECTION")), "num_sections": generator.randint(2, 3)}


KINDS: Mapping[str, Kind] = {
    "keywords:existence": Kind(
        lambda kwargs: len(kwargs["keywords"]) <= 6, lambda _, words: {"keywords": [words.pop(), words.pop()]}, 2
    ),
    "keywords:frequency": Kind(at_most("frequency", 5), _frequent_word, 1),
    "keywords:forbidden_words": Kind(always, lambda _, words: {"forbidden_words": [words.pop(), words.pop()]}, 2),
    "keywords:letter_frequency": Kind(_letter_fits, _letter),
    "length_constraints:number_words": Kind(at_most("num_words", 40), _length),
    "length_constraints:number_paragraphs": Kind(at_most("num_paragraphs", 4), drawn("num_paragraphs", 2, 3)),
    "length_constraints:nth_paragraph_first_word": Kind(at_most("num_paragraphs", 3), _first_word, 1),
    "detectable_content:number_placeholders": Kind(at_most("num_placeholders", 5), drawn("num_placeholders", 1, 4)),
    "detectable_content:postscript": Kind(
        always, lambda generator, _: {"postscript_marker": generator.choice(("P.S.", "P.P.S"))}
    ),
    "detectable_format:number_bullet_lists": Kind(at_most("num_bullets", 5), drawn("num_bullets", 2, 4)),
    "detectable_format:constrained_response": Kind(always),
    "detectable_format:number_highlighted_sections": Kind(at_most("num_highlights", 4), drawn("num_highlights", 1, 3)),
    "detectable_format:multiple_sections": Kind(at_most("num_sections", 3), _sections),
    "detectable_format:json_format": Kind(always, nothing),
    "detectable_format:title": Kind(always, nothing),
    "combination:two_responses": Kind(always, nothing),
    "combination:repeat_prompt": Kind(lambda kwargs: len(kwargs["prompt_to_repeat"].split()) <= 25),
    "startend:end_checker": Kind(
        lambda kwargs: len(kwargs["end_phrase"].split()) <= 12,
        lambda generator, _: {"end_phrase": generator.choice(ENDINGS)},
    ),
    "startend:quotation": Kind(always, nothing),
    "change_case:english_capital": Kind(always, nothing),
    "change_case:english_lowercase": Kind(always, nothing),
    "punctuation:no_comma": Kind(always, nothing),
}


def all_fit(instructions: Sequence[str], arguments: Sequence[Kwargs]) -> bool:
    """Whether every instruction of a prompt can be followed in 64 tokens."""
    pairs = zip(instructions, arguments, strict=True)
    return all(kind in KINDS and KINDS[kind].fits(kwargs) for kind, kwargs in pairs)


def go_together(kind: str, chosen: Sequence[str], conflicts: Mapping[str, AbstractSet[str]]) -> bool:
    """Whether a kind may stand beside the kinds that are chosen already."""

    def clash(one: str, other: str) -> bool:
        return other in conflicts[one] or other in CONTRADICTIONS.get(one, set())

    return not any(clash(kind, other) or clash(other, kind) for other in chosen)


def random_instructions(
    generator: random.Random, words: Sequence[str], conflicts: Mapping[str, AbstractSet[str]]
) -> dict[str, Kwargs]:
    """One to three kinds that go together, with random arguments.

    Args:
        generator: Where all randomness comes from.
        words: Distinct content words of the prompt, lower-case letters alone.
        conflicts: The kinds that IFEval does not combine with each kind.

    Returns:
        Arguments by kind.
    """
    number = generator.randint(1, MOST_INSTRUCTIONS)
    left = generator.sample(list(words), len(words))
    kinds = [kind for kind, row in KINDS.items() if row.draw]
    chosen: dict[str, Kwargs] = {}
    for kind in generator.sample(kinds, len(kinds)):
        draw = KINDS[kind].draw
        if draw and len(chosen) < number and KINDS[kind].words <= len(left) and go_together(kind, [*chosen], conflicts):
            chosen[kind] = draw(generator, left)
    return chosen
