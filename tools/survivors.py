"""Hold the mutants that survived `mutmut run` to the numbers in tests/survivors.json, which may only fall.

Usage: python tools/survivors.py [folder of mutmut's results, default: mutants]

A file with more survivors than its number fails: write the test that is missing. Lower numbers are written down for you
to commit, and so are those of files that had none: these are named, as nothing held them until now. Files that mutmut
has not finished are left alone.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "tests" / "survivors.json"
SURVIVED = {0, 5, 33}
"""Exit codes of pytest, as mutmut keeps them: all tests passed, or none of them runs the mutant."""


def survivors(folder: Path) -> dict[str, int]:
    """How many mutants survived in each file of the package that mutmut has finished."""
    package = folder / "src" / "tailgrad"
    found = {}
    for path in sorted(package.rglob("*.py.meta")):
        codes = json.loads(path.read_text())["exit_code_by_key"].values()
        if codes and None not in codes:
            found[path.relative_to(package).as_posix().removesuffix(".meta")] = sum(code in SURVIVED for code in codes)
    return found


def ratchet(found: dict[str, int], allowed: dict[str, int]) -> tuple[dict[str, int], list[str], list[str]]:
    """The numbers to keep, each the smaller of the two; a line for each file above its own, a line for each without."""
    kept = allowed | {file: min(count, allowed.get(file, count)) for file, count in found.items()}
    risen = [f"{file}: {found[file]} survivors, {kept[file]} before" for file in found if found[file] > kept[file]]
    new = [f"{file}: {found[file]} survivors, had no number before" for file in found if file not in allowed]
    return dict(sorted(kept.items())), risen, new


def main(folder: str = "mutants") -> int:
    """Compare, write down what fell, and return 1 if a file is above its number."""
    found = survivors(ROOT / folder)
    kept, risen, new = ratchet(found, json.loads(RECORD.read_text()))
    RECORD.write_text(json.dumps(kept, indent=2) + "\n")
    total = f"{len(found)} files, {sum(found.values())} survivors; `mutmut show NAME` shows one"
    print("\n".join([total, *new, *risen]))
    return 1 if risen else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
