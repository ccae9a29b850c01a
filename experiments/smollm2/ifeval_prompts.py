"""Make the prompts of IFEval: its own to test on, and instructions with its kinds of constraints to train on.

    python experiments/smollm2/ifeval_prompts.py --data DIR|google/IFEval [--out DIR]

Writes `ifeval-PART.jsonl` to `--out`, which holds the `instructions-PART.jsonl` of `instructions.py`. `test` has
prompts of IFEval that can be followed within 64 tokens (`ifeval_kinds.py`), always the same. `train` and `choose` are
the instructions of those parts with one to three random constraints in IFEval's words. None of them is part of a prompt
of IFEval, or shares 80% of its words with one. `--data` is a folder with ifeval.jsonl.gz, or the name of the data set
on the hub.
"""

import argparse
import json
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

from ifeval_kinds import Kwargs, all_fit, random_instructions

sys.path.append(str(Path(__file__).resolve().parents[1] / "first-real-run"))
from make_prompts import normalised, read_lines, without_near_duplicates, write_lines
from verifier import keywords_of

HERE = Path(__file__).resolve().parent
TEST_PROMPTS = 96
MOST_WORDS = 80
"""Of a prompt of IFEval."""
Row = dict[str, Any]


def ifeval_rows(data: str) -> list[Row]:
    """IFEval's prompts; the hub's arguments that are null are left out, as IFEval's own code does."""
    if Path(data).is_dir():
        return list(read_lines(Path(data), "ifeval"))
    from datasets import load_dataset

    rows = load_dataset(data, split="train")
    given = ([{name: value for name, value in one.items() if value} for one in row["kwargs"]] for row in rows)
    return [row | {"kwargs": kwargs} for row, kwargs in zip(rows, given, strict=True)]


def tested(rows: Sequence[Row]) -> list[Row]:
    """The held-out prompts: short ones that can be followed in 64 tokens, `TEST_PROMPTS` of them."""
    usable = [
        row
        for row in sorted(rows, key=lambda row: row["key"])
        if len(row["prompt"].split()) <= MOST_WORDS and all_fit(row["instruction_id_list"], row["kwargs"])
    ]
    return random.Random(0).sample(usable, min(TEST_PROMPTS, len(usable)))


def apart_from(rows: Sequence[Row], held_out: Sequence[str]) -> list[Row]:
    """The instructions that are no part of a held-out prompt and nearly repeat none."""
    texts = [normalised(text) for text in held_out]
    apart = [row for row in rows if not any(normalised(row["instruction"]) in text for text in texts)]
    return without_near_duplicates(apart, [{"instruction": text} for text in held_out])


def content_words(instruction: str) -> list[str]:
    """Words of an instruction that a response can be asked to use or to avoid."""
    return [word for word in keywords_of(instruction) if word.isascii() and word.isalpha() and len(word) > 3]


def as_row(text: str, instructions: Sequence[str], arguments: Sequence[Kwargs], **others: Any) -> Row:
    """A prompt as `tailgrad` reads it."""
    prompt = [{"role": "user", "content": text}]
    return {"prompt": prompt, "instruction_id_list": [*instructions], "kwargs": [*arguments], **others}


def with_instructions(
    rows: Sequence[Row],
    generator: random.Random,
    conflicts: Mapping[str, AbstractSet[str]],
    sentence_of: Callable[[str, Kwargs], str],
) -> Iterator[Row]:
    """Prompts with random constraints behind the instruction."""
    for row in rows:
        text = row["instruction"]
        checks = random_instructions(generator, content_words(text), conflicts)
        asked = [text if text[-1] in ".?!" else f"{text}.", *(sentence_of(*check) for check in checks.items())]
        yield as_row(" ".join(asked), [*checks], [*checks.values()], instruction=text)


def make_prompts(data: str, folder: Path, seed: int) -> dict[str, int]:
    """Write every file; the number of prompts of each part is returned."""
    from ifeval import conflicts, sentence_of

    rows = ifeval_rows(data)
    held_out = tested(rows)
    parts = {"test": [as_row(row["prompt"], row["instruction_id_list"], row["kwargs"]) for row in held_out]}
    generator = random.Random(seed)
    for part in ("choose", "train"):
        lines = (folder / f"instructions-{part}.jsonl").read_text(encoding="utf-8").splitlines()
        kept = apart_from([json.loads(line) for line in lines], [row["prompt"] for row in rows])
        parts[part] = list(with_instructions(kept, generator, conflicts(), sentence_of))
    for part, written in parts.items():
        write_lines(folder / f"ifeval-{part}.jsonl", written)
    return {part: len(written) for part, written in parts.items()}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help='folder with ifeval.jsonl.gz, or "google/IFEval"')
    parser.add_argument(
        "--out", type=Path, default=HERE / "artifacts" / "prompts", help="folder with instructions-PART.jsonl"
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    try:
        sizes = make_prompts(args.data, args.out, args.seed)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        parser.error(str(error))
    print(f"{args.out}: " + ", ".join(f"{size:,} prompts to {part}" for part, size in sizes.items()))


if __name__ == "__main__":
    main()
