"""A graded verifier of a response against its instruction: nothing in it is learned.

The reward is a weighted sum of eight parts, each between 0 and 1, less for responses of one or two words; its
maximum is 10. The keywords are the instruction's words without function words and task verbs; content words
are the words of the response that are not function words; repeats are content words and pairs of words that
occurred before.

    part       weight  formula
    topic       3.00   own * mean over keywords of the best Dice overlap of letter pairs with a content word
    placement   1.25   own * mean over keywords of that overlap * (1 - |position - ideal|): positions are
                       shares of the response, the ideals spread the keywords evenly and in their order
    novelty     1.00   new * (1 - copied)
    length      1.50   words / target or target / words, whichever is below 1, of `target_words`
    variety     0.75   1 - 3 repeats / words
    balance     0.50   exp(-((share of function words - 0.42) / 0.25)^2)
    wording     1.25   mean letters of the distinct content words, from 0 at 3 letters to 1 at 10
    form        0.75   mean of six graded checks: `form_checks`

    copied = longest run of words taken from the instruction / words of the instruction
    new    = share of content words that the instruction does not have
    own    = min(1, 2 (1 - copied), 2 new)
    reward = min(1, words / 3) * sum of weight * part

The parts oppose one another: repeated keywords or a copied instruction lose topic, placement and
novelty; long words alone cost topic and balance; an empty response gets 0.
"""

import math
import re
from collections import Counter
from itertools import pairwise


def words_of(text: str) -> list[str]:
    """Lower-case words and numbers of a text."""
    return re.findall(r"[a-z]+(?:'[a-z]+)?|\d+", text.lower())


FUNCTION_WORDS = frozenset(
    words_of(
        """
        a about above after again all also although am an and any are as at be because been before being
        between both but by can could did do does doing during each for from had has have having he her here
        him his how i if in into is it its itself may me might more most must my no nor not of off on once
        one only or other our out over own same shall she should so some such than that the their them then
        there these they this those through to too under until up upon us very was we were what when where
        whether which while who whom whose why will with within without would you your
        """
    )
)
TASK_WORDS = frozenset(
    words_of(
        """
        add answer arrange brainstorm calculate categorize choose classify come compose compute construct
        convert create define describe design determine devise develop edit estimate example examples
        explain find following generate give given identify list make name names outline output please
        produce propose provide recommend rewrite select sentence sentences state suggest summarize tell two
        three four five six seven eight nine ten use using word words write
        """
    )
)
NUMBERS = {name: i for i, name in enumerate(words_of("two three four five six seven eight nine ten"), start=2)}
ARTICLES = frozenset({"a", "an", "the"})
WEIGHTS = {
    "topic": 3.0,
    "placement": 1.25,
    "novelty": 1.0,
    "length": 1.5,
    "variety": 0.75,
    "balance": 0.5,
    "wording": 1.25,
    "form": 0.75,
}
MAXIMUM = sum(WEIGHTS.values())


def keywords_of(instruction: str) -> list[str]:
    """Distinct words of the instruction that are neither function words nor task words, in order."""
    words = [word for word in words_of(instruction) if word not in FUNCTION_WORDS and len(word) > 2]
    return list(dict.fromkeys([word for word in words if word not in TASK_WORDS] or words)) or ["answer"]


def target_words(instruction: str) -> int:
    """Length of a fitting response in words: 4 + 3 an item for a list, else by the kind of request.

    Example:
        >>> target_words("Name three fruits."), target_words("Describe a sunset.")
        (13, 24)
    """
    words = words_of(instruction)
    items = [NUMBERS.get(word) or (int(word) if word.isdigit() else 0) for word in words]
    requested = next((count for count in items if 2 <= count <= 10), 0)
    if requested:
        return min(4 + 3 * requested, 28)
    if words and words[0] in {"describe", "explain", "how", "compose", "design", "summarize"}:
        return 24
    short = {"what", "which", "name", "identify", "find", "who", "calculate"}
    return 12 if words and words[0] in short else 17


def letter_pairs(word: str) -> set[str]:
    """Pairs of neighbouring letters of a word with its ends marked."""
    return {left + right for left, right in pairwise(f"^{word}$")}


def closest(keyword: str, words: list[str]) -> tuple[float, int]:
    """Largest Dice overlap of letter pairs between a keyword and the words, and where it is first reached."""
    wanted, candidates = letter_pairs(keyword), map(letter_pairs, words)
    overlaps = [2 * len(wanted & found) / (len(wanted) + len(found)) for found in candidates]
    best = max(overlaps)
    return best, overlaps.index(best)


def topic_and_placement(words: list[str], keywords: list[str]) -> tuple[float, float]:
    """How well the keywords are taken up, and how evenly and in order they lie over the response."""
    matches = [closest(keyword, [w if w not in FUNCTION_WORDS else "" for w in words]) for keyword in keywords]
    ideals = [(i + 0.5) / len(keywords) for i in range(len(keywords))]
    placed = [
        overlap * (1 - abs((at + 0.5) / len(words) - ideal))
        for (overlap, at), ideal in zip(matches, ideals, strict=True)
    ]
    return sum(overlap for overlap, _ in matches) / len(matches), sum(placed) / len(placed)


def longest_copied_run(words: list[str], source: list[str]) -> int:
    """Length of the longest run of words that also stands in the source."""
    longest, previous = 0, [0] * (len(source) + 1)
    for word in words:
        current = [0] * (len(source) + 1)
        for j, other in enumerate(source):
            current[j + 1] = previous[j] + 1 if word == other else 0
        longest, previous = max(longest, *current), current
    return longest


def form_checks(text: str, words: list[str]) -> list[float]:
    """Graded checks of sentence form, each between 0 and 1."""
    slips = sum(
        (left in ARTICLES and right in FUNCTION_WORDS - {"most", "other", "same", "very"})
        or (left == "a" and right[0] in "aeio")
        or (left == "an" and right[0] not in "aeiouh8")
        or left == right
        for left, right in pairwise(words)
    )
    sentences = re.findall(r"[^.!?]+[.!?]*", text)
    capital = [bool(re.match(r"\W*[A-Z0-9]", sentence)) for sentence in sentences]
    odd = len(re.findall(r"[^\w\s.,!?;:'\"()-]|\s[,.;:!?]|[,.;:!?]{2,}|\n\s*\n|_", text))
    return [
        1.0 if re.search(r"[.!?][\"')]?$", text) else 0.0,
        sum(capital) / len(capital) if capital else 0.0,
        max(0.0, 1 - 5 * slips / len(words)),
        max(0.0, 1 - 5 * odd / len(words)),
        1.0 if text.count('"') % 2 == 0 and text.count("(") == text.count(")") else 0.0,
        0.0 if words[-1] in FUNCTION_WORDS else 1.0,
    ]


def parts(response: str, instruction: str) -> dict[str, float]:
    """The eight parts of the reward of a response that has at least one word."""
    text, words, source = response.strip(), words_of(response), words_of(instruction)
    content = [word for word in words if word not in FUNCTION_WORDS]
    topic, placement = topic_and_placement(words, keywords_of(instruction))
    copied = longest_copied_run(words, source) / max(len(source), 1)
    new = sum(word not in source for word in content) / max(len(content), 1)
    own = min(1.0, 2 * (1 - copied), 2 * new)
    repeats = len(content) - len(set(content))
    repeats += sum(count - 1 for count in Counter(pairwise(words)).values())
    function_share = 1 - len(content) / len(words)
    letters = sum(map(len, set(content))) / max(len(set(content)), 1)
    target = target_words(instruction)
    checks = form_checks(text, words)
    return {
        "topic": own * topic,
        "placement": own * placement,
        "novelty": new * (1 - copied),
        "length": min(len(words) / target, target / len(words)),
        "variety": max(0.0, 1 - 3 * repeats / len(words)),
        "balance": math.exp(-(((function_share - 0.42) / 0.25) ** 2)),
        "wording": min(1.0, max(0.0, (letters - 3) / 7)),
        "form": sum(checks) / len(checks),
    }


def reward_of(response: str, instruction: str) -> float:
    """Reward of one response, 0 to 10.

    Example:
        >>> reward_of("", "Describe the taste of chocolate.")
        0.0
    """
    words = words_of(response)
    if not words:
        return 0.0
    graded = parts(response, instruction)
    return min(1.0, len(words) / 3) * sum(WEIGHTS[name] * value for name, value in graded.items())


def text_of(completion: str | list[dict[str, str]]) -> str:
    """Text of a completion, which is a string or a list of chat messages."""
    return completion if isinstance(completion, str) else completion[-1]["content"]


def score(completions: list[str | list[dict[str, str]]], instruction: list[str], **_: object) -> list[float]:
    """Rewards of a batch, as TRL and tailgrad call it: one completion and one `instruction` per response."""
    return [reward_of(text_of(given), asked) for given, asked in zip(completions, instruction, strict=True)]
