"""A hook of the documentation site: below what a page of docs/api says stands every public name of its room.

mkdocs.yml names it. So no page lists names by hand, and none is left out: a new estimator needs its file and its row.
"""

import importlib
from pathlib import PurePosixPath
from typing import Any

FOLDER = PurePosixPath("docs/api")


def public_names(room: str) -> list[str]:
    """The public names of a room, each with the module that mkdocstrings finds it in."""
    module = importlib.import_module(f"tailgrad.{room}")
    return [f"{_home(getattr(module, name), module.__name__)}.{name}" for name in module.__all__]


def _home(value: Any, room: str) -> str:
    """The module that defines a class or a function; for a table or a number the room itself."""
    home = str(getattr(value, "__module__", None))
    return home if home.startswith(f"{room}.") else room


def on_page_markdown(markdown: str, *, page: Any, **others: Any) -> str:
    """Add the room's names to the text of a page of `FOLDER`; mkdocs calls it for every page."""
    path = PurePosixPath(page.file.src_uri)
    if path.parent != FOLDER:
        return markdown
    return "\n\n".join([markdown.rstrip(), *(f"::: {name}" for name in public_names(path.stem))]) + "\n"
