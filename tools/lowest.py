"""Print the lower bounds declared in pyproject.toml as pip constraints: `name>=1.2` becomes `name==1.2`."""

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def lower_bounds(project: dict) -> list[str]:
    """Constraints that pin each dependency of `project`, extras included, at its lower bound."""
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
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
    print("\n".join(lower_bounds(tomllib.loads(PYPROJECT.read_text())["project"])))
