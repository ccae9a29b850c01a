"""The quickstart's prompts, verifier and reference corpus."""

import random
from typing import Any

import pytest

from tailgrad.quickstart import task
from tailgrad.quickstart.corpus import MAX_RESPONSE_TOKENS, build_corpus, write_response
from tailgrad.quickstart.lexicon import CLASS_OF, TOPICS
from tailgrad.quickstart.policy import build_model, build_tokenizer
from tailgrad.quickstart.task import SPLITS, build_prompts, draw_row, grade, verifier


def row(kind: str, **columns: Any) -> dict[str, Any]:
    empty = {"topic": "sea", "other_topic": "", "keywords": "", "letter": "", "length": 4}
    return {"kind": kind} | empty | columns


def test_splits_are_large_enough_disjoint_and_always_the_same() -> None:
    prompts = {split: [r["prompt"] for r in build_prompts(split)] for split in SPLITS}
    assert len(set(prompts["train"])) >= 200
    assert len(set(prompts["test"])) >= 50
    everything = [prompt for split in prompts.values() for prompt in split]
    assert len(set(everything)) == len(everything)
    assert build_prompts("test") == build_prompts("test")
    assert {r["kind"] for r in build_prompts("test")} == set(task.TEMPLATES)
    with pytest.raises(ValueError, match="train, validation, test"):
        build_prompts("dev")


def test_words_belong_to_one_topic_and_one_class() -> None:
    words = [word for classes in TOPICS.values() for group in classes.values() for word in group]
    assert len(set(words)) == len(words)


@pytest.mark.parametrize(
    ("part", "response", "columns", "expected"),
    [
        (task.length_fit, "a net a net a", {}, 3 / 4),
        (task.length_fit, "net , net", {}, 1 / 2),
        (task.length_fit, "a a a a a a a a a a", {}, 0.0),
        (task.on_topic, "the net near a barn and a wave", {}, 2 / 3),
        (task.on_topic, "the near", {}, 0.0),
        (task.both_topics, "net wave barn", {"other_topic": "farm"}, 2 / 3),
        (task.grammar, "the net drifted .", {}, 1.0),
        (task.grammar, "the net drifted", {}, 0.8),
        (task.grammar, "net the .", {}, 0.0),
        (task.commas, "barn , hen .", {}, 1.0),
        (task.commas, "barn hen .", {}, 2 / 4),
        (task.variety, "net net wave barn", {}, 3 / 4),
        (task.variety, "net", {}, 1 / 4),
        (task.keywords_early, "the net and a wave", {"keywords": "net and wave"}, (4 / 5 + 1 / 5) / 2),
        (task.keywords_early, "the barn", {"keywords": "net and wave"}, 0.0),
        (task.starts_and_ends, "net barn hen wave", {"keywords": "net and wave"}, 1.0),
        (task.starts_and_ends, "barn net wave hen", {"keywords": "net and wave"}, 3 / 4),
        (task.alphabetical, "a c b", {}, 2 * 2 / 3 - 1),
        (task.alphabetical, "c b a", {}, 0.0),
        (task.letter_in_front, "net new barn hen the", {"letter": "n"}, 1.5 * 2 / 5),
        (task.letter_in_front, "net new barn", {"letter": "n"}, 1.5 * 2 / 4),
        (task.growing, "a net barn thunder", {}, 1.0),
        (task.growing, "net a barn hen", {}, 2 * 3.5 / 6 - 1),
    ],
)
def test_a_part_by_hand(part, response, columns, expected) -> None:
    assert part(response.split(), row("letter", **columns)) == pytest.approx(expected, abs=1e-12)


def test_a_grade_is_the_weighted_mean_of_squared_parts() -> None:
    # alphabetical 1/3 (2 of 3 pairs), on topic 2/3, length 1, commas 1, variety 3/4 (of four at least)
    graded = grade("barn , wave , net .", row("list", length=3))
    expected = 10 * (3 / 9 + 3 * 4 / 9 + 1.5 + 1 + 1.5 * 9 / 16) / 10
    assert graded == pytest.approx(expected, abs=1e-12)


def test_no_response_breaks_the_verifier_and_all_grades_are_in_range() -> None:
    rng = random.Random(0)
    words = [*CLASS_OF, "<unk>", "42", "…"]
    for _ in range(2000):
        response = " ".join(rng.choices(words, k=rng.randrange(0, 32)))
        assert 0.0 <= grade(response, draw_row(rng)) <= task.MAX_REWARD
    rows = build_prompts("test")[:3]
    columns = {name: [r[name] for r in rows] for name in rows[0] if name != "prompt"}
    assert verifier(completions=["", ".", "the"], prompts=["x"] * 3, trainer_state=None, **columns)[0] == 0.0


def test_the_corpus_leaves_out_held_out_prompts_and_fits_the_policy() -> None:
    held_out = {r["prompt"] for split in ("validation", "test") for r in build_prompts(split)}
    corpus = build_corpus(3000, seed=1)
    assert not held_out & {pair["prompt"] for pair in corpus}
    tokenizer = build_tokenizer()
    assert len(tokenizer) <= 512
    lengths = [len(tokenizer(pair["completion"]).input_ids) for pair in corpus]
    assert max(lengths) < MAX_RESPONSE_TOKENS
    text = " ".join(pair["prompt"] + pair["completion"] for pair in corpus)
    assert tokenizer.unk_token_id not in tokenizer(text).input_ids
    assert tokenizer.decode(tokenizer(corpus[0]["prompt"]).input_ids) == corpus[0]["prompt"]
    assert 200_000 <= build_model(tokenizer).num_parameters() <= 500_000


def test_care_pays_in_the_corpus() -> None:
    """A prompt's own corpus response beats the response written for another prompt."""
    rng = random.Random(2)
    rows = [draw_row(rng) for _ in range(600)]
    responses = [write_response(r, rng) for r in rows]
    own = sum(grade(text, r) for text, r in zip(responses, rows, strict=True)) / 600
    others = sum(grade(text, r) for text, r in zip(responses[1:] + responses[:1], rows, strict=True)) / 600
    assert own > others + 1.0
