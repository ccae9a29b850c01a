"""`tailgrad report`: from folders and files to one page, and what it says of those it cannot show."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from html_pages import Page
from tailgrad.cli.main import main
from tailgrad.curves import Rollouts, write_report

REWARDS = np.random.default_rng(0).normal(size=(4, 8))


@pytest.fixture(scope="module")
def curve(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report, drawn once."""
    folder = tmp_path_factory.mktemp("curve")
    write_report([Rollouts(REWARDS, name="base"), Rollouts(REWARDS + 1, name="<b>tea|")], folder)
    return folder


@pytest.fixture
def work(curve: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a report, a training and two rollout tables."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(curve, tmp_path / "report")
    entries = [{"step": step, "reward": step / 8, "tail/best_of_4": 1.0} for step in range(1, 17)]
    for folder in ("policy", "policy/checkpoint-16"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "trainer_state.json").write_text(json.dumps({"log_history": entries}))
    (tmp_path / "policy" / "README.md").write_text("# A model card\n")
    np.save(tmp_path / "rewards.npy", REWARDS)
    rows = [f"{{p}},{reward}" for reward in (0, 1)]
    (tmp_path / "mine.csv").write_text("prompt,reward\n" + "\n".join(r.format(p=p) for p in "ab" for r in rows) + "\n")
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *words: str, out: str = "page.html") -> str:
    """The one line in which a command refuses what it was given."""
    assert main(["report", *words, "--out", out]) == 2
    assert not Path(out).is_file()
    said = capsys.readouterr().err
    assert said.startswith("tailgrad report: error: ")
    assert said.count("\n") <= 2  # the second says where more is told
    return said


def test_one_page_of_everything(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "report", "policy", "rewards.npy", "mine.csv", "--out", "pages/page.html"]) == 0
    read = Page((work / "pages" / "page.html").read_text())
    read.check_alone()
    titles = ["Curve", "Training: policy", "Rollouts: rewards", "Rollouts: mine"]
    assert read.texts["h2"] == titles
    assert [line.split(": ")[-1] for line in capsys.readouterr().out.splitlines()[:4]] == read.texts["small"]
    assert read.texts["small"] == ["report/curve", "policy/trainer_state.json", "rewards.npy", "mine.csv"]
    assert len(read.figures) == 4
    assert read.figures[0] == (work / "report" / "curve.svg").read_text()
    assert "<b>tea|" in read.texts["th"]
    assert [path.name for path in (work / "pages").iterdir()] == ["page.html"]


def test_a_folder_stands_for_all_reports_and_trainings_below_it(work: Path) -> None:
    (work / ".hidden").mkdir()
    (work / ".hidden" / "curve.svg").write_text("none")
    assert main(["report", ".", "--out", "page.html"]) == 0
    first = (work / "page.html").read_text()
    assert Page(first).texts["small"] == ["report/curve", "policy/trainer_state.json"]  # not its checkpoint's
    assert main(["report", ".", "report/curve.json", "report", "policy", "--out", "page.html"]) == 0
    assert (work / "page.html").read_text() == first  # each once, and the same page from the same files


def test_a_training_without_rewards_is_left_out_of_a_folder_and_refused_alone(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (work / "base").mkdir()
    (work / "base" / "trainer_state.json").write_text('{"log_history": [{"step": 1, "loss": 0.5}]}')
    with pytest.warns(UserWarning, match=r"base/trainer_state.json' holds no step with a reward"):
        assert main(["report", ".", "--out", "page.html"]) == 0
    assert Page((work / "page.html").read_text()).texts["h2"] == ["Curve", "Training: policy"]
    (work / "page.html").unlink()
    assert "no step with a reward" in refused(capsys, "base/trainer_state.json")


@pytest.mark.parametrize("name", ["curve.md", "curve.svg", "curve.png", "curve.json"])
def test_each_file_of_a_report_stands_for_it(work: Path, name: str) -> None:
    assert main(["report", f"report/{name}", "--out", "page.html"]) == 0
    assert Page((work / "page.html").read_text()).texts["h2"] == ["Curve"]


def test_a_text_shows_the_figures_that_it_names_and_others_are_left_out_with_a_warning(work: Path) -> None:
    text = "## one\n\n![one](curve.svg)\n\n|a|\n|-|\n|1|\n\n![gone](gone.svg)\n\n![out](../report/curve.svg)\n"
    (work / "report" / "grid.md").write_text(text)
    (work / "report" / "grid.json").write_text("[]")
    (work / "report" / "lonely.svg").write_text("<svg/>")
    with pytest.warns(UserWarning, match=r"no table stands beside lonely.svg"):
        assert main(["report", "report", "--out", "page.html"]) == 0
    read = Page((work / "page.html").read_text())
    read.check_alone()
    assert read.texts["h2"] == ["Curve", "Grid"]
    assert read.figures == [(work / "report" / "curve.svg").read_text()] * 2


def test_what_cannot_be_shown_is_refused_in_a_line(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("empty", "tables"):
        (work / folder).mkdir()
    assert "'empty' holds no report and no training" in refused(capsys, "empty")
    np.save(work / "tables" / "a.npy", REWARDS)
    assert "name those to draw, such as tables/a.npy" in refused(capsys, "report", "tables")
    assert "'none': there is no such file or folder" in refused(capsys, "none")
    for name in ("notes.txt", "policy/README.md", "lonely.svg", "model.safetensors"):
        (work / name).write_text("x")
        said = refused(capsys, "report", name)
        assert repr(name) in said
        assert ".parquet" in said
    (work / "broken.csv").write_text("a,b\n1,2\n")
    assert "broken.csv" in refused(capsys, "broken.csv")
    (work / "report" / "curve.svg").write_text("<svg")
    assert "'curve.svg' is not an SVG" in refused(capsys, "report")


def test_a_path_given_twice_and_a_page_that_is_none(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "'./report' is given twice" in refused(capsys, "./report/", "report").replace("'report'", "'./report'")
    assert "given twice" in refused(capsys, "mine.csv", str(work / "mine.csv"))
    for out in ("page", "report", "page.pdf"):
        assert ".html" in refused(capsys, "report", out=out)


def test_options_from_a_file(work: Path) -> None:
    (work / "report.yaml").write_text("paths: [report]\nout: page.html\n")
    assert main(["report", "--config", "report.yaml"]) == 0
    assert (work / "page.html").is_file()
