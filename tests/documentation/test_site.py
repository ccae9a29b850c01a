"""The documentation site: every page is in its navigation, every public name in its reference, the notebook runs."""

import contextlib
import importlib
import io
import json
import pkgutil
import re
import runpy
from types import SimpleNamespace

import matplotlib
import pytest
import yaml
from pages import ROOT

import tailgrad

ROOMS = [
    name
    for name in (module.name for module in pkgutil.iter_modules(tailgrad.__path__) if not module.name.startswith("_"))
    if hasattr(importlib.import_module(f"tailgrad.{name}"), "__all__")
]
REFERENCE = runpy.run_path(str(ROOT / "tools" / "reference.py"))


def pages_of(entry: object) -> list[str]:
    """The files that a part of the navigation names."""
    if isinstance(entry, str):
        return [entry]
    parts = entry.values() if isinstance(entry, dict) else entry
    return [page for part in parts for page in pages_of(part)]


def test_every_page_is_in_the_navigation() -> None:
    named = pages_of(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    pages = {f"docs/{path.relative_to(ROOT / 'docs')}" for path in (ROOT / "docs").rglob("*.md")}
    pages |= {str(path.relative_to(ROOT)) for path in ROOT.glob("experiments/*/README.md")}
    assert sorted(pages - set(named)) == []
    assert [page for page in named if not (ROOT / page).exists()] == []


def test_every_room_with_public_names_has_a_page() -> None:
    pages = (ROOT / "docs" / "api").glob("*.md")
    assert sorted(page.stem for page in pages) == sorted(ROOMS)
    assert {"estimators", "tails", "grid", "runner", "types", "rollouts"} <= set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_is_in_the_reference(room: str) -> None:
    """Made by a hook of the site, from what the room says is public."""
    page = SimpleNamespace(file=SimpleNamespace(src_uri=f"docs/api/{room}.md"))
    text = REFERENCE["on_page_markdown"](f"# tailgrad.{room}\n", page=page)
    directives = re.findall(r"^::: (\S+)$", text, re.MULTILINE)
    module = importlib.import_module(f"tailgrad.{room}")
    assert sorted(path.rpartition(".")[2] for path in directives) == sorted(module.__all__)
    for path in directives:
        home, _, name = path.rpartition(".")
        assert getattr(importlib.import_module(home), name) is getattr(module, name)


def test_other_pages_stay_as_they_are() -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri="docs/estimators.md"))
    assert REFERENCE["on_page_markdown"]("# Estimators\n", page=page) == "# Estimators\n"


def test_the_notebook_has_no_links_that_the_site_would_not_turn_into_pages() -> None:
    assert "](" not in (ROOT / "docs" / "your_own_rewards.ipynb").read_text()


def test_docstrings_are_written_as_the_reference_reads_them() -> None:
    """It knows `Examples:`, not `Example:`, and no LaTeX."""
    sources = {path.name: path.read_text() for path in (ROOT / "src").rglob("*.py")}
    assert [
        name for name, text in sources.items() if re.search(r"^ +Example:$|\$\$|\\\\frac", text, re.MULTILINE)
    ] == []


def test_the_notebook_prints_what_is_committed() -> None:
    matplotlib.use("agg")
    cells = json.loads((ROOT / "docs" / "your_own_rewards.ipynb").read_text())["cells"]
    names: dict[str, object] = {}
    printed, committed = [], []
    for cell in (cell for cell in cells if cell["cell_type"] == "code"):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec("".join(cell["source"]).replace("plt.show()", "plt.close()"), names)
        printed.append(out.getvalue())
        committed.append("".join("".join(o["text"]) for o in cell["outputs"] if o["output_type"] == "stream"))
    assert printed == committed
    assert "signal" in printed[-1]
