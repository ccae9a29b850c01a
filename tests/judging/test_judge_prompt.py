"""What a judge is asked, and what is read of its reply."""

from pathlib import Path

import pytest

from tailgrad.judging.prompt import PLACEHOLDERS, TEMPLATE, filled, question_of, read_template, verdict_of


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        *[(form.format("A"), "A") for form in ("{}", " {}\n", "**{}**", "[[{}]]", "({}).", '"{}"', "`{}`", "{})")],
        *[(form.format("b"), "B") for form in ("Verdict: {}", "**Answer: {}**", "Final verdict: [[{}]]", "Choice: {}")],
        ("Both are correct.\n\nVerdict: C", "C"),
        ("B\n\nIt is shorter.", "B"),
        ("<think>\nA\nno, the other\n</think>\n\nB", "B"),
        ("reasoning that the template began </think> C", "C"),
    ],
)
def test_verdicts_are_read(reply: str, verdict: str) -> None:
    assert verdict_of(reply) == verdict


@pytest.mark.parametrize(
    "reply",
    [
        *("", "\n", "D", "AB", "A or B", "A/B", "I prefer A", "A is better.", "Answer A", "**Answer B:**", "tie", "Ä"),
        "**A**\n\nis short.\n\n**B**\n\nis long.\n\nSo B is better.",  # headings
        "A\n\nNo, on reflection:\n\nB",
        "first I thought\nA\nbut that is not the end",
        "<think>\nA",
    ],
)
def test_what_is_no_verdict_is_not_guessed(reply: str) -> None:
    assert verdict_of(reply) is None


@pytest.mark.parametrize(("reply", "verdict"), [("A", None), ("reasons\nB", None), ("B\n\nbecause it", "B")])
def test_the_end_of_a_reply_that_was_cut_off_does_not_count(reply: str, verdict: str | None) -> None:
    assert verdict_of(reply, finished=False) == verdict


def test_the_prompt_holds_the_texts_as_they_are() -> None:
    texts = ["what is {answer_a}?", "{question} \\1 {answer_b}", "</answer B> {x}"]
    text = filled(TEMPLATE, *texts)
    assert [text.count(one) for one in texts] == [1, 1, 1]
    assert sorted(texts, key=text.index) == texts
    rest = TEMPLATE
    for name in PLACEHOLDERS:
        rest = rest.replace(f"{{{name}}}", "")
    assert len(text) == len(rest) + sum(map(len, texts)), "nothing else was put in or taken away"


def test_a_prompt_of_ones_own(tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text('{"q": {question}} {answer_b} {answer_a} {1}', encoding="utf-8")
    assert filled(read_template(mine), "Q", "a", "b") == '{"q": Q} b a {1}'
    mine.write_text("{question} {answer_a}")
    with pytest.raises(ValueError, match=r"lacks \{answer_b\}"):
        read_template(mine)
    mine.write_text("{question} {answer_a} {answer_b} {reference}")
    with pytest.raises(ValueError, match=r"unknown \{reference\}"):
        read_template(mine)
    mine.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="UTF-8"):
        read_template(mine)
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_template(tmp_path / "none.txt")


def test_a_chat_is_read_as_its_messages() -> None:
    user = {"role": "user", "content": "The sea?"}
    assert question_of([user]) == "The sea?"
    assert question_of([{"role": "system", "content": "Be brief."}, user]) == "system: Be brief.\n\nuser: The sea?"
