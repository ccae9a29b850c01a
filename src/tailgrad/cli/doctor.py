"""`tailgrad doctor`: what is installed and registered, and what mends what is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tailgrad.options import OptionParser

HELP: Final = "say what is installed, what trainers find of tailgrad, and what mends what is broken"
EXTRA: Final = "eval"


@dataclass(frozen=True)
class DoctorOptions:
    """`tailgrad doctor` has no options."""


def make_parser() -> OptionParser[DoctorOptions]:
    """The command's parser."""
    description = (
        "Look at this environment: which commands have what they need, which versions clash, and whether verl, SkyRL, "
        "rLLM and slime find tailgrad's estimators. Under what is missing or broken stands the command that mends it. "
        "The exit code is 1 if something is broken."
    )
    return OptionParser("doctor", description, DoctorOptions)


def run(words: Sequence[str]) -> int:
    """Print what is found; 1 if something is broken."""
    make_parser().read(words)
    from tailgrad.doctor import examine

    found = examine()
    print("\n".join(map(str, found)))
    return int(any(one.state == "broken" for one in found))
