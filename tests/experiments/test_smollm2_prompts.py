"""The prompts of the SmolLM2 experiment: which there are, and that nothing held out is trained on."""

import gzip
import json
import random
import re
from collections.abc import Callable
from itertools import combinations, product
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PARTS = {"test": 64, "choose": 64, "train": 512}
WORDS = [first + last for first, last in product(("stone", "river", "cloud", "apple"), map(chr, range(97, 123)))]


def question(generator: random.Random, first: str = "Tell") -> str:
    return " ".join([first, *generator.sample(WORDS, 6)]) + "?"


def alpaca_row(instruction: str) -> dict[str, Any]:
    return {"instruction": instruction, "input": "", "output": f"{instruction} Gladly, here are horses."}


def hh_row(instruction: str) -> dict[str, Any]:
    return {"turns": [["Human", instruction]], "first_prompt": instruction, "chosen": "Of course.", "rejected": "No."}


def write_data(folder: Path, alpaca: list[str], hh: list[str]) -> Path:
    rows = {"alpaca": map(alpaca_row, alpaca), "hh_helpful_pairs": map(hh_row, hh)}
    folder.mkdir()
    for name, given in rows.items():
        with gzip.open(folder / f"{name}.jsonl.gz", "wt") as lines:
            lines.writelines(json.dumps(row) + "\n" for row in given)
    return folder


def read(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {path.stem: [json.loads(line) for line in path.read_text().splitlines()] for path in folder.iterdir()}


@pytest.fixture
def made(script: Callable[[str], ModuleType], tmp_path: Path) -> dict[str, list[dict[str, Any]]]:
    """Every prompt of HH is an Alpaca instruction too, with a word more."""
    generator = random.Random(0)
    alpaca = [question(generator) for _ in range(1400)]
    hh = [text.replace("Tell", "Please tell") for text in generator.sample(alpaca, 700)]
    hh += [question(generator, "Say") for _ in range(700)]
    unusable = ["Too short", "Écris quatre ou cinq mots", "word " * 40]
    data = write_data(tmp_path / "data", [*alpaca, *alpaca[:99], *unusable], [*hh, *unusable])
    sizes = script("smollm2/instructions").make_prompts(data, tmp_path / "prompts", seed=0)
    assert sizes == {part: 2 * size for part, size in PARTS.items()}
    return read(tmp_path / "prompts")


def test_each_part_has_as_many_prompts_of_each_set_in_turn(made: dict[str, list[dict[str, Any]]]) -> None:
    assert set(made) == {f"{name}-{part}" for name in ("instructions", "constraints") for part in PARTS}
    for part, size in PARTS.items():
        assert [row["source"] for row in made[f"instructions-{part}"]] == ["alpaca", "hh"] * size


def test_no_two_parts_have_nearly_the_same_prompt(made: dict[str, list[dict[str, Any]]]) -> None:
    words = {
        part: [frozenset(re.findall(r"\w+", str(row["instruction"]).lower())) for row in made[f"instructions-{part}"]]
        for part in PARTS
    }
    shares = [
        len(one & other) / len(one | other)
        for first, second in combinations(PARTS, 2)
        for one, other in product(words[first], words[second])
    ]
    assert 0.3 < max(shares) < 0.8  # seven words against eight with the same seven are 7/8
    assert len({one for part in words.values() for one in part}) == 2 * sum(PARTS.values())


def test_both_kinds_ask_the_same_and_the_reward_reads_what_the_prompt_says(
    made: dict[str, list[dict[str, Any]]], script: Callable[[str], ModuleType]
) -> None:
    score = script("smollm2/graded").score
    for part in PARTS:
        plain, asked = made[f"instructions-{part}"], made[f"constraints-{part}"]
        assert [row["instruction"] for row in plain] == [row["instruction"] for row in asked]
        assert all(row["prompt"] == [{"role": "user", "content": row["instruction"]}] for row in plain)
        for row in asked:
            checks, text = json.loads(row["checks"]), row["prompt"][0]["content"]
            assert text.startswith(row["instruction"])
            assert f"Use {checks['length']} words." in text
            assert all(word in text for word in checks["mention"])
    row = made["constraints-test"][0]
    checks = json.loads(row["checks"])
    fillers = ["magnificently"] * (checks["length"] - 2)
    good = " ".join([*checks["mention"], *fillers])
    rewards = score([[{"role": "assistant", "content": text}] for text in (good, "no")], [row["checks"]] * 2)
    assert rewards[0] > 6 > rewards[1]


def test_the_same_seed_makes_the_same_files_and_too_few_prompts_are_refused(
    script: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    instructions, generator = script("smollm2/instructions"), random.Random(1)
    enough = [question(generator) for _ in range(700)]
    data = write_data(tmp_path / "data", enough, [question(generator, "Say") for _ in range(700)])
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        instructions.make_prompts(data, tmp_path / name, seed=seed)
    assert read(tmp_path / "one") == read(tmp_path / "two") != read(tmp_path / "other")
    few = write_data(tmp_path / "few", enough, [question(generator, "Say") for _ in range(500)])
    with pytest.raises(ValueError, match=r"hh has 500 usable prompts.*640"):
        instructions.make_prompts(few, tmp_path / "none", seed=0)
    assert not (tmp_path / "none").exists()
