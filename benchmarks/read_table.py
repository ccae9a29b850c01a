"""Processor time and peak memory of `tailgrad curve` on large rollout tables, each read in a process of its own.

    python benchmarks/read_table.py

Responses have 300 characters and 75 tokens. The tables are written to a temporary folder, one at a time (the largest is
4 GB), and removed. Prints the table of benchmarks/README.md.
"""

import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tailgrad import __version__
from tailgrad.rollouts.parquet import arrow_schema
from tailgrad.rollouts.table import COLUMNS, METADATA_KEY

CHARACTERS, TOKENS = 300, 75
METADATA = {"sampling": {"temperature": 1.0, "top_p": 1.0, "top_k": 0}, "reward": "rm", "reference": "sft"}
SCHEMA = arrow_schema(COLUMNS, {METADATA_KEY: json.dumps(METADATA).encode()})
CURVE = r"""
import re, sys, time
from pathlib import Path
from tailgrad.cli.main import main
start = time.process_time()
assert main(["curve", sys.argv[1], "--out", sys.argv[2]]) == 0
peak = re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text()).group(1)
print("took", time.process_time() - start, int(peak) * 1024)
"""


def rows(generator: np.random.Generator, letters: np.ndarray, ids: np.ndarray, indices: np.ndarray) -> pa.Table:
    """Rows of a table: responses cut from one long text, and random numbers."""
    count = len(ids)
    starts = generator.integers(len(letters) - CHARACTERS, size=count)
    texts = letters[starts[:, None] + np.arange(CHARACTERS)].tobytes()
    offsets = np.arange(count + 1, dtype=np.int32)
    tokens = generator.integers(50_000, size=count * TOKENS, dtype=np.int32)
    values = {
        "prompt_id": ids,
        "prompt": [f"Question {number}: {'what is it? ' * 20}" for number in ids],
        "response": pa.StringArray.from_buffers(count, pa.py_buffer(offsets * CHARACTERS), pa.py_buffer(texts)),
        "response_index": indices,
        "num_tokens": np.full(count, TOKENS),
        "finished": generator.random(count) < 0.9,
        "token_ids": pa.ListArray.from_arrays(offsets * TOKENS, tokens),
    }
    numbers = {name: generator.normal(size=count) for name, kind in COLUMNS.items() if kind == "float64"}
    columns = [pa.array(values.get(name, numbers.get(name))) for name in COLUMNS]
    return pa.table(columns, names=list(COLUMNS)).cast(SCHEMA)


def write(path: Path, prompts: int, n: int, *, shuffled: bool, row_group: int) -> None:
    """Write a table, its rows in order or in any order."""
    generator = np.random.default_rng(0)
    letters = np.frombuffer(" ".join(f"word{number}" for number in range(50_000)).encode(), np.uint8)
    order = generator.permutation(prompts * n) if shuffled else np.arange(prompts * n)
    with pq.ParquetWriter(path, SCHEMA, write_page_checksum=True) as writer:
        for start in range(0, len(order), row_group):
            ids, indices = np.divmod(order[start : start + row_group], n)
            writer.write_table(rows(generator, letters, ids, indices))


def main() -> None:
    """Write, read and remove one table after another."""
    print(f"\n{platform.processor() or platform.machine()}, pyarrow {pa.__version__}, tailgrad {__version__}\n")
    print("| prompts x responses | rows | file | seconds | peak memory |\n|---|---|---|---|---|")
    tables = [
        (1000, 4096, False, 4096),
        (1000, 4096, True, 2**18),
        (40_000, 256, False, 256),
        (40_000, 256, True, 2**18),
    ]
    for prompts, n, shuffled, row_group in tables:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "table.parquet"
            write(path, prompts, n, shuffled=shuffled, row_group=row_group)
            command = [sys.executable, "-c", CURVE, str(path), f"{folder}/report"]
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            seconds, peak = map(float, printed.rpartition("took")[2].split())
            order = "in any order" if shuffled else "in order"
            size = path.stat().st_size / 1e9
            print(
                f"| {prompts:,} x {n:,} | {order} | {size:.1f} GB | {seconds:.0f} | {peak / 1e9:.2f} GB |", flush=True
            )


if __name__ == "__main__":
    main()
