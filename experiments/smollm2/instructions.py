"""Make the prompts: Alpaca instructions and first questions of HH-helpful, as they are and with graded constraints.

    python experiments/smollm2/instructions.py --data DIR|hub [--out DIR]

Writes `instructions-PART.jsonl` and `constraints-PART.jsonl` for each part: `train` (for RL), `choose` (to choose
settings on) and `test` (held out: nothing is trained or chosen on it). Both have the same instructions in the same
order, in turn from Alpaca and from HH, so that the first rows of a file are half of each; the column `source` says
which. In `constraints` every instruction carries small-instruct's random constraints, which its reward reads from the
column `checks`. No prompt shares 80% of its words with one of another part, whichever set that is from.
`--data hub` first makes the data folder from public data sets.
"""

import argparse
import random
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "small-instruct"))
sys.path.append(str(Path(__file__).resolve().parents[1] / "first-real-run"))
from hub_data import NAMES, make_data
from make_prompts import without_near_duplicates, write_lines
from prompts import Row, frequent_words, plain, read_instructions, split, with_random_checks, without_repeats

HERE = Path(__file__).resolve().parent
SETS = ("alpaca", "hh")
HELD_OUT = {"test": 64, "choose": 64}
TRAIN = 512
SPARE = 256
"""Training prompts looked at beyond `TRAIN`: some nearly repeat a held-out prompt of the other set."""


def is_usable(row: Row) -> bool:
    """Four to thirty plain words."""
    return 4 <= len(row["instruction"].split()) <= 30 and plain(row["instruction"])


def parts_of(rows: dict[str, list[Row]], generator: random.Random) -> dict[str, dict[str, list[Row]]]:
    """The parts of each set, none nearly alike another part of either set.

    Raises:
        ValueError: A set has too few prompts.
    """
    found: dict[str, dict[str, list[Row]]] = {}
    held_out: list[Row] = []
    for name, given in rows.items():
        found[name] = split(without_near_duplicates(given, held_out), generator, {**HELD_OUT, "train": TRAIN + SPARE})
        held_out += [row for part in HELD_OUT for row in found[name][part]]
    for name, parts in found.items():
        parts["train"] = without_near_duplicates(parts["train"], held_out)[:TRAIN]
        if len(parts["train"]) < TRAIN:
            needed = TRAIN + sum(HELD_OUT.values())
            raise ValueError(
                f"{name} has {len(rows[name])} usable prompts, of which {len(parts['train'])} are left to train on; "
                f"{needed} that differ are needed. Give more data."
            )
    return found


def in_turn(parts: dict[str, dict[str, list[Row]]], part: str) -> list[Row]:
    """The rows of one part, one of each set in turn, with their source."""
    named = ([row | {"source": name} for row in parts[name][part]] for name in parts)
    return list(chain.from_iterable(zip(*named, strict=True)))


def as_they_are(rows: list[Row]) -> Iterator[dict[str, Any]]:
    """Prompts as `tailgrad` reads them."""
    for row in rows:
        prompt = [{"role": "user", "content": row["instruction"]}]
        yield {"prompt": prompt, "instruction": row["instruction"], "source": row["source"]}


def with_constraints(rows: list[Row], vocabulary: list[str], generator: random.Random) -> Iterator[dict[str, Any]]:
    """The same with random constraints, which stand in the column `checks` too."""
    for row, asked in zip(rows, with_random_checks(rows, vocabulary, generator), strict=True):
        yield asked | {"source": row["source"]}


def make_prompts(data: Path, out: Path, seed: int) -> dict[str, int]:
    """Write every file; the number of prompts of each part is returned."""
    generator = random.Random(seed)
    rows = {name: without_repeats(filter(is_usable, found)) for name, found in read_instructions(data, SETS).items()}
    parts = parts_of(rows, generator)
    vocabulary = frequent_words(row for name in SETS for row in parts[name]["train"])
    out.mkdir(parents=True, exist_ok=True)
    sizes = {}
    for part in (*HELD_OUT, "train"):
        chosen = in_turn(parts, part)
        write_lines(out / f"instructions-{part}.jsonl", as_they_are(chosen))
        write_lines(out / f"constraints-{part}.jsonl", with_constraints(chosen, vocabulary, generator))
        sizes[part] = len(chosen)
    return sizes


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help='folder with the gzipped JSON lines, or "hub"')
    parser.add_argument("--out", type=Path, default=HERE / "artifacts" / "prompts", help="folder for the prompts")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    data = HERE / "artifacts" / "data" if args.data == "hub" else Path(args.data)
    try:
        if args.data == "hub" and not (data / "alpaca.jsonl.gz").exists():
            make_data(data, {name: NAMES[name] for name in SETS})
        sizes = make_prompts(data, args.out, args.seed)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f"{args.out}: " + ", ".join(f"{size:,} prompts to {part}" for part, size in sizes.items()))


if __name__ == "__main__":
    main()
