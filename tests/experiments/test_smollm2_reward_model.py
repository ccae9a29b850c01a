"""The reward model of the SmolLM2 experiment: pairs with length held level, their report, and a small training."""

import gzip
import json
import random
import shutil
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file
from transformers import AutoTokenizer, set_seed
from trl import RewardTrainer

from tailgrad.rewards import RewardModel
from tiny_policies import CHAT_TEMPLATE, WORDS, save_policy

FOLDER = Path(__file__).resolve().parents[2] / "experiments" / "smollm2"


@pytest.fixture
def modules(script: Callable[[str], ModuleType]) -> dict[str, ModuleType]:
    return {name: script(f"smollm2/{name}") for name in ("preference_pairs", "pair_report")}


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

    def words(chat: list[dict[str, str]]) -> int:
        return sum(1 + len(message["content"].split()) for message in chat)

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


@pytest.fixture
def training(script: Callable[[str], ModuleType], modules: dict[str, ModuleType], tmp_path: Path) -> Any:
    """A function that trains a tiny reward model for four steps into a folder, as the script's command does."""
    reward_model = script("smollm2/reward_model")
    policy = save_policy(tmp_path / "policy", pad_token="</s>", chat_template=CHAT_TEMPLATE)
    tokenizer = AutoTokenizer.from_pretrained(policy, padding_side="right", pad_token="[UNK]")
    pairs = [modules["preference_pairs"].Pair([{"role": "user", "content": w}], f"{w} one", "two") for w in WORDS[5:]]

    def train(name: str, **changes: Any) -> dict[str, Any]:
        given = {"model_name_or_path": policy, "epochs": 2.0, "learning_rate": 0.02, "dtype": "float32", "seed": 3}
        args = Namespace(out=tmp_path / name, **given | changes)
        last = script("first-real-run/unfinished").take_up(args.out / "fit", reward_model.what_decides(args, pairs))
        set_seed(0)
        seconds = reward_model.fit(args, tokenizer, pairs, last)
        return {"last": last, "seconds": seconds, "weights": load_file(args.out / "model.safetensors")}

    return SimpleNamespace(train=train, module=reward_model, pairs=pairs, out=tmp_path)


def test_an_interrupted_training_ends_with_the_same_weights(training: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training.module, "PAIRS_PER_STEP", 4)
    monkeypatch.setattr(training.module, "SAVED_EVERY", 1)
    step, steps = RewardTrainer.training_step, []

    def counted(*args: Any, **kwargs: Any) -> Any:
        steps.append(len(steps) + 1)
        if steps[-1] == 4 + 3:
            raise KeyboardInterrupt
        return step(*args, **kwargs)

    monkeypatch.setattr(RewardTrainer, "training_step", counted)
    whole = training.train("whole")
    with pytest.raises(KeyboardInterrupt):
        training.train("cut")
    (training.out / "cut" / "fit" / "checkpoint-3").mkdir()  # cut off while it was written
    resumed = training.train("cut")
    assert (whole["last"], Path(resumed["last"]).name) == (None, "checkpoint-2")
    assert whole["weights"].keys() == resumed["weights"].keys()
    for name, tensor in whole["weights"].items():
        assert tensor.equal(resumed["weights"][name]), name
    again = training.train("cut")  # killed while the model was saved
    assert (Path(again["last"]).name, again["seconds"]) == ("checkpoint-4", None)
    assert all(tensor.equal(again["weights"][name]) for name, tensor in whole["weights"].items())
    assert len(steps) == 4 + 3 + 2 + 0


def test_a_fit_of_other_pairs_another_model_or_other_settings_is_not_taken_up(
    training: Any, script: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    module, folder, take_up = training.module, tmp_path / "fit", script("first-real-run/unfinished").take_up
    policy, other = tmp_path / "policy", save_policy(tmp_path / "other", seed=1)
    given = {"model_name_or_path": policy, "epochs": 1.0, "learning_rate": 0.1, "dtype": "float32", "seed": 0}
    settings = module.what_decides(Namespace(**given), training.pairs)
    assert take_up(folder, settings) is None
    assert take_up(folder, settings) is None
    moved = shutil.copytree(policy, tmp_path / "moved")
    assert (
        take_up(folder, module.what_decides(Namespace(**given | {"model_name_or_path": moved}), training.pairs)) is None
    )
    changes = {"epochs": 2.0, "learning_rate": 0.2, "dtype": "bfloat16", "seed": 1}
    for name, value in changes.items():
        with pytest.raises(ValueError, match=f"with another {name}: {given[name]!r} there, {value!r} now"):
            take_up(folder, module.what_decides(Namespace(**given | {name: value}), training.pairs))
    with pytest.raises(ValueError, match="another model"):
        take_up(folder, module.what_decides(Namespace(**given | {"model_name_or_path": other}), training.pairs))
    with pytest.raises(ValueError, match="another pairs"):
        take_up(folder, module.what_decides(Namespace(**given), training.pairs[1:]))
    (folder / "settings.json").unlink()
    (folder / "checkpoint-20").mkdir()
    with pytest.raises(ValueError, match="does not say how it was begun"):
        take_up(folder, settings)


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
    assert not (tmp_path / "out" / "fit").exists()

    model = RewardModel(str(tmp_path / "out"))
    assert model.model.config.pad_token_id not in (None, model.tokenizer.eos_token_id)
    prompts = [[{"role": "user", "content": "three"}]] * 3
    answers = [[{"role": "assistant", "content": text}] for text in ("five one", "five five five six one", "two")]
    together = model(prompts=prompts, completions=answers)
    alone = [model(prompts=[prompt], completions=[answer])[0] for prompt, answer in zip(prompts, answers, strict=True)]
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)
