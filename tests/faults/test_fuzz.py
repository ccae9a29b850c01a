"""Random input of every kind: it is read right or refused in one line that names it, and never ends in a traceback."""

import csv
import io
import json
import math
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tailgrad.cli.curve import make_parser
from tailgrad.estimators import ESTIMATORS, bind, parse_estimator, spell_estimator
from tailgrad.grid import read_grid
from tailgrad.quickstart.task import MAX_REWARD, build_prompts, verifier
from tailgrad.rewards import checked
from tailgrad.rollouts import read_rollouts

from .conftest import GRID

AT_NIGHT: Final = pytest.param(100_000, marks=pytest.mark.nightly)
examples = pytest.mark.parametrize("examples", [150, AT_NIGHT])


def tried(examples: int, **strategies: Any) -> Callable[[Callable[..., None]], None]:
    """Run a function on so many random inputs: the same ones for every change, others every night."""

    def run(check: Callable[..., None]) -> None:
        slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
        fixed = examples < 10_000
        how = settings(
            max_examples=examples, deadline=None, database=None, derandomize=fixed, suppress_health_check=slow
        )
        how(given(**strategies)(check))()

    return run


def refused(work: Callable[[], Any], name: str = "") -> Any:
    """What it gives, whatever it warns of; None where it is refused, in one line that names what is wrong."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return work()
    except (ValueError, TypeError, FileNotFoundError) as error:
        said = str(error)
    if not said or "\n" in said or name not in said:
        pytest.fail(f"no line that names {name!r}: {said!r}")
    return None


NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
ODD: Final = [
    *("", "0", "1", "-0.5", "+2", " 3 ", "1e3", "1e-400", "1e999", ".5", "5.", "nan", "NaN", "inf", "-Infinity"),
    *("1_000", "0x10", "0b1", "true", "False", " TRUE", "yes", "1,5", "1 5", "--1", "\u00b2", "\u0663", "\uff11"),
    *("null", "None", "NA", "\x00", "\ufeff1", '"', "a\nb", "1\r", "=1+1", "\u22121", "1e", "e5", "-", ".", "1.5.2"),
    *("9" * 400, "9" * 5000),
]
CELLS: Final = st.one_of(st.sampled_from(ODD), st.floats(allow_nan=True).map(repr), st.text(max_size=6))


def number_of(cell: str) -> float | None:
    """The reward that a cell means, NaN where it is not known; None where it means none. Independent of the reader."""
    if not cell or cell.strip().lower() in ("nan", "+nan", "-nan"):
        return math.nan
    if cell.strip().lower() in ("true", "false"):
        return float(cell.strip().lower() == "true")
    cell = cell.strip()
    return float(cell) if NUMBER.fullmatch(cell) and math.isfinite(float(cell)) else None


@examples
def test_a_csv_table_has_the_numbers_of_its_cells_or_is_refused(tmp_path: Path, examples: int) -> None:
    path = tmp_path / "table.csv"
    path.write_text("")

    @tried(examples, cells=st.lists(st.tuples(st.sampled_from("abc"), CELLS), min_size=1, max_size=6))
    def check(cells: list[tuple[str, str]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text).writerows([("prompt", "reward"), *cells])
        path.write_text(text.getvalue(), newline="", encoding="utf-8", errors="surrogatepass")
        table = refused(lambda: read_rollouts(path).rewards, "table.csv")
        meant = [(prompt, number_of(cell)) for prompt, cell in cells]
        if table is None:
            unknown = all(number is None or math.isnan(number) for _, number in meant)
            assert unknown or any(number is None for _, number in meant), cells
            return
        prompts = list(dict.fromkeys(prompt for prompt, _ in meant))
        for prompt, row in zip(prompts, table, strict=True):
            numbers = [number for other, number in meant if other == prompt]
            assert None not in numbers, cells
            np.testing.assert_array_equal(row[: len(numbers)], np.array(numbers, dtype=float))
            assert np.isnan(row[len(numbers) :]).all()


JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
ROWS: Final = st.dictionaries(
    st.sampled_from(["prompt", "reward", "prompt_id", "response", "response_index", "num_tokens", "finished", "step"]),
    JSON,
    max_size=5,
)


@examples
@pytest.mark.parametrize("ending", [".jsonl", ".json"])
def test_a_json_table_has_the_numbers_of_its_rows_or_is_refused(tmp_path: Path, ending: str, examples: int) -> None:
    path = tmp_path / f"table{ending}"
    usual = st.fixed_dictionaries({"prompt": st.sampled_from("ab"), "reward": st.integers(-3, 3) | JSON})

    @tried(examples, rows=st.lists(usual | ROWS, min_size=1, max_size=4))
    def check(rows: list[dict[str, Any]]) -> None:
        lines = [json.dumps(row) for row in rows]
        path.write_text("\n".join(lines) if ending == ".jsonl" else f"[{','.join(lines)}]")
        rewards = refused(lambda: read_rollouts(path).rewards, path.name)
        if rewards is None or not all(row.keys() == {"prompt", "reward"} for row in rows):
            return
        given_ = [float("nan") if row["reward"] is None else float(row["reward"]) for row in rows]
        found = rewards[~np.isnan(rewards)]
        assert sorted(found) == sorted(number for number in given_ if not math.isnan(number))


FILES: Final = (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".npy", ".csv.gz", ".jsonl.xz", "")
NESTED: Final = [b"[" * 10**5, b'{"a":' * 10**5, b'"' * 10**4]
HEADS: Final = [b"PAR1" + bytes(40) + b"PAR1", b"\x93NUMPY\x01\x00\xff\xff", b"\x1f\x8b\x08", b"\xfd7zXZ\x00"]


@examples
def test_bytes_are_no_table_and_no_reason_for_a_traceback(tmp_path: Path, examples: int) -> None:
    @tried(examples, content=st.binary(max_size=200) | st.sampled_from(NESTED + HEADS), ending=st.sampled_from(FILES))
    def check(content: bytes, ending: str) -> None:
        path = tmp_path / f"table{ending}"
        path.write_bytes(content)
        table = refused(lambda: read_rollouts(path).rewards, path.name)
        assert table is None or (table.ndim == 2 and not np.isinf(table).any())


@examples
def test_an_array_with_a_changed_header_is_an_array_or_refused(tmp_path: Path, examples: int) -> None:
    path, buffer = tmp_path / "array.npy", io.BytesIO()
    np.save(buffer, np.arange(12.0).reshape(3, 4))
    whole = buffer.getvalue()

    @tried(examples, at=st.integers(0, 127), put=st.binary(min_size=1, max_size=4), cut=st.integers(0, 300))
    def check(at: int, put: bytes, cut: int) -> None:
        path.write_bytes((whole[:at] + put + whole[at + len(put) :])[: max(cut, at)])
        table = refused(lambda: read_rollouts(path).rewards, "array.npy")
        assert table is None or table.ndim == 2


SCALARS: Final = st.one_of(
    st.sampled_from(
        ["no", "on", "~", "~0", "2024-01-01", "1e-3", "1_0", "0o7", ".inf", "{a: b}", "[1, 2]", "[[4, 8]]"]
    ),
    st.sampled_from(
        ["!!python/object:os.system x", "&a *a", "&a [*a]", "<<: 1", "? x", "|", "!!binary aGk=", "'", "["]
    ),
    st.sampled_from(["!!bool maybe", "!!int x", "!!timestamp x", "!!omap x", "!!set x", "*b", "%", "@x", "-", ": :"]),
    st.text(max_size=8),
    JSON.map(lambda value: json.dumps(value)),
)


@examples
def test_a_grid_is_read_or_refused(tmp_path: Path, examples: int) -> None:
    path = tmp_path / "grid.yaml"
    values = GRID | {"policies": {"a": "b"}, "prompts": {"a": {name: name for name in ("train", "choose", "test")}}}
    lines = {key: f"{key}: {json.dumps(value)}" for key, value in values.items()}

    @tried(examples, changes=st.dictionaries(st.sampled_from([*values, "betas", "other"]), SCALARS, max_size=3))
    def check(changes: dict[str, str]) -> None:
        text = "\n".join((lines | {key: f"{key}: {value}" for key, value in changes.items()}).values())
        path.write_text(text, encoding="utf-8", errors="replace")
        grid = refused(lambda: read_grid(path))
        assert changes or grid is not None


@examples
def test_options_of_a_file_are_read_or_refused(tmp_path: Path, examples: int) -> None:
    path, parser = tmp_path / "options.yaml", make_parser()
    names = ["out", "seed", "budgets", "names", "tables", "deploy_n", "x"]

    @tried(examples, given_=st.dictionaries(st.sampled_from(names), SCALARS, max_size=4), text=st.text(max_size=9))
    def check(given_: dict[str, str], text: str) -> None:
        written = "\n".join([*(f"{name}: {value}" for name, value in given_.items()), text])
        path.write_text(written, encoding="utf-8", errors="replace")
        options = refused(lambda: parser.read(["a.npy", "--out", "o", "--config", str(path)]))
        assert options is None or isinstance(options.seed, int)


OPTIONS: Final = sorted({name for row in ESTIMATORS.values() for name in row.options})
VALUES: Final = ["0", "1", "4", "0.5", "-1", "nan", "inf", "1e9", "true", "loo", "none", "None", "128", "9" * 30, "0+1"]
PIECES: Final = st.sampled_from([*ESTIMATORS, *OPTIONS, *VALUES, *":,=+ -"])
CALLS: Final = st.one_of(
    st.lists(PIECES, max_size=8).map("".join),
    st.tuples(*map(st.sampled_from, ([*ESTIMATORS], OPTIONS, VALUES))).map(lambda word: "{}:{}={}".format(*word)),
    st.text(max_size=12),
)


@examples
def test_an_estimator_in_words_gives_numbers_or_is_refused(without_shape_checks: None, examples: int) -> None:
    rewards = torch.linspace(-1, 1, 32, dtype=torch.float64).reshape(2, 16).sin()

    @tried(examples, text=CALLS)
    def check(text: str) -> None:
        parsed = refused(lambda: parse_estimator(text))
        if parsed is None:
            return
        name, options = parsed
        spelled = spell_estimator(name, options)  # not the options themselves, of which one may be NaN
        assert spell_estimator(*parse_estimator(spelled)) == spelled
        needed = {"deploy_n": 64} if ESTIMATORS[name].takes_deploy_n and "deploy_n" not in options else {}
        advantages = refused(lambda: bind(name, **options | needed)(rewards))
        assert advantages is None or bool(advantages.isfinite().all()), text


@examples
def test_the_verifier_grades_any_text(examples: int) -> None:
    rows = build_prompts("train")[:12]
    words = " ".join(row["prompt"] for row in rows).split()

    @tried(examples, text=st.text() | st.lists(st.sampled_from([*words, ",", "."]), max_size=30).map(" ".join))
    def check(text: str) -> None:
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        grades = verifier(completions=[text] * len(rows), **columns)
        assert all(0 <= grade <= MAX_REWARD for grade in grades)


@examples
def test_whatever_a_reward_returns_is_a_number_for_each_rollout_or_refused(examples: int) -> None:
    objects = st.one_of(
        JSON, st.complex_numbers(), st.binary(max_size=3), st.just(np.float32(1)), st.just(torch.ones(2))
    )

    @tried(examples, values=st.lists(objects, max_size=4) | objects)
    def check(values: Any) -> None:
        reward = checked(lambda *, completions, **columns: values)
        scores = refused(lambda: reward(prompts=["a"] * 2, completions=["b"] * 2), "reward")
        if scores is None:
            return
        assert len(scores) == len(values) == 2
        for score, value in zip(scores, values, strict=True):
            unscored = value is None or math.isnan(value)
            assert (score is None) if unscored else (math.isfinite(score) and score == value)
