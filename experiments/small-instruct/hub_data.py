"""Make the data folder of this experiment from public data sets of the hub.

    python experiments/small-instruct/hub_data.py --out DIR [--alpaca NAME] [--dolly NAME] [--hh NAME] [--stories NAME]

Writes the gzipped JSON lines that `prompts.py` and `reward_model.py` read. The stories stand in the place of all plain
text and the HH pairs in that of all preference pairs, so that four of the files are empty. A NAME may be a local folder
in the hub's format.
"""

import argparse
import gzip
import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from datasets import Dataset, load_dataset

from tailgrad.files import replacing

NAMES = {
    "alpaca": "tatsu-lab/alpaca",
    "dolly": "databricks/databricks-dolly-15k",
    "hh": "Anthropic/hh-rlhf",
    "stories": "roneneldan/TinyStories",
}
MOST_STORIES, MOST_PAIRS = 20_000, 6_000
EMPTY = ("human_pairs_misc", "flan_cot", "gutenberg_children", "schema_guided_dialogues")
Row = dict[str, Any]


def rows_of(name: str, split: str = "train", **options: str) -> Dataset:
    """One split of a data set."""
    return load_dataset(name, split=split, **options)


def alpaca_rows(rows: Iterable[Row]) -> Iterator[Row]:
    """Instruction, input and output."""
    yield from ({key: row[key] for key in ("instruction", "input", "output")} for row in rows)


def dolly_rows(rows: Iterable[Row]) -> Iterator[Row]:
    """Instruction and response of the rows that need no context."""
    yield from ({key: row[key] for key in ("instruction", "response")} for row in rows if not row["context"].strip())


def turns_of(transcript: str) -> list[list[str]]:
    r"""Pairs of speaker and text of a transcript.

    Example:
        >>> turns_of("\n\nHuman: Hi.\n\nAssistant: Hello!")
        [['Human', 'Hi.'], ['Assistant', 'Hello!']]
    """
    parts = re.split(r"\n\n(Human|Assistant): ?", transcript)[1:]
    return [[speaker, text.strip()] for speaker, text in zip(parts[::2], parts[1::2], strict=True)]


def hh_rows(rows: Iterable[Row]) -> Iterator[Row]:
    """The turns before the answers that were compared, the first of them, and the two answers."""
    for row in rows:
        *turns, (speaker, chosen) = turns_of(row["chosen"])
        *others, (_, rejected) = turns_of(row["rejected"])
        if turns and turns == others and speaker == "Assistant" and turns[0][0] == "Human":
            first = turns[0][1]
            yield {"turns": turns, "first_prompt": first, "chosen": chosen, "rejected": rejected}


def story_rows(rows: Iterable[Row]) -> Iterator[Row]:
    """Every story as one section."""
    yield from ({"story": str(i), "sections": [row["text"]]} for i, row in enumerate(rows))


def make_data(out: Path, names: dict[str, str]) -> None:
    """Write the files of the data folder that come of these data sets: a name each, by the keys of `NAMES`."""
    out.mkdir(parents=True, exist_ok=True)
    files: dict[str, Iterable[Row]] = dict.fromkeys(EMPTY, ())
    if "dolly" in names:
        files["dolly"] = dolly_rows(rows_of(names["dolly"]))
    if "hh" in names:
        hh = {"name": names["hh"], "data_dir": "helpful-base"}
        files["hh_helpful_pairs"] = islice(hh_rows(rows_of(**hh)), MOST_PAIRS)
    if "stories" in names:
        files["fairytaleqa_stories"] = islice(story_rows(rows_of(names["stories"])), MOST_STORIES)
    if "alpaca" in names:
        files["alpaca"] = alpaca_rows(rows_of(names["alpaca"]))  # last: with it the folder is whole
    for file, rows in files.items():
        lines = [json.dumps(row) + "\n" for row in rows]
        with replacing(out / f"{file}.jsonl.gz") as part, gzip.open(part, "wt", encoding="utf-8") as written:
            written.writelines(lines)
        print(f"{file}: {len(lines):,} rows", flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the data folder")
    for name, hub_name in NAMES.items():
        parser.add_argument(f"--{name}", default=hub_name, help="default: %(default)s")
    args = parser.parse_args()
    make_data(args.out, {name: getattr(args, name) for name in NAMES})


if __name__ == "__main__":
    main()
