"""`tailgrad serve`: the best of N behind the API that people already use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from tailgrad.options import OptionParser

if TYPE_CHECKING:
    from tailgrad.serving import ServeConfig

HELP: Final = "serve the best of N behind an OpenAI-compatible API"
EXTRA: Final = "serve"
INTERRUPTED: Final = "nothing is being served any more"


def make_parser() -> OptionParser[ServeConfig]:
    """The command's parser."""
    from tailgrad.serving import ServeConfig

    description = (
        "Serve the best of N behind an OpenAI-compatible API: sample N responses, in this process or from another "
        "server (--base_url), score them, and answer with the best. Clients' keys are read from TAILGRAD_API_KEY."
    )
    return OptionParser("serve", description, ServeConfig)


def run(words: Sequence[str]) -> None:
    """Serve until told to end."""
    config = make_parser().read(words)
    from tailgrad.serving import serve

    serve(config)
