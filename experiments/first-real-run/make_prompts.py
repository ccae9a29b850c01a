"""Split the Alpaca rows into fitting rows, RL prompts and held-out prompts.

The four parts are disjoint by normalised instruction text, and no fitting row or RL prompt nearly repeats a
held-out prompt (at least 80% of their joint words shared).

    python experiments/first-real-run/make_prompts.py --data DIR --out DIR
"""

import argparse
import gzip
import json
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tailgrad.files import replacing

RL_PROMPTS = 640
CHOOSE_PROMPTS = 48
TEST_PROMPTS = 96
NEAR_DUPLICATE = 0.8
Row = dict[str, str]


def normalised(text: str) -> str:
    """Lower-case words of `text` without punctuation, one space between them."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def count(text: str) -> int:
    """Number of whitespace-separated words."""
    return len(text.split())


def read_lines(data: Path, name: str) -> Iterator[dict[str, Any]]:
    """Rows of the gzipped JSON lines `name` of the data folder."""
    with gzip.open(data / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def read_alpaca(data: Path) -> Iterator[Row]:
    """Rows of the Alpaca file, the first of each normalised instruction (with its input) kept."""
    seen: set[str] = set()
    for row in read_lines(data, "alpaca"):
        key = normalised(row["instruction"] + " " + row["input"])
        if key and key not in seen:
            seen.add(key)
            yield row


def fits_the_policy(row: Row) -> bool:
    """Short enough for the small policy: answers are chosen short, never cut."""
    short_prompt = count(row["instruction"]) <= 25 and count(row["input"]) <= 12
    return short_prompt and 4 <= count(row["output"]) <= 34 and len(row["output"]) <= 220


def asks_in_plain_words(row: Row) -> bool:
    """May serve as an RL or held-out prompt: no input, plain ASCII, 5 to 20 words."""
    instruction = row["instruction"]
    plain = re.fullmatch(r"[A-Za-z0-9 ,.'?!:;()-]+", instruction) is not None
    return plain and not row["input"] and 5 <= count(instruction) <= 20 and count(row["output"]) >= 5


def near_duplicate(words: set[str], others: Iterable[set[str]]) -> bool:
    """Whether `words` shares at least NEAR_DUPLICATE of the joint words with one of `others`."""
    return any(len(words & other) >= NEAR_DUPLICATE * len(words | other) for other in others)


def without_near_duplicates(rows: list[Row], held_out: list[Row]) -> list[Row]:
    """The rows whose instruction does not nearly repeat a held-out one."""
    held_out_words = [set(normalised(row["instruction"]).split()) for row in held_out]
    return [row for row in rows if not near_duplicate(set(normalised(row["instruction"]).split()), held_out_words)]


def split_rows(rows: list[Row], seed: int) -> dict[str, list[Row]]:
    """Parts `test`, `choose`, `rl` and `fit`, disjoint by normalised instruction."""
    shuffled = rows[:]
    random.Random(seed).shuffle(shuffled)
    askable: dict[str, Row] = {}
    for row in filter(asks_in_plain_words, shuffled):
        askable.setdefault(normalised(row["instruction"]), row)
    candidates = list(askable.values())
    test, rest = candidates[:TEST_PROMPTS], candidates[TEST_PROMPTS:]
    rest = without_near_duplicates(rest, test)
    choose, rest = rest[:CHOOSE_PROMPTS], rest[CHOOSE_PROMPTS:]
    rl = without_near_duplicates(rest, choose)[:RL_PROMPTS]
    taken = {normalised(row["instruction"]) for row in test + choose + rl}
    fit = [row for row in shuffled if normalised(row["instruction"]) not in taken]
    return {"test": test, "choose": choose, "rl": rl, "fit": without_near_duplicates(fit, test + choose)}


def user_turn(row: Row) -> list[Row]:
    """The instruction, with its input on a line of its own, as a chat prompt."""
    content = "\n".join(part.strip() for part in (row["instruction"], row["input"]) if part.strip())
    return [{"role": "user", "content": content}]


def write_lines(path: Path, rows: Iterable[dict[str, object]]) -> None:
    """Write JSON lines; the file appears complete or not at all."""
    with replacing(path) as unfinished:
        unfinished.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def make_prompts(data: Path, out: Path, seed: int = 0) -> None:
    """Write `{rl,choose,test}.jsonl` (prompt, instruction) and `{fit,eval}.jsonl` (prompt, completion)."""
    out.mkdir(parents=True, exist_ok=True)
    parts = split_rows([row for row in read_alpaca(data) if fits_the_policy(row)], seed)
    for name in ("rl", "choose", "test"):
        rows = parts[name]
        write_lines(out / f"{name}.jsonl", ({"prompt": user_turn(r), "instruction": r["instruction"]} for r in rows))
    for name, rows in (("eval", parts["test"] + parts["choose"]), ("fit", parts["fit"])):  # with the last all are there
        turns = ((user_turn(r), [{"role": "assistant", "content": r["output"].strip()}]) for r in rows)
        write_lines(out / f"{name}.jsonl", ({"prompt": p, "completion": c} for p, c in turns))
    print({name: len(rows) for name, rows in parts.items()})


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with alpaca.jsonl.gz")
    parser.add_argument("--out", type=Path, required=True, help="folder for the prompt files")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    make_prompts(args.data, args.out, args.seed)


if __name__ == "__main__":
    main()
