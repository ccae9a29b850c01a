"""`tailgrad quickstart`: the embedded task from start to finish."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from tailgrad.options import OptionParser

if TYPE_CHECKING:
    from tailgrad.quickstart.config import QuickstartConfig

HELP: Final = "train a tiny policy for best-of-128 with 16 rollouts per prompt, and draw the curves"
EXTRA: Final = "train"


def make_parser() -> OptionParser[QuickstartConfig]:
    """The command's parser."""
    from tailgrad.quickstart.config import QuickstartConfig

    description = (
        "Fit a tiny policy to an embedded task, and train it with GRPO, TEA and flat TEA side by side. Then sample "
        "held-out prompts, and draw the best-of-N curves and V_N against the KL to the first policy. This takes "
        "several minutes on two cores. If it is interrupted, the same command goes on."
    )
    return OptionParser("quickstart", description, QuickstartConfig)


def run(words: Sequence[str]) -> None:
    """Run the quickstart; SIGINT and SIGTERM stop the commands that it started too."""
    config = make_parser().read(words)
    from tailgrad.quickstart.run import quickstart
    from tailgrad.runner import stop_on_signals

    stop_on_signals()
    quickstart(config)
