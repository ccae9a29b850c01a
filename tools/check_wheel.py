"""Build the wheel, install it with only the core dependencies in a fresh environment, and use it there.

Usage: python tools/check_wheel.py <arguments of `pip install` that put torch there first>
"""

import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEEDS_TRAIN = "pip install 'tailgrad[train]'"


def main(torch_arguments: list[str]) -> int:
    """Run the whole check; a failure names what was expected and what was found."""
    with tempfile.TemporaryDirectory(prefix="tailgrad-wheel-") as scratch:
        wheel = build(Path(scratch, "dist"))
        check_contents(wheel)
        environment = Path(scratch, "environment")
        venv.create(environment, with_pip=True)
        pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        for arguments in (torch_arguments, [str(wheel)]):
            subprocess.run([*pip, *arguments], check=True)
        check_use(environment, wheel.name.split("-")[1], Path(scratch))
        print(f"{wheel.name}: complete, and it works with only the core dependencies")
    return 0


def build(folder: Path) -> Path:
    """Build the wheel into `folder` and return its path."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode != 0:
        sys.exit(f"the wheel was not built:\n{built.stdout}{built.stderr}")
    (wheel,) = folder.glob("*.whl")
    return wheel


def check_contents(wheel: Path) -> None:
    """Every file of the package is in the wheel (data files and py.typed too), and so is the licence."""
    with zipfile.ZipFile(wheel) as archive:
        found = set(archive.namelist())
    source = ROOT / "src"
    files = (path for path in (source / "tailgrad").rglob("*") if path.is_file())
    wanted = {path.relative_to(source).as_posix() for path in files if "__pycache__" not in path.parts}
    if missing := wanted - found:
        sys.exit(f"{wheel.name} lacks files of the package: {sorted(missing)}")
    if "tailgrad/py.typed" not in found:
        sys.exit(f"{wheel.name} lacks tailgrad/py.typed")
    if not any(name.endswith(".dist-info/licenses/LICENSE") for name in found):
        sys.exit(f"{wheel.name} lacks the LICENSE")


def check_use(environment: Path, version: str, folder: Path) -> None:
    """Import the core and call the command in `environment`, from a folder that is not the repository."""

    def call(*command: str) -> subprocess.CompletedProcess[str]:
        program = str(environment / "bin" / command[0])
        clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        return subprocess.run([program, *command[1:]], cwd=folder, env=clean, capture_output=True, text=True)

    def expect(found: bool, what: str, result: subprocess.CompletedProcess[str]) -> None:
        if not found:
            said = f"{result.stdout}{result.stderr}"
            sys.exit(f"in a clean environment, {what} (exit code {result.returncode}):\n{said}")

    statements = "import tailgrad.curves, tailgrad.estimators, tailgrad.fidelity, tailgrad.statistics, tailgrad.tails"
    result = call("python", "-W", "error", "-c", f"{statements}; print(tailgrad.__version__)")
    expect(result.stdout.strip() == version, f"`{statements}` did not give version {version}", result)
    result = call("tailgrad", "--version")
    expect(version in result.stdout, f"`tailgrad --version` did not say {version}", result)
    result = call("tailgrad", "--help")
    expect(result.returncode == 0 and "train" in result.stdout, "`tailgrad --help` did not work", result)
    result = call("tailgrad", "train")
    told = NEEDS_TRAIN in result.stderr and "Traceback" not in result.stderr
    expect(result.returncode != 0 and told, f"`tailgrad train` did not say {NEEDS_TRAIN}", result)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
