"""The report of a grid, from rows that no training was needed for."""

import json
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from html_pages import Page
from reports import budgets_in, numbers_in, tables_of
from tailgrad.cli.main import main
from tailgrad.grid import write_grid_report
from tailgrad.grid.gains import save_gains
from tailgrad.grid.results import COLUMNS, append_result, read_results
from tailgrad.grid.trainings import BASE
from tailgrad.report import write_page
from tailgrad.rollouts.parquet import arrow_schema
from tailgrad.statistics.intervals import Interval

LEVELS = {BASE: 0.0, "grpo": 1.0, "tea": 1.5}


def value(training, step, scored_by):
    """The gain of tea over grpo is 0.5 (0.25 after the first step), 0.1 more with the second seed."""
    extra = 0.1 * training.seed * (training.estimator == "tea")
    bonus = 7.0 * (scored_by == "judge")
    return np.arange(4.0)[:, None] + LEVELS[training.estimator] * step / 2 + extra + bonus + np.arange(5.0)


def kl(training, step):
    return float(step)


def without(rows, *names):
    return [row for row in rows if (row["split"], row["estimator"], row["seed"]) not in names]


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the figures out, which take most of the time."""
    for name in ("save_figure", "save_frontier", "save_gains"):
        monkeypatch.setattr(f"tailgrad.grid.report.{name}", lambda *arguments, **options: None)


def test_a_chosen_kl_weight_stands_beside_the_rate(make_grid, fill, tmp_path: Path, undrawn) -> None:
    config = make_grid(betas=[0.5, 0.0], choose_beta=True)
    text = write_grid_report(config, fill(config, value, kl), tmp_path / "report")
    assert text.count("## ") == 1 + 1  # the setting, and the gains
    heading, rule, *_ = text.split("\n\n")
    assert numbers_in(heading)[:2] == [8, 16], "the KL weight is that of each method"
    assert {0.003, 0.03, 0.5, 0.0} <= set(numbers_in(rule)), "what was tried"
    trained = tables_of(text)[0]
    assert "KL weight" in trained[0]
    assert {row[0]: row[1:] for row in trained}["tea"] == ["0.003", "0.5", "2", "2.0"]


def test_the_report_has_the_numbers_of_the_rows(make_grid, fill, tmp_path: Path) -> None:
    config = make_grid()
    text = write_grid_report(config, fill(config, value, kl), tmp_path / "report")
    assert (tmp_path / "report" / "grid.md").read_text() == text
    names = ["curve-1.png", "curve-1.svg", "frontier-1.png", "frontier-1.svg", "gains.png", "gains.svg"]
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == [*names, "grid.json", "grid.md"]
    (document,) = json.loads((tmp_path / "report" / "grid.json").read_text())
    assert document["setting"]["deploy_n"] == 16
    tea = next(run for run in document["runs"] if run["name"] == "tea")
    np.testing.assert_allclose([point["mean"] for point in tea["difference"]], 0.55)
    heading, rule, *_ = text.split("\n\n")
    assert all(name in heading for name in ("tiny", "tasks", "verifier"))
    assert numbers_in(heading) == [8, 16, 0]
    assert {0.003, 0.03} <= set(numbers_in(rule)), "what was tried"
    trained, *_, power, at_equal_kl, gains = tables_of(text)
    assert [row[0] for row in trained[1:]] == ["grpo", "tea"]
    assert trained[2][1:] == ["0.003", "2", "2.0"]
    assert [row[:2] for row in power[1:]] == [["tea", "+0.550"]]
    assert at_equal_kl[0][1:] == ["grpo", "tea", "tea - grpo"]
    assert gains[0] == ["setting", "base - grpo", "tea - grpo"]
    assert [row[2].split()[0] for row in gains[1:]] == ["+0.55"]
    assert set(budgets_in(text)) == {8, 16}
    write_page([tmp_path / "report"], tmp_path / "page.html")
    shown = Page((tmp_path / "page.html").read_text())
    shown.check_alone()
    drawn = [(tmp_path / "report" / name).read_text() for name in ("curve-1.svg", "frontier-1.svg", "gains.svg")]
    assert shown.figures == drawn
    assert len(shown.texts["table"]) == len(tables_of(text))


@pytest.mark.usefixtures("undrawn")
def test_what_is_not_finished_is_named(make_grid, fill, tmp_path: Path) -> None:
    config = make_grid()
    rows = fill(config, value, kl)

    def finished(*names: tuple[str, str, int]) -> tuple[str, dict[str, int]]:
        """What the report says below the methods, and the seeds of each without these rows."""
        text = write_grid_report(config, without(rows, *names), tmp_path)
        documents = json.loads((tmp_path / "grid.json").read_text())
        below = text.split("\n\n")[3 if documents else 1]
        return below, {run["name"]: run["seeds"] for document in documents for run in document["runs"]}

    for names in (("test", "tea", 0), ("choose", "tea", 0)):
        said, seeds = finished(names)
        assert "tea" in said
        assert set(seeds) == {BASE, "grpo"}
    said, seeds = finished(("test", "tea", 1))
    assert numbers_in(said) == [0, 0, 1], "seeds that are finished, of all"
    assert (seeds["grpo"], seeds["tea"]) == (1, 1)
    for names in ([("test", "grpo", 0)], [(row["split"], row["estimator"], row["seed"]) for row in rows]):
        said, seeds = finished(*names)
        assert "grpo" in said
        assert seeds == {}


@pytest.mark.usefixtures("undrawn")
def test_every_setting_and_every_reward_that_scores(make_grid, fill, tmp_path: Path) -> None:
    config = make_grid(
        rewards={"verifier": "x.y", "judge": "z.w"}, also_score=["judge"], m_and_n=[[8, 16], [8, 64]], checkpoints=None
    )
    text = write_grid_report(config, fill(config, value, kl), tmp_path)
    documents = json.loads((tmp_path / "grid.json").read_text())
    assert len(documents) == 2 * (2 + 1)
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert len(headings) == 6 + 1
    assert sum("verifier" in heading and "judge" in heading for heading in headings) == 2
    for one in documents:
        first = one["runs"][0]["v_n"][0]["mean"]
        assert first == (8.5 if one["setting"]["scored_by"] == "judge" else 1.5)


@pytest.mark.usefixtures("undrawn")
def test_numbers_of_responses_that_are_no_powers_of_two(make_grid, fill, tmp_path: Path) -> None:
    """V_N at equal KL is at an N that the checkpoints and the last step both have."""
    config = make_grid(test_n=16, checkpoint_n=6)
    assert set(budgets_in(write_grid_report(config, fill(config, value, kl), tmp_path))) == {16, 4}
    fewer = make_grid(test_n=8, checkpoint_n=8)
    assert set(budgets_in(write_grid_report(fewer, fill(fewer, value, kl), tmp_path))) == {8}


@pytest.mark.parametrize("settings", [1, 6])
def test_the_figure_of_the_gains_grows_with_its_rows(tmp_path: Path, settings: int) -> None:
    gain = Interval(*(np.array([number]) for number in (0.2, 0.1, 0.4)), np.array([9]))
    gains = {f"setting {number}": {"tea": gain, "grpo": None, "base": gain} for number in range(settings)}
    save_gains(gains, tmp_path / "gains", reference="grpo")
    height, width = matplotlib.image.imread(tmp_path / "gains.png").shape[:2]
    assert 1200 <= width <= 2000
    assert height > 150 * settings


@pytest.mark.usefixtures("undrawn")
def test_a_report_without_training(make_grid, fill, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = make_grid()
    for row in fill(config, value, kl):
        append_result(config.results, row)
    assert len(read_results(config.results)) == 1 + 4 + 8
    assert main(["grid", "--config", str(tmp_path / "grid.yaml"), "--report_only"]) == 0
    printed = capsys.readouterr().out
    assert (tmp_path / "results" / "grid.md").read_text() in printed
    assert "Figures, table and JSON: " in printed
    assert main(["grid", "--config", str(tmp_path / "none.yaml")]) == 2
    assert "there is no such file" in capsys.readouterr().err


def test_results_that_are_none(tmp_path: Path, make_grid, fill) -> None:
    path = tmp_path / "rows.parquet"
    assert read_results(path) == []
    path.write_text("no table")
    with pytest.raises(ValueError, match=r"rows.parquet' is not a Parquet file"):
        read_results(path)
    config = make_grid()
    rows = fill(config, value, kl)
    path.unlink()
    append_result(path, rows[0] | {"more": 1})
    append_result(path, rows[5])
    assert read_results(path) == [rows[0], rows[5]]
    append_result(path, rows[5] | {"n": 99})  # another grid that did the same
    assert read_results(path) == [rows[0], rows[5]]
    assert {entry.name for entry in tmp_path.glob("*rows*")} == {"rows.parquet", ".rows.parquet.lock"}


def test_rows_of_another_reward_under_an_old_name_are_not_mixed_in(make_grid, fill, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    rows = fill(make_grid(), value, kl)
    old = pa.Table.from_pylist(rows[:1], schema=arrow_schema(COLUMNS)).drop_columns("reward_sha256")
    pq.write_table(old, path)  # of a version that did not know it
    assert read_results(path) == rows[:1]
    append_result(path, rows[1] | {"reward_sha256": "a" * 64})
    append_result(path, rows[2] | {"reward_sha256": "a" * 64})
    append_result(path, rows[3] | {"reward_sha256": "b" * 64, "scored_by": "other"})
    append_result(path, rows[4])  # unknown: a reward without source
    with pytest.raises(ValueError, match=r"another reward 'verifier' of that name .sha256 a+ there, b+ now"):
        append_result(path, rows[5] | {"reward_sha256": "b" * 64})
    assert [row["reward_sha256"] for row in read_results(path)] == [None, "a" * 64, "a" * 64, "b" * 64, None]


def test_two_grids_that_write_to_one_table_lose_no_row(make_grid, fill, tmp_path: Path) -> None:
    rows = [row | {"key": f"{row['key']}{i}"} for i in range(4) for row in fill(make_grid(), value, kl)][:24]
    halves = {"a": rows[::2], "b": rows[1::2]}
    program = "import json, sys; from pathlib import Path; from tailgrad.grid.results import append_result\n"
    program += "for row in json.load(open(sys.argv[1])): append_result(Path('rows.parquet'), row)"
    for name, half in halves.items():
        (tmp_path / name).write_text(json.dumps(half))
    children = [subprocess.Popen([sys.executable, "-c", program, name], cwd=tmp_path) for name in halves]
    assert [child.wait() for child in children] == [0, 0]
    found = read_results(tmp_path / "rows.parquet")
    assert {row["key"] for row in found} == {row["key"] for row in rows}
    assert len(found) == len(rows)
