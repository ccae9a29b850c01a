"""A large table is read for its numbers without holding its texts and tokens."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tailgrad.rollouts.parquet import arrow_schema
from tailgrad.rollouts.table import COLUMNS

PROMPTS, N, CHARACTERS, TOKENS = 16, 4096, 1000, 250
MEASURE = r"""
import re, sys
from pathlib import Path
from tailgrad.rollouts import read_rollouts

def peak():
    return int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text()).group(1))  # ru_maxrss outlives exec

few, many = sys.argv[1:]
read_rollouts(few, name="few").measures()
before = peak()
run = read_rollouts(many, name="many")
run.measures()
print(peak() - before, *run.distinct, *run.best_of_n([run.n])[:, 0])
"""


def write(path: Path, n: int, order: np.ndarray) -> None:
    """A table of which each prompt p has n - p different responses, and a best reward of n - 1 + p."""
    generator = np.random.default_rng(0)
    text = generator.integers(97, 123, CHARACTERS, dtype=np.uint8).tobytes().decode()
    ids, indices = np.divmod(order, n)
    columns = {
        "prompt_id": ids,
        "prompt": [f"{number} {text}" for number in ids],
        "response": [f"{max(index, number)} {text}" for number, index in zip(ids, indices, strict=True)],
        "response_index": indices,
        "reward": indices + ids,
        "num_tokens": np.full(len(order), TOKENS),
        "finished": np.ones(len(order), bool),
        "token_ids": pa.ListArray.from_arrays(
            np.arange(len(order) + 1, dtype=np.int32) * TOKENS,
            generator.integers(1000, size=len(order) * TOKENS, dtype=np.int32),
        ),
    }
    missing = np.full(len(order), np.nan)
    table = pa.table([pa.array(columns.get(name, missing)) for name in COLUMNS], names=list(COLUMNS))
    pq.write_table(table.cast(arrow_schema(COLUMNS)), path)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_texts_and_tokens_are_not_held(tmp_path: Path) -> None:
    write(tmp_path / "few.parquet", 4, np.arange(8))
    write(tmp_path / "many.parquet", N, np.random.default_rng(1).permutation(PROMPTS * N))
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "few.parquet"), str(tmp_path / "many.parquet")]
    grown, *values = map(float, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert values == [*(N - p for p in range(PROMPTS)), *(N - 1.0 + p for p in range(PROMPTS))]
    assert grown / 1024 < 48  # MiB; 27 were measured. The texts are 62 MiB, and the tokens as much again
