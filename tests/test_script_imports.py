"""What the scripts of experiments, benchmarks, recipes and tools import of the library is there."""

import ast
import importlib
import importlib.util
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LISTED = subprocess.run(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
).stdout.split()
SCRIPTS = [path for path in LISTED if path.split("/")[0] not in ("src", "tests")]


def imported(script: Path) -> list[tuple[str, str]]:
    """Modules of the library and the names that are imported from them, wherever in a script."""
    nodes = ast.walk(ast.parse(script.read_text(encoding="utf-8")))
    found = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    return [(str(node.module), one.name) for node in found if node.module[:8] == "tailgrad" for one in node.names]


def test_there_are_scripts() -> None:
    assert {path.split("/")[0] for path in SCRIPTS} >= {"benchmarks", "experiments", "recipes", "tools"}


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_a_script_imports_is_there(script: str) -> None:
    for module, name in imported(ROOT / script):
        here = importlib.import_module(module)
        assert hasattr(here, name) or importlib.util.find_spec(f"{module}.{name}"), f"{module} has no {name}"
