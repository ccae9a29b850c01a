"""Print the lower bounds declared in pyproject.toml as pip constraints: `name>=1.2` becomes `name==1.2`.

Usage: python tools/lowest.py [extra ...]

The bounds of the core and of the extras that are named (none: of all).
"""

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def lower_bounds(project: dict, extras: list[str]) -> list[str]:
    """Constraints that pin each dependency of `project` and of some extras at its lower bound."""
    groups = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras)]
    constraints = set()
    for requirement in (requirement for group in groups for requirement in group):
        if requirement.startswith(f"{project['name']}["):
            continue
        bound = re.fullmatch(r"(?P<name>[\w.-]+)>=(?P<version>[\d.]+)(,<[\d.]+)?", requirement)
        if bound is None:
            sys.exit(f"pyproject.toml: {requirement!r} is not of the form 'name>=version'")
        constraints.add(f"{bound['name']}=={bound['version']}")
    return sorted(constraints)


if __name__ == "__main__":
    declared = tomllib.loads(PYPROJECT.read_text())["project"]
    print("\n".join(lower_bounds(declared, sys.argv[1:] or list(declared["optional-dependencies"]))))
