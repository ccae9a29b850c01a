"""The rewards of the SmolLM2 experiment: pairs with length held level, their report, and IFEval's verifier."""

import gzip
import json
import random
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tailgrad.rewards import RewardModel
from tailgrad.rollouts.prompts import load_prompts
from tiny_policies import CHAT_TEMPLATE, save_policy

FOLDER = Path(__file__).resolve().parents[2] / "experiments" / "smollm2"


@pytest.fixture
def modules(script: Callable[[str], ModuleType]) -> dict[str, ModuleType]:
    """Its scripts that need no verifier."""
    names = ("preference_pairs", "pair_report", "ifeval_kinds", "ifeval_prompts")
    return {name: script(f"smollm2/{name}") for name in names}


def upper_or_short(response: str, kind: str, **kwargs: Any) -> bool:
    """What the stand-in of lm-eval checks."""
    return response.isupper() if kind == "upper" else len(response) <= kwargs["most"]


@pytest.fixture
def verifier(
    modules: dict[str, ModuleType], script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> ModuleType:
    """The reward with a stand-in of lm-eval that knows two kinds, and describes every kind by its arguments."""

    def strict(given: Any, response: str) -> SimpleNamespace:
        kwargs = [{name: value for name, value in one.items() if value} for one in given.kwargs]
        pairs = zip(given.instruction_id_list, kwargs, strict=True)
        return SimpleNamespace(follow_instruction_list=[upper_or_short(response, kind, **one) for kind, one in pairs])

    kinds = modules["ifeval_kinds"].KINDS

    def described(kind: str) -> Any:
        return lambda _: SimpleNamespace(build_description=lambda **given: f"Do {kind} {json.dumps(given)}.")

    registry = SimpleNamespace(
        INSTRUCTION_DICT={kind: described(kind) for kind in kinds},
        INSTRUCTION_CONFLICTS={kind: {kind} for kind in kinds},
        conflict_make=lambda given: given,
    )
    example = lambda key, kinds, prompt, kwargs: SimpleNamespace(instruction_id_list=kinds, kwargs=kwargs)  # noqa: E731
    utils = SimpleNamespace(InputExample=example, test_instruction_following_strict=strict)
    stand_ins = {
        "langdetect": SimpleNamespace(DetectorFactory=SimpleNamespace(seed=None)),
        "lm_eval": SimpleNamespace(),
        "lm_eval.tasks": SimpleNamespace(),
        "lm_eval.tasks.ifeval": SimpleNamespace(instructions_registry=registry, utils=utils),
    }
    for name, module in stand_ins.items():
        monkeypatch.setitem(sys.modules, name, module)
    return script("smollm2/ifeval")


def pair(modules: dict[str, ModuleType], first: str, chosen: int, rejected: int) -> Any:
    asked = [{"role": "user", "content": first}]
    return modules["preference_pairs"].Pair(asked, "a " * chosen, "b " * rejected, chosen, rejected)


def random_pairs(modules: dict[str, ModuleType], number: int) -> list[Any]:
    """Pairs of which the longer answer is preferred in three of four."""
    generator = random.Random(0)
    lengths = [sorted((generator.randint(5, 60), generator.randint(5, 60))) for _ in range(number)]
    turned = [(low, high) if generator.random() < 0.25 else (high, low) for low, high in lengths]
    return [pair(modules, f"question {i % (number // 2)}", *both) for i, both in enumerate(turned)]


def test_length_says_nothing_about_which_answer_is_preferred(modules: dict[str, ModuleType]) -> None:
    pairs = modules["preference_pairs"]
    given = random_pairs(modules, 400)
    kept = pairs.level(given, random.Random(1))
    chosen, rejected = np.array([[one.chosen_tokens, one.rejected_tokens] for one in kept]).T
    ratios = np.maximum(chosen, rejected) / np.minimum(chosen, rejected)
    bounds = [1, *pairs.RATIOS, np.inf]
    for low, high in pairwise(bounds):
        inside = (ratios >= low) & (ratios < high)
        assert (inside & (chosen > rejected)).sum() == (inside & (chosen < rejected)).sum() > 0
    assert len({id(one) for one in kept}) == len(kept)
    fewer = sum(one.chosen_tokens < one.rejected_tokens for one in given)
    assert len(kept) >= 2 * 0.9 * fewer
    assert kept == pairs.level(given, random.Random(1))


def test_no_first_question_is_on_both_sides(modules: dict[str, ModuleType]) -> None:
    pairs = modules["preference_pairs"]
    given = [*random_pairs(modules, 100), pair(modules, "QUESTION 3?", 5, 6)]
    train, held_out = pairs.split_by_prompt(given, random.Random(0))
    assert len(train) + len(held_out) == len(given)
    assert not {one.first for one in train} & {one.first for one in held_out}
    assert len({one.first for one in held_out}) == round(pairs.HELD_OUT_SHARE * 50)


def test_only_chats_that_alternate_and_pairs_with_a_majority_are_read(
    modules: dict[str, ModuleType], tmp_path: Path
) -> None:
    chat = [["Human", "Which tea?"], ["Assistant", "Green."], ["Human", " Why? "]]
    rows = [{"turns": turns, "chosen": "So.", "rejected": "No."} for turns in (chat, chat[:2], [chat[0], chat[2]], [])]
    voted = [{"prompt": "Which?", "a": "A.", "b": "B.", "votes": votes} for votes in ([2, 0, 2], [1], [1, 2], [0, 0])]
    voted.append({"prompt": "Which?", "a": "Same.", "b": "Same. ", "votes": [1]})
    for name, given in (("hh_helpful_pairs", rows), ("human_pairs_misc", voted)):
        with gzip.open(tmp_path / f"{name}.jsonl.gz", "wt") as lines:
            lines.writelines(json.dumps(row) + "\n" for row in given)
    found = modules["preference_pairs"].read_pairs(str(tmp_path))
    assert [(one.first, one.chosen, one.rejected) for one in found] == [
        ("which tea", "So.", "No."),
        ("which", "B.", "A."),
        ("which", "A.", "B."),
    ]
    assert [message["role"] for message in found[0].chat("chosen")] == ["user", "assistant", "user", "assistant"]
    assert found[0].prompt[-1]["content"] == "Why?"


def test_answers_are_counted_without_the_chat_and_long_chats_left_out(modules: dict[str, ModuleType]) -> None:
    given = [pair(modules, "one two", 3, 5), pair(modules, "one two three", 3, 5)]
    words = lambda chat: sum(1 + len(message["content"].split()) for message in chat)  # noqa: E731
    (found,) = modules["preference_pairs"].counted(given, words, 9)
    assert (found.chosen_tokens, found.rejected_tokens) == (4, 6)


def test_a_model_that_counts_tokens_is_shown_as_one(modules: dict[str, ModuleType]) -> None:
    report = modules["pair_report"]
    given = random_pairs(modules, 200)
    tokens = np.array([[one.chosen_tokens, one.rejected_tokens] for one in given], dtype=float)
    found = report.accuracies(given, tokens[:, 0] - tokens[:, 1])
    means = {name: row["interval"].mean for name, row in found.items()}
    assert means["the longer was preferred"][0] == 1
    assert means["the shorter was preferred"][0] == 0
    assert all(row["interval"].high[2] == 0 for row in found.values())
    assert means["all"][1] == pytest.approx(0.75, abs=0.1)
    assert found["lengths within 20%"]["pairs"] == (tokens.min(axis=1) >= 0.8 * tokens.max(axis=1) - 1e-9).sum()
    assert report.length_correlation(given, tokens).low[0] == pytest.approx(1)
    assert report.length_correlation(given, -tokens).high[0] == pytest.approx(-1)
    noise = np.random.default_rng(0).normal(size=tokens.shape)
    correlation = report.length_correlation(given, noise)
    assert correlation.low[0] < 0 < correlation.high[0]


def test_every_first_question_counts_once(modules: dict[str, ModuleType]) -> None:
    given = [pair(modules, "a", 5, 5), pair(modules, "a", 5, 5), pair(modules, "b", 5, 5)]
    row = modules["pair_report"].accuracies(given, np.array([1.0, -1.0, 1.0]))["all"]
    assert row["interval"].mean.tolist() == [(0.5 + 1) / 2, 0.5, 0.25]  # equal lengths count half
    assert (row["pairs"], row["interval"].prompts[0]) == (3, 2)


def test_random_instructions_fit_and_go_together(modules: dict[str, ModuleType]) -> None:
    kinds = modules["ifeval_kinds"]
    words = ["energy", "water", "river", "stone", "cloud"]
    conflicts = {kind: {kind} for kind in kinds.KINDS} | {"punctuation:no_comma": {"startend:quotation"}}
    seen, numbers = set(), set()
    for seed in range(400):
        drawn = kinds.random_instructions(random.Random(seed), words, conflicts)
        assert drawn == kinds.random_instructions(random.Random(seed), words, conflicts)
        assert kinds.all_fit([*drawn], [*drawn.values()])
        used = [word for one in drawn.values() for word in str(one).replace("'", " ").split() if word in words]
        assert len(used) == len(set(used))
        assert not {"punctuation:no_comma", "startend:quotation"} <= set(drawn)
        assert "detectable_format:multiple_sections" not in drawn or not kinds.CASES & set(drawn)
        seen |= set(drawn)
        numbers.add(len(drawn))
    assert seen == {kind for kind, row in kinds.KINDS.items() if row.draw}
    assert numbers == {1, 2, 3}
    assert not any(
        "keywords:existence" in kinds.random_instructions(random.Random(i), ["one"], conflicts) for i in range(99)
    )


@pytest.mark.parametrize(
    ("kind", "kwargs"),
    [
        ("length_constraints:number_words", {"relation": "less than", "num_words": 300}),
        ("keywords:letter_frequency", {"let_relation": "at least", "letter": "#", "let_frequency": 4}),
        ("language:response_language", {"language": "fa"}),
        ("length_constraints:number_sentences", {"relation": "less than", "num_sentences": 3}),
        ("combination:repeat_prompt", {"prompt_to_repeat": "word " * 40}),
    ],
)
def test_what_64_tokens_cannot_do_is_left_out(
    modules: dict[str, ModuleType], kind: str, kwargs: dict[str, Any]
) -> None:
    assert modules["ifeval_kinds"].all_fit(["punctuation:no_comma"], [{}])
    assert not modules["ifeval_kinds"].all_fit(["punctuation:no_comma", kind], [{}, kwargs])


def test_the_reward_is_the_share_of_instructions_followed(verifier: ModuleType) -> None:
    instructions, kwargs = [["upper", "short"]] * 4, [[{"most": None}, {"most": 3}]] * 4
    responses = ["ABC", "ABCD", "abcd", [{"role": "assistant", "content": "abc"}]]
    given = {"prompts": responses, "instruction_id_list": instructions, "kwargs": kwargs, "answer": responses}
    assert verifier.followed(responses, **given) == [1.0, 0.5, 0.0, 0.5]
    assert verifier.strict(responses, **given) == [1.0, 0.0, 0.0, 0.0]


def test_without_the_verifier_the_error_says_what_to_install(
    modules: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "langdetect", None)
    from tailgrad.rewards import import_reward

    with pytest.raises(ValueError, match=r"pip install 'lm_eval\[ifeval\]'"):
        import_reward("ifeval.followed")


def written_prompts(folder: Path) -> None:
    texts = [f"Describe the river number {i} and its water" for i in range(12)] + ["Name a green tea leaf"]
    rows = [
        {"prompt": "Name a green tea leaf, without commas, in a poem.", "instruction_id_list": ["punctuation:no_comma"]}
    ]
    rows.append({"prompt": "Write 900 words.", "instruction_id_list": ["length_constraints:number_words"]})
    kwargs: list[list[dict[str, Any]]] = [[{}], [{"relation": "at least", "num_words": 900}]]
    folder.mkdir()
    with gzip.open(folder / "ifeval.jsonl.gz", "wt") as lines:
        for i, row in enumerate(rows):
            lines.write(json.dumps({"key": i, **row, "kwargs": kwargs[i]}) + "\n")
    for part in ("train", "choose"):
        lines_of = [json.dumps({"prompt": [], "instruction": text}) + "\n" for text in texts]
        (folder / f"instructions-{part}.jsonl").write_text("".join(lines_of))


def test_prompts_to_train_on_keep_apart_from_those_of_ifeval(
    modules: dict[str, ModuleType], verifier: ModuleType, tmp_path: Path
) -> None:
    prompts = modules["ifeval_prompts"]
    written_prompts(tmp_path / "a")
    assert prompts.make_prompts(str(tmp_path / "a"), tmp_path / "a", 0) == {"test": 1, "choose": 12, "train": 12}
    first = {part: (tmp_path / "a" / f"ifeval-{part}.jsonl").read_bytes() for part in ("test", "choose", "train")}
    prompts.make_prompts(str(tmp_path / "a"), tmp_path / "a", 0)
    assert all((tmp_path / "a" / f"ifeval-{part}.jsonl").read_bytes() == text for part, text in first.items())
    prompts.make_prompts(str(tmp_path / "a"), tmp_path / "a", 1)
    changed = {part for part, text in first.items() if (tmp_path / "a" / f"ifeval-{part}.jsonl").read_bytes() != text}
    assert changed == {"choose", "train"}

    rows = load_prompts(str(tmp_path / "a" / "ifeval-train.jsonl"), split="train").rows
    assert not any("green tea" in row["prompt"][0]["content"] for row in rows)
    for row in rows:  # read as `tailgrad` does, every argument of every kind stands in each row
        given = [{name: value for name, value in one.items() if value} for one in row["kwargs"]]
        sentences = [verifier.sentence_of(*one) for one in zip(row["instruction_id_list"], given, strict=True)]
        for sentence in sentences:
            kind = sentence.split()[1]
            assert f"Do {kind} " in row["prompt"][0]["content"]
        assert row["prompt"][0]["content"].startswith(row["instruction"] + ". ")


@pytest.fixture
def lm_eval_verifier(script: Callable[[str], ModuleType]) -> ModuleType:
    reason = (
        "IFEval's checks come from lm-eval, 38 packages that nothing else here needs: pip install 'lm_eval[ifeval]'"
    )
    pytest.importorskip("lm_eval", reason=reason)
    return script("smollm2/ifeval")


@pytest.mark.parametrize(
    ("response", "checks", "expected"),
    [
        (
            "I THINK YOU AGREE, AND I AGREE WITH YOU.",
            {"change_case:english_capital": {}, "punctuation:no_comma": {}},
            [1, 0],
        ),
        ("* one\n* two", {"detectable_format:number_bullet_lists": {"num_bullets": 2}}, [1]),
        ("<<Tea>>\n\nP.S. Green.", {"detectable_format:title": {}, "startend:quotation": {}}, [1, 0]),
        ("one ****** two", {"combination:two_responses": {}}, [1]),
        ("Water.", {"keywords:existence": {"keywords": ["water"]}, "detectable_format:json_format": {}}, [1, 0]),
        ("one two three", {"length_constraints:number_words": {"relation": "less than", "num_words": 3}}, [0]),
        (" ", {"punctuation:no_comma": {}}, [0]),
    ],
)
def test_the_checks_of_lm_eval(
    lm_eval_verifier: ModuleType, response: str, checks: dict[str, Any], expected: list[int]
) -> None:
    assert lm_eval_verifier.follows(response, [*checks], [*checks.values()]) == [bool(one) for one in expected]


def test_lm_eval_knows_every_kind_and_has_nothing_left_to_draw(
    modules: dict[str, ModuleType], lm_eval_verifier: ModuleType
) -> None:
    kinds, conflicts = modules["ifeval_kinds"], lm_eval_verifier.conflicts()
    assert set(kinds.KINDS) < set(conflicts)
    for seed in range(100):
        drawn = kinds.random_instructions(random.Random(seed), ["energy", "water", "river", "stone"], conflicts)
        assert not any(other in conflicts[kind] for kind in drawn for other in set(drawn) - {kind})
        for kind, kwargs in drawn.items():
            sentences = set()
            for state in range(3):
                random.seed(state)
                sentences.add(lm_eval_verifier.sentence_of(kind, kwargs))
            assert len(sentences) == 1


@pytest.mark.nightly
def test_a_reward_model_learns_what_people_preferred_and_loads_as_one(tmp_path: Path) -> None:
    words = ["one", "two", "three", "four", "five", "six", "seven"]
    generator = random.Random(0)
    rows = []
    for i in range(160):
        answers = [" ".join(generator.choices(words[2:], k=generator.randint(3, 6))) for _ in range(2)]
        asked = " ".join(words[int(digit)] for digit in f"{i:03d}".translate(str.maketrans("789", "654")))
        turns = [["Human", f"{asked} {i}"]]
        rows.append({"turns": turns, "chosen": f"{answers[0]} one", "rejected": f"{answers[1]} two"})
    data = tmp_path / "data"
    data.mkdir()
    for name, given in (("hh_helpful_pairs", rows), ("human_pairs_misc", [])):
        with gzip.open(data / f"{name}.jsonl.gz", "wt") as lines:
            lines.writelines(json.dumps(row) + "\n" for row in given)
    policy = save_policy(tmp_path / "policy", pad_token="</s>", chat_template=CHAT_TEMPLATE)
    excluded = tmp_path / "test.jsonl"
    excluded.write_text(json.dumps({"prompt": [{"role": "user", "content": rows[0]["turns"][0][1]}]}) + "\n")
    options = ["--data", data, "--model_name_or_path", policy, "--out", tmp_path / "out", "--exclude", excluded]
    options += ["--epochs", 12, "--learning_rate", 0.02]
    command = [sys.executable, FOLDER / "reward_model.py", *options]
    subprocess.run([str(word) for word in command], check=True, capture_output=True, cwd=tmp_path)
    found = json.loads((tmp_path / "out" / "accuracy.json").read_text())
    assert found["held_out"]["all"]["model"]["low"] > 0.8
    assert found["held_out"]["all"]["pairs"] + found["train_pairs"] <= len(rows) - 1
    assert "lengths within 20%" in (tmp_path / "out" / "accuracy.md").read_text()

    model = RewardModel(str(tmp_path / "out"))
    assert model.model.config.pad_token_id not in (None, model.tokenizer.eos_token_id)
    prompts = [[{"role": "user", "content": "three"}]] * 3
    answers = [[{"role": "assistant", "content": text}] for text in ("five one", "five five five six one", "two")]
    together = model(prompts=prompts, completions=answers)
    alone = [model(prompts=[prompt], completions=[answer])[0] for prompt, answer in zip(prompts, answers, strict=True)]
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)
