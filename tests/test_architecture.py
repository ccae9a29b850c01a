"""The house rules that the code alone cannot show: what may import what, and how light the core is."""

import ast
import importlib.util
import inspect
import pkgutil
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tailgrad

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "tailgrad"
HEAVY = {
    "transformers",
    "trl",
    "datasets",
    "accelerate",
    "peft",
    "vllm",
    "matplotlib",
    "pyarrow",
    "pandas",
    "markdown_it",
}

# Which rooms each room may import, besides itself and the package's version.
ROOMS: dict[str, set[str]] = {"types": set(), "statistics": set()}
ROOMS["display"] = {"statistics", "files"}
ROOMS["tails"] = {"types", "statistics", "display", "files", "lazy"}
ROOMS["estimators"] = {"types", "tails"}
ROOMS["curves"] = {"types", "statistics", "display", "files", "tails"}
ROOMS["fidelity"] = ROOMS["curves"] | {"estimators"}
ROOMS["planning"] = ROOMS["fidelity"] | {"fidelity", "curves"}
CORE = set(ROOMS)
ROOMS["files"] = ROOMS["option_names"] = ROOMS["lazy"] = ROOMS["processes"] = set()
ROOMS["options"] = {"option_names"}
ROOMS["identity"] = {"files"}
ROOMS["function_identity"] = {"identity"}
ROOMS["events"] = {"files", "processes"}
BASE = {"files", "identity", "function_identity", "events", "option_names", "options", "lazy", "processes"}
ROOMS["models"] = BASE
ROOMS["rewards"] = CORE | BASE | {"models"}
ROOMS["rollouts"] = ROOMS["rewards"] | {"rewards"}
ROOMS["judging"] = ROOMS["rollouts"] | {"rollouts"}
ROOMS["training"] = ROOMS["rollouts"] | {"rollouts"}
ROOMS["report"] = ROOMS["training"] | {"training"}
ROOMS["runner"] = BASE
ROOMS["integrations"] = ROOMS["estimators"] | {"estimators"}
ROOMS["doctor"] = set()
ROOMS["serving"] = ROOMS["training"] | {"training"}
ROOMS["grid"] = ROOMS["serving"] | {"runner"}
ROOMS["quickstart"] = ROOMS["grid"] | {"grid"}
ROOMS["cli"] = set(ROOMS)

# What the core may import from elsewhere; figures alone draw, and load matplotlib only when they do.
CORE_LIBRARIES = {"torch", "numpy", "scipy", "jaxtyping"} | sys.stdlib_module_names
FIGURES = ("tailgrad.display.style", "tailgrad.curves.figures", "tailgrad.tails.figures")
LAZY = {name: {"matplotlib"} for name in FIGURES}
LAZY["tailgrad.display.page"] = {"markdown_it"}

# Not of the core, though they stand in a room of it: gradients of a rollout table's responses, kept on disk.
OUTER = {
    f"tailgrad.fidelity.{name}": ROOMS["rollouts"] | {"rollouts", "fidelity"}
    for name in ("gradient_config", "gradient_store", "lora")
}

MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def room_of(module: str) -> str:
    """The room a module of the package stands in; '' for the package's own front door."""
    inner = module.removeprefix("tailgrad").removeprefix(".")
    return "" if inner == "_version" else inner.partition(".")[0]


def nodes_of(module: str, *, at_import: bool = False) -> Iterator[ast.AST]:
    """The syntax nodes of a module; with `at_import`, only of what runs when it is imported."""
    waiting: list[ast.AST] = [ast.parse(MODULES[module].read_text())]
    while waiting:
        node = waiting.pop()
        yield node
        later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        never = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if not (at_import and (later or never)):
            waiting.extend(ast.iter_child_nodes(node))


def imports_of(module: str, *, at_import: bool = False) -> set[str]:
    """The dotted names that a module imports, anywhere or, with `at_import`, when it is itself imported."""
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in nodes_of(module, at_import=at_import):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            anchor = package.rsplit(".", node.level - 1)[0] if node.level else ""
            base = ".".join(part for part in (anchor, node.module) if part)
            found |= {name if (name := f"{base}.{alias.name}") in MODULES else base for alias in node.names}
    return found


def is_ours(name: str) -> bool:
    """Whether a dotted name belongs to this package."""
    return name == "tailgrad" or name.startswith("tailgrad.")


def libraries(names: set[str]) -> set[str]:
    """The top-level names among `names` that belong to other packages."""
    return {name.partition(".")[0] for name in names if not is_ours(name)}


def test_every_room_is_in_the_table() -> None:
    rooms = {room_of(module) for module in MODULES} - {""}
    assert rooms <= set(ROOMS)
    assert rooms >= {
        "types",
        "tails",
        "estimators",
        "curves",
        "fidelity",
        "models",
        "rollouts",
        "rewards",
        "training",
        "cli",
    }


@pytest.mark.parametrize("module", MODULES)
def test_nothing_imports_upward(module: str) -> None:
    room = room_of(module)
    allowed = OUTER.get(module) or (CORE | {"training"} if room == "" else ROOMS[room] | {room})
    allowed = allowed | {""}
    wrong = {name for name in imports_of(module) if is_ours(name) and room_of(name) not in allowed}
    assert not wrong, f"{module} imports {sorted(wrong)}, but its room may use only {sorted(allowed)}"


def private_imports(module: str, source: str) -> set[str]:
    """The private modules and names of other rooms that a module with this source imports; `_version` aside."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports by a relative name"
            names = [f"{node.module}.{name}" for name in names]
        found |= {name for name in names if is_ours(name) and re.search(r"\._(?!version\b|_)", name)}
    return {name for name in found if room_of(name) != room_of(module)}


@pytest.mark.parametrize("module", MODULES)
def test_what_is_private_stays_in_its_room(module: str) -> None:
    assert private_imports(module, MODULES[module].read_text()) == set()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("from tailgrad.estimators._groups import finish", {"tailgrad.estimators._groups.finish"}),
        ("import tailgrad.estimators._groups as groups", {"tailgrad.estimators._groups"}),
        ("from tailgrad.estimators import _groups", {"tailgrad.estimators._groups"}),
        ("def f():\n    from tailgrad.estimators.ragged import _layout", {"tailgrad.estimators.ragged._layout"}),
        (
            "from tailgrad.curves._own import name\nfrom tailgrad._version import __version__\nfrom torch import _C",
            set(),
        ),
    ],
)
def test_a_planted_import_of_what_is_private_is_seen(line: str, found: set[str]) -> None:
    assert private_imports("tailgrad.curves.report", line) == found


@pytest.mark.parametrize("module", [module for module in MODULES if room_of(module) in CORE and module not in OUTER])
def test_the_core_imports_only_its_four_libraries(module: str) -> None:
    assert libraries(imports_of(module, at_import=True)) <= CORE_LIBRARIES
    assert libraries(imports_of(module)) <= CORE_LIBRARIES | LAZY.get(module, set())


@pytest.mark.parametrize("module", [module for module in MODULES if room_of(module) in ("", "cli")])
def test_the_command_line_starts_light(module: str) -> None:
    assert not libraries(imports_of(module, at_import=True)) & HEAVY


def test_the_core_and_the_command_load_nothing_heavy() -> None:
    light = ", ".join(["tailgrad", "tailgrad.cli.main", *(f"tailgrad.{room}" for room in sorted(CORE))])
    program = f"import sys, {light}; print(*sorted({HEAVY} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (result.stdout.split(), result.stderr) == ([], "")


def test_an_estimator_waits_for_no_interval() -> None:
    """SciPy's statistics take longer to load than all of our core: only reports need them."""
    program = "import sys, tailgrad.estimators; print({'scipy.stats', 'tailgrad.statistics'} & sys.modules.keys())"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (result.stdout.strip(), result.stderr) == ("set()", "")


def private_members(tree: ast.AST) -> set[str]:
    """The names with one leading underscore that `tree` defines in a class or reaches for on an object."""
    members = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            members |= {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
    return {name for name in members if name.startswith("_") and not name.startswith("__")}


def test_only_the_seam_touches_the_private_names_of_trl() -> None:
    origin = importlib.util.find_spec("trl").origin
    trainers = [Path(origin).with_name("trainer") / f"{name}_trainer.py" for name in ("grpo", "rloo")]
    theirs = set().union(*(private_members(ast.parse(trainer.read_text())) for trainer in trainers))
    theirs -= {"_attn_implementation"}  # transformers', which TRL touches too
    assert {"_calculate_rewards", "_generate_and_score_completions", "_logs"} <= theirs
    touched = {module for module, path in MODULES.items() if private_members(ast.parse(path.read_text())) & theirs}
    hidden = {module for module in MODULES if any(re.match(r"trl\b.*\._", n) for n in imports_of(module))}
    assert touched | hidden == {"tailgrad.training.seam"}


def test_no_file_points_outside_the_repository() -> None:
    """A clone stands alone: no path of the machine it was written on, or beside it."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    outside = re.compile("[.][.]/" + r"shared\b|/" + r"work/(main|shared)\b|/(root|home)/\w")
    files = [ROOT / name for name in listing.stdout.split("\0") if name]
    texts = {path: path.read_bytes().decode("utf-8", errors="ignore") for path in files if path.is_file()}
    assert not [str(path) for path, text in texts.items() if outside.search(text)]


def test_rows_of_data_are_counted_in_one_way() -> None:
    """As `datasets` and pandas count them, which a message says: users count the lines of a file from 1."""
    texts = {path.name: path.read_text() for path in MODULES.values()}
    named = {name: re.findall(r"row \{\w+\}.{,17}", text) for name, text in texts.items()}
    assert sum(map(len, named.values())) >= 10
    wrong = [row for rows in named.values() for row in rows if not row.endswith("} (counted from 0)")]
    assert wrong == []


def test_every_public_name_is_documented() -> None:
    rooms = [
        tailgrad,
        *(importlib.import_module(f"tailgrad.{room}") for room in sorted(ROOMS) if exists(room)),
    ]
    for room in rooms:
        assert room.__doc__, f"{room.__name__} has no docstring"
        for name in getattr(room, "__all__", []):
            value = getattr(room, name)
            ours = is_ours(str(getattr(value, "__module__", "")))  # not so an annotation of jaxtyping's
            if ours and (inspect.isroutine(value) or inspect.isclass(value)):
                written = value.__doc__ and not value.__doc__.startswith(f"{name}(")  # as a dataclass's own
                assert written, f"{room.__name__}.{name} has no docstring"


def exists(room: str) -> bool:
    """Whether the package has this room yet."""
    return room in {module.name for module in pkgutil.iter_modules(tailgrad.__path__)}


def public_functions(room: str) -> Iterator[tuple[str, Any]]:
    """The public functions of a room, and the public methods of its classes, with their names."""
    module = importlib.import_module(f"tailgrad.{room}")
    for name in getattr(module, "__all__", []):
        value = getattr(module, name)
        if inspect.isfunction(value):
            yield name, value
        elif inspect.isclass(value):
            own = {key: one for key, one in vars(value).items() if not key.startswith("_") and inspect.isfunction(one)}
            yield from ((f"{name}.{key}", one) for key, one in own.items() if one.__qualname__ == f"{name}.{key}")


@pytest.mark.parametrize("room", sorted(room for room in ROOMS if exists(room)))
def test_a_public_function_says_what_it_takes_returns_and_raises(room: str) -> None:
    for name, function in public_functions(room):
        said, code = inspect.getdoc(function) or "", ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
        signature = inspect.signature(function)
        for parameter in signature.parameters:
            if parameter != "self" and not parameter.startswith("_"):
                assert re.search(rf"^ +\**{parameter}:", said, re.MULTILINE), f"{name} does not say what {parameter} is"
        if "." not in name and signature.return_annotation not in (None, "None", inspect.Signature.empty):
            assert "Returns:" in said, f"{name} does not say what it returns"
        if any(isinstance(node, ast.Raise) for node in ast.walk(code)):
            assert "Raises:" in said, f"{name} does not say what it raises"


def test_an_adapter_for_a_trainer_is_short() -> None:
    """What they share is in `groups.py` and `token_level.py`."""
    shared = {"groups", "token_level"}
    lengths = {path.stem: len(path.read_text().splitlines()) for path in (PACKAGE / "integrations").glob("*.py")}
    assert max(length for name, length in lengths.items() if name not in shared) <= 100
