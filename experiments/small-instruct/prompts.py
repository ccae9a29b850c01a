"""Make the prompt sets and the fitting text from the data folder.

    python experiments/small-instruct/prompts.py --data DIR --out DIR

Two prompt sets, Alpaca instructions and the first turns of HH-helpful, each in three parts: `train` (for RL), `choose`
(to choose settings on) and `test` (held out: nothing is fitted, trained or chosen on them). Every prompt carries
random constraints (`constraints.py`). The fitting text is `plain.jsonl` (stories, books, dialogues, explanations)
and `tune.jsonl` (instruction and answer, most with constraints that the answer meets); no row of it shares 80% of its
words with a held-out or choosing instruction.
"""

import argparse
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from constraints import asked_prompt, hindsight_checks, random_checks, words_of

sys.path.append(str(Path(__file__).resolve().parents[1] / "first-real-run"))
from make_prompts import normalised, read_lines, without_near_duplicates, write_lines
from verifier import FUNCTION_WORDS, TASK_WORDS

PARTS = {"test": 64, "choose": 48, "train": 1024}
WITH_CHECKS = 0.75
ANSWER_WORDS = 20
MENTIONED = slice(60, 660)
"""Ranks of the content words that prompts ask to mention."""
Row = dict[str, str]


def first_sentences(text: str, most_words: int) -> str:
    """As many whole first sentences of the first paragraph as fit in so many words; empty if none does."""
    paragraph = " ".join(text.strip().split("\n", 1)[0].split())
    kept = ""
    for sentence in re.findall(r".+?[.!?](?=\s|$)[\"']?|.+$", paragraph):
        if len((kept + sentence).split()) > most_words:
            break
        kept += sentence
    return kept.strip()


def plain(text: str) -> bool:
    """Words and ordinary punctuation only: no code, formula or foreign script."""
    return re.fullmatch(r"[A-Za-z0-9 ,.'\"?!:;()$%-]+", text) is not None


def read_instructions(data: Path, names: Iterable[str]) -> dict[str, list[Row]]:
    """Instruction and answer of every row of these files of the data folder, by prompt set."""
    found: dict[str, list[Row]] = {name: [] for name in names}
    if "alpaca" in found:
        for row in read_lines(data, "alpaca"):
            text = " ".join(f"{row['instruction']} {row['input']}".split())
            found["alpaca"].append({"instruction": text, "answer": row["output"]})
    if "hh" in found:
        for row in read_lines(data, "hh_helpful_pairs"):
            answer = row["chosen"] if len(row["turns"]) == 1 else row["turns"][1][1]
            found["hh"].append({"instruction": " ".join(row["first_prompt"].split()), "answer": answer})
    if "dolly" in found:
        for row in read_lines(data, "dolly"):
            found["dolly"].append({"instruction": " ".join(row["instruction"].split()), "answer": row["response"]})
    return found


def without_repeats(rows: Iterable[Row]) -> list[Row]:
    """The first row of each instruction, punctuation and capitals aside."""
    kept: dict[str, Row] = {}
    for row in rows:
        kept.setdefault(normalised(row["instruction"]), row)
    return list(kept.values())


def instruction_rows(data: Path) -> dict[str, list[Row]]:
    """Instruction and shortened answer of every usable row, by the prompt set that it belongs to."""
    found = read_instructions(data, ("alpaca", "hh", "dolly"))
    for name, rows in found.items():
        for row in rows:
            row["answer"] = first_sentences(row["answer"], ANSWER_WORDS)
        found[name] = without_repeats(filter(_is_short, rows))
    return found


def _is_short(row: Row) -> bool:
    short = 3 <= len(row["instruction"].split()) <= 30 and len(row["answer"].split()) >= 3
    return short and plain(row["instruction"]) and plain(row["answer"])


def split(rows: list[Row], generator: random.Random, sizes: dict[str, int]) -> dict[str, list[Row]]:
    """The parts of one prompt set, `train` the last of them; no two parts are nearly alike."""
    rest = rows[:]
    generator.shuffle(rest)
    parts: dict[str, list[Row]] = {}
    for part, size in sizes.items():
        parts[part], rest = rest[:size], rest[size:]
        rest = without_near_duplicates(rest, parts[part]) if part != "train" else rest
    return parts


def frequent_words(rows: Iterable[Row]) -> list[str]:
    """Content words of four to eight letters, by the number of answers that hold them, MENTIONED of them."""
    counts = Counter(word for row in rows for word in set(words_of(row["answer"])))
    skipped = FUNCTION_WORDS | TASK_WORDS
    usable = [word for word in counts if re.fullmatch("[a-z]{4,8}", word) and word not in skipped]
    return sorted(usable, key=lambda word: (-counts[word], word))[MENTIONED]  # sets have another order in every process


def with_random_checks(rows: list[Row], vocabulary: list[str], generator: random.Random) -> Iterator[dict[str, Any]]:
    """Prompts as `tailgrad` reads them; the reward finds its constraints in the column `checks`."""
    for row in rows:
        checks = random_checks(generator, vocabulary)
        content = asked_prompt(row["instruction"], checks)
        prompt = [{"role": "user", "content": content}]
        yield {"prompt": prompt, "instruction": row["instruction"], "checks": json.dumps(checks)}


def tuning_rows(rows: list[Row], vocabulary: set[str], generator: random.Random) -> Iterator[dict[str, Any]]:
    """Chats to fit the policy on."""
    for row in rows:
        checks = hindsight_checks(generator, row["answer"], vocabulary) if generator.random() < WITH_CHECKS else {}
        question = {"role": "user", "content": asked_prompt(row["instruction"], checks)}
        yield {"prompt": [question], "completion": [{"role": "assistant", "content": row["answer"]}]}


def plain_texts(data: Path) -> Iterator[str]:
    """Paragraphs of stories, books, dialogues and explanations."""
    for row in read_lines(data, "fairytaleqa_stories"):
        yield from (" ".join(section.split()) for section in row["sections"])
    for row in read_lines(data, "gutenberg_children"):
        yield from (" ".join(text.split()) for text in re.split(r"\n\s*\n", row["text"]) if len(text.split()) > 20)
    for row in read_lines(data, "flan_cot"):
        if plain(row["rationale"]):
            yield row["rationale"]
    for row in read_lines(data, "schema_guided_dialogues"):
        if row["id"].endswith("0"):
            yield " ".join(text for _, text in row["turns"])


def make_prompts(data: Path, out: Path, seed: int) -> None:
    """Write `{alpaca,hh}-{train,choose,test}.jsonl`, `plain.jsonl`, `tune.jsonl` and `eval.jsonl`."""
    out.mkdir(parents=True, exist_ok=True)
    generator = random.Random(seed)
    rows = instruction_rows(data)
    askable = {name: [r for r in rows[name] if 4 <= len(r["instruction"].split()) <= 16] for name in ("alpaca", "hh")}
    parts = {name: split(given, generator, PARTS) for name, given in askable.items()}
    held_out = [row for name in parts for part in ("test", "choose") for row in parts[name][part]]
    parts = {
        name: {
            part: without_near_duplicates(chosen, held_out) if part == "train" else chosen
            for part, chosen in found.items()
        }
        for name, found in parts.items()
    }
    fit = without_near_duplicates([row for name in rows for row in rows[name]], held_out)
    vocabulary = frequent_words(fit)
    for name, found in parts.items():
        for part, chosen in found.items():
            write_lines(out / f"{name}-{part}.jsonl", with_random_checks(chosen, vocabulary, generator))
    generator.shuffle(fit)
    texts = list(plain_texts(data))
    generator.shuffle(texts)
    write_lines(out / "plain.jsonl", ({"text": text} for text in texts))
    write_lines(out / "tune.jsonl", tuning_rows(fit, set(vocabulary), generator))
    write_lines(out / "eval.jsonl", tuning_rows(held_out, set(vocabulary), generator))
    sizes = {f"{name}-{part}": len(chosen) for name, found in parts.items() for part, chosen in found.items()}
    print(json.dumps(sizes | {"tune": len(fit), "plain": len(texts)}))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the gzipped JSON lines")
    parser.add_argument("--out", type=Path, required=True, help="folder for prompts and text")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    make_prompts(args.data, args.out, args.seed)


if __name__ == "__main__":
    main()
