"""`import tailgrad` alone: every public name of the core is there, and nothing is loaded before it is used."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import tailgrad
from tailgrad.estimators import ESTIMATORS

CORE = ("estimators", "tails", "curves", "fidelity", "statistics", "types")
FORECASTS = ("tail_forecast", "max_at_k_forecast")


@pytest.mark.parametrize("room", [*CORE, "training"])
def test_every_public_name_of_a_room_is_here(room: str) -> None:
    module = importlib.import_module(f"tailgrad.{room}")
    for name in module.__all__:
        assert getattr(tailgrad, name) is getattr(module, name)
        assert name in dir(tailgrad)


@pytest.mark.parametrize("name", [*ESTIMATORS, *FORECASTS, "best_of_n", "compare", "gradient_fidelity"])
def test_what_a_user_asks_for_by_name_is_here(name: str) -> None:
    assert callable(getattr(tailgrad, name))
    assert name in tailgrad.__all__


def test_type_checkers_see_every_public_name_of_the_estimators() -> None:
    """They take for public what is imported `as` itself, here and in the table."""
    room = Path(tailgrad.estimators.__file__).parent
    seen = set()
    for name in ("__init__.py", "registry.py"):
        imports = [node for node in ast.walk(ast.parse((room / name).read_text())) if isinstance(node, ast.ImportFrom)]
        seen |= {alias.name for node in imports for alias in node.names if alias.name == alias.asname}
    assert seen == set(tailgrad.estimators.__all__)


@pytest.mark.parametrize("name", ["rollouts", "rewards"])
def test_type_checkers_see_the_names_that_a_room_loads_late_and_no_others(name: str) -> None:
    """They skip what stands beside `if TYPE_CHECKING`, so that a wrong name is an error to them."""
    room = importlib.import_module(f"tailgrad.{name}")
    (branch,) = [node for node in ast.parse(Path(str(room.__file__)).read_text()).body if isinstance(node, ast.If)]
    imports = [node for node in branch.body if isinstance(node, ast.ImportFrom)]
    homes = {alias.name: node.module for node in imports for alias in node.names if alias.name == alias.asname}
    assert homes == {public: f"tailgrad.{name}.{home}" for public, home in homes_of(branch).items()}
    assert set(homes) == set(room.__all__)


def homes_of(branch: ast.If) -> dict[str, str]:
    """The module of each name that the branch beside loads late."""
    (mapping,) = [node for one in branch.orelse for node in ast.walk(one) if isinstance(node, ast.Dict)]
    return {public: home for home, names in ast.literal_eval(mapping).items() for public in names}


def test_no_name_stands_for_two_things() -> None:
    names = [name for room in CORE for name in importlib.import_module(f"tailgrad.{room}").__all__]
    assert len(names) == len(set(names))


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(AttributeError, match="module 'tailgrad' has no attribute 'flat_tee'"):
        _ = tailgrad.flat_tee
    with pytest.raises(ImportError, match="flat_tee"):
        from tailgrad import flat_tee  # noqa: F401


def loaded_by(program: str) -> set[str]:
    """The top-level modules that a program of its own has loaded at its end."""
    code = f"{program}; import sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_the_import_loads_nothing_and_a_name_no_more_than_the_core() -> None:
    heavy = {"torch", "numpy", "scipy", "transformers", "trl", "datasets", "pyarrow", "matplotlib"}
    assert not loaded_by("import tailgrad") & heavy
    assert loaded_by("import tailgrad; tailgrad.tea; dir(tailgrad)") & heavy == {"torch", "numpy", "scipy"}
    assert "best_of_n" in tailgrad.__all__
    assert loaded_by("from tailgrad import *; best_of_n") & heavy == {"torch", "numpy", "scipy"}
