"""Breaks formulas one at a time and sees a test go red: `python tests/mutations.py [part of a name]`.

Each mutation replaces one piece of text in a temporary copy of the package, never in the working tree, and
runs the test file named beside it. One that no test notices is printed as SURVIVED, and the exit code is 1.
"""

import os
import shutil
import sys
import tempfile
import time
import traceback
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import beartype  # noqa: F401  (loaded once, before the forks)
import pytest
import scipy.stats  # noqa: F401
import torch  # noqa: F401

from mutation_list import MUTATIONS, Mutation

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "tailgrad"

# Loaded by pytest before anything else: the copy, not the installed package, must be what is imported.
GUARD = """
import importlib.util
from pathlib import Path
origin = importlib.util.find_spec("tailgrad").origin
assert Path(origin).is_relative_to(Path(__file__).parent), f"tailgrad would be imported from {origin}"
"""


def run_tests(copy: Path, tests: tuple[str, ...]) -> tuple[int, str]:
    """Run test files against the copy of the package: pytest's exit code and its output.

    In a fork of this process, which has loaded the slow imports but not the package.
    """
    output = copy / "output.txt"
    child = os.fork()
    if child == 0:
        code = 3  # pytest's own "internal error", unless pytest returns another
        try:
            os.chdir(ROOT)
            sys.dont_write_bytecode = True
            sys.path.insert(0, str(copy))
            os.environ["PYTHONPATH"] = str(copy)  # for the processes that tests start
            with output.open("w") as stream, redirect_stdout(stream), redirect_stderr(stream):
                files = [f"tests/{test}" for test in tests]
                code = int(pytest.main(["-x", "-q", "-p", "guard", "-p", "no:cacheprovider", *files]))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    return os.waitstatus_to_exitcode(status), output.read_text()


def killer(output: str) -> str:
    """The first test that failed."""
    lines = [line for line in output.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return lines[0].split(" - ")[0] if lines else "(no test named)"


def survives(copy: Path, mutation: Mutation) -> bool:
    """Apply one mutation to the copy, run its tests, put the copy back."""
    path = copy / "tailgrad" / mutation.file
    original = path.read_text()
    path.write_text(original.replace(mutation.old, mutation.new))
    start = time.monotonic()
    code, output = run_tests(copy, (mutation.test,))
    path.write_text(original)
    survived = code not in (1, 2)  # 1: a test failed, 2: the module does not even import
    verdict = "SURVIVED" if survived else "killed"
    reason = output[-2000:] if survived else killer(output)
    print(f"{verdict:8} {time.monotonic() - start:4.0f} s  {mutation}  {reason}", flush=True)
    return survived


def main(selection: str = "") -> int:
    """Run the mutations whose name contains `selection`; 1 if one survives."""
    chosen = [mutation for mutation in MUTATIONS if selection in str(mutation)]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        shutil.copytree(PACKAGE, copy / "tailgrad", ignore=shutil.ignore_patterns("__pycache__"))
        (copy / "guard.py").write_text(GUARD)
        code, output = run_tests(copy, tuple(sorted({mutation.test for mutation in chosen})))
        if code != 0:
            print(f"the tests fail without any mutation:\n{output}")
            return 1
        survivors = [mutation for mutation in chosen if survives(copy, mutation)]
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutations killed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
