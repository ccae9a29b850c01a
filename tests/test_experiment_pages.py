"""What is committed of the experiments: grids that load, short pages, the rows they follow from, and no figure more."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tailgrad.grid import read_grid

ROOT = Path(__file__).resolve().parent.parent
EXPERIMENTS = ROOT / "experiments"
PAGES = sorted(EXPERIMENTS.glob("*/README.md"))

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)


@pytest.mark.parametrize(
    "path", sorted(EXPERIMENTS.glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_every_grid_loads(path: Path) -> None:
    assert read_grid(path).estimators


@every_page
def test_a_page_is_short(page: Path) -> None:
    assert len(page.read_text().splitlines()) <= 150


@every_page
def test_at_most_two_figures_are_committed_and_the_pages_show_them(page: Path) -> None:
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "results"]
    found = subprocess.run(listed, cwd=page.parent, capture_output=True, text=True, check=True).stdout.split()
    figures = {path for path in found if path.endswith((".png", ".svg"))}
    text = "".join(one.read_text() for one in page.parent.glob("*.md"))
    shown = set(re.findall(r"!\[.*\]\((results/.*)\)", text))
    front = re.findall(rf"!\[.*\]\(experiments/{page.parent.name}/(results/.*)\)", (ROOT / "README.md").read_text())
    assert figures == shown | set(front)
    assert len(shown) <= 2
    assert {link for link in re.findall(r"\]\((results/[^)#]*)", text) if not (page.parent / link).is_file()} == set()


def test_the_tables_of_a_page_are_made_from_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = EXPERIMENTS / "robustness"
    monkeypatch.syspath_prepend(folder)
    names = ("shapes", "remedies", "run")
    run = [importlib.import_module(name) for name in names][-1]
    try:
        found = run.read_rows()
        page = (folder / "README.md").read_text()
        assert run.tables(found) in page
        (gaussian,) = (
            row["latent_signal"]
            for row in found
            if (row["shape"], row["estimator"], row["m"]) == ("gaussian", "dr_grpo", 16)
        )
        assert f"| gaussian | {gaussian:.2f} |" in page
    finally:
        for name in names:
            sys.modules.pop(name, None)
