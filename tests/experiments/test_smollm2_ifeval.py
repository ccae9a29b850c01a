"""IFEval's verifier in the SmolLM2 experiment, and its prompts."""

import gzip
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tailgrad.rollouts.prompts import load_prompts


@pytest.fixture
def modules(script: Callable[[str], ModuleType]) -> dict[str, ModuleType]:
    return {name: script(f"smollm2/{name}") for name in ("ifeval_kinds", "ifeval_prompts")}


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

    def example(key: int, kinds: Any, prompt: str, kwargs: Any) -> SimpleNamespace:
        return SimpleNamespace(instruction_id_list=kinds, kwargs=kwargs)

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
