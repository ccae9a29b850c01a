"""The scripts in tools/ that the gate does not run itself."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

TOOLS = Path(__file__).resolve().parent.parent / "tools"
PACKAGE = TOOLS.parent / "src" / "tailgrad"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_survivors_are_counted_in_files_that_are_finished(tmp_path: Path) -> None:
    folder = tmp_path / "src" / "tailgrad" / "tails"
    folder.mkdir(parents=True)
    codes = {"constants": {"a": 0, "b": 1, "c": 33, "d": 36}, "forecasts": {"a": 0, "b": None}, "empty": {}}
    for name, of_file in codes.items():
        (folder / f"{name}.py.meta").write_text(json.dumps({"exit_code_by_key": of_file}))
    assert load("survivors").survivors(tmp_path) == {"tails/constants.py": 2}


def test_survivors_may_only_fall() -> None:
    kept, risen, new = load("survivors").ratchet({"a.py": 3, "b.py": 1, "c.py": 5}, {"a.py": 2, "b.py": 4, "d.py": 7})
    assert kept == {"a.py": 2, "b.py": 1, "c.py": 5, "d.py": 7}
    assert len(risen) == 1
    assert risen[0].startswith("a.py: 3 ")
    assert len(new) == 1
    assert new[0].startswith("c.py: 5 ")


def test_the_numbers_of_survivors_are_those_of_files_that_exist() -> None:
    record = json.loads((TOOLS.parent / "tests" / "survivors.json").read_text())
    assert [file for file in record if not (PACKAGE / file).is_file()] == []
