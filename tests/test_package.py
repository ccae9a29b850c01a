"""What a packaged release promises: one version, stated everywhere alike, a licence and type information."""

import re
import subprocess
import sys
import tomllib
from importlib import metadata, resources
from pathlib import Path

from packaging.version import Version

import tailgrad

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_command_says_the_version() -> None:
    command = Path(sys.executable).with_name("tailgrad")
    result = subprocess.run([command, "--version"], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == (f"tailgrad {tailgrad.__version__}\n", "")


def test_version_is_the_same_everywhere() -> None:
    assert metadata.version("tailgrad") == tailgrad.__version__
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.findall(r"^version: (.+)$", citation, re.MULTILINE) == [tailgrad.__version__]
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert next(heading for heading in headings if heading != "Unreleased") == tailgrad.__version__


def test_the_package_is_typed() -> None:
    assert resources.files("tailgrad").joinpath("py.typed").is_file()


def test_the_licence_is_apache() -> None:
    assert PROJECT["license"] == "Apache-2.0"
    first_lines = (ROOT / "LICENSE").read_text().split("\n", 3)[:3]
    assert " ".join(" ".join(first_lines).split()) == "Apache License Version 2.0, January 2004"


def test_extras_are_the_documented_ones() -> None:
    extras = PROJECT["optional-dependencies"]
    assert set(extras) == {"eval", "sample", "train", "serve", "plot", "docs", "dev", "all"}
    names = {re.split(r"[><=\[]", requirement)[0] for requirement in PROJECT["dependencies"]}
    assert names == {"torch", "numpy", "scipy", "jaxtyping"}
    assert not any(requirement.startswith("trl") for extra in ("eval", "sample") for requirement in extras[extra])


def lowest(*extras: str) -> dict[str, str]:
    program = [sys.executable, str(ROOT / "tools" / "lowest.py"), *extras]
    pins = subprocess.run(program, capture_output=True, text=True, check=True).stdout.split()
    found = dict(pin.split("==") for pin in pins)
    assert len(found) == len(pins)
    return found


def test_every_dependency_has_a_lower_bound() -> None:
    """`make lowest` installs exactly these."""
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    declared = {requirement for group in groups for requirement in group if not requirement.startswith("tailgrad[")}
    bounds = dict(requirement.split(",")[0].split(">=") for requirement in declared)
    assert lowest() == bounds


def test_the_core_installs_beside_the_trainers_of_today() -> None:
    """verl, SkyRL and NeMo-RL pin torch 2.11 and older."""
    core = lowest("plot")
    assert set(core) == {"torch", "numpy", "scipy", "jaxtyping", "matplotlib"}
    assert Version(core["torch"]) <= Version("2.9")
