"""The words of the quickstart task: eight topics, a few function words, and the classes of both."""

from __future__ import annotations

from typing import Final

TOPICS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "sea": {
        "noun": ("harbor", "sailor", "wave", "anchor", "lighthouse", "net", "captain", "shell"),
        "adjective": ("salty", "deep", "stormy", "blue"),
        "verb": ("sailed", "drifted", "splashed", "anchored", "floated"),
    },
    "farm": {
        "noun": ("barn", "hen", "farmer", "tractor", "meadow", "fence", "goat", "harvest"),
        "adjective": ("muddy", "ripe", "sunny", "wooden"),
        "verb": ("plowed", "grazed", "planted", "gathered", "clucked"),
    },
    "kitchen": {
        "noun": ("oven", "spoon", "cook", "soup", "butter", "kettle", "recipe", "loaf"),
        "adjective": ("warm", "sweet", "spicy", "fresh"),
        "verb": ("boiled", "stirred", "tasted", "baked", "simmered"),
    },
    "forest": {
        "noun": ("oak", "fox", "trail", "mushroom", "owl", "ranger", "branch", "undergrowth"),
        "adjective": ("shady", "mossy", "wild", "silent"),
        "verb": ("rustled", "wandered", "crept", "howled", "climbed"),
    },
    "city": {
        "noun": ("tram", "tower", "street", "crowd", "bakery", "bridge", "musician", "apartment"),
        "adjective": ("busy", "narrow", "bright", "modern"),
        "verb": ("hurried", "rattled", "waited", "honked", "gleamed"),
    },
    "sky": {
        "noun": ("moon", "cloud", "comet", "pilot", "rainbow", "thunder", "star", "constellation"),
        "adjective": ("distant", "pale", "golden", "endless"),
        "verb": ("soared", "glowed", "faded", "thundered", "circled"),
    },
    "school": {
        "noun": ("teacher", "pencil", "lesson", "desk", "pupil", "library", "bell", "notebook"),
        "adjective": ("curious", "clever", "eager", "patient"),
        "verb": ("studied", "whispered", "listened", "answered", "laughed"),
    },
    "winter": {
        "noun": ("snow", "sled", "icicle", "scarf", "blizzard", "mitten", "frost", "fireplace"),
        "adjective": ("cold", "frozen", "white", "quiet"),
        "verb": ("shivered", "melted", "skated", "slid", "sparkled"),
    },
}
"""Topic -> word class -> words. No word belongs to two topics."""

FUNCTION_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "determiner": ("the", "a", "one", "every", "some"),
    "preposition": ("near", "over", "under", "behind", "beyond", "with", "by", "toward"),
    "conjunction": ("and", "while", "then", "but"),
    "adverb": ("slowly", "softly", "often", "again", "suddenly", "together", "always", "carefully"),
}
"""Word class -> words that belong to no topic."""

TOPIC_OF: Final[dict[str, str]] = {
    word: topic for topic, classes in TOPICS.items() for words in classes.values() for word in words
}
CLASS_OF: Final[dict[str, str]] = {
    word: word_class
    for classes in (*TOPICS.values(), FUNCTION_WORDS)
    for word_class, words in classes.items()
    for word in words
} | {",": "comma", ".": "stop"}

MAY_FOLLOW: Final[dict[str, frozenset[str]]] = {
    "start": frozenset({"determiner", "adverb"}),
    "determiner": frozenset({"adjective", "noun"}),
    "adjective": frozenset({"adjective", "noun"}),
    "noun": frozenset({"verb", "preposition", "conjunction", "adverb", "stop"}),
    "verb": frozenset({"preposition", "determiner", "adverb", "conjunction", "stop"}),
    "preposition": frozenset({"determiner"}),
    "conjunction": frozenset({"determiner", "adverb"}),
    "adverb": frozenset({"verb", "determiner", "stop", "conjunction"}),
    "comma": frozenset(),
    "stop": frozenset(),
}
"""The word classes that may follow a word class in a sentence."""
