"""`tailgrad score`: the responses of a rollout table, scored with another reward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from tailgrad.options import OptionParser
from tailgrad.processes import process_index

if TYPE_CHECKING:
    from tailgrad.rollouts import ScoreConfig

HELP: Final = "score the responses of a rollout table with another reward"
EXTRA: Final = "sample"


def make_parser() -> OptionParser[ScoreConfig]:
    """The command's parser."""
    from tailgrad.rollouts import ScoreConfig

    description = (
        "Score the responses of a rollout table with another reward; nothing is sampled. The table's own reward still "
        "picks the best of N, unless --selection says otherwise. If it is interrupted, the same command goes on."
    )
    return OptionParser("score", description, ScoreConfig)


def run(words: Sequence[str]) -> None:
    """Score, and say where the new table is."""
    config = make_parser().read(words)
    from tailgrad.rollouts import rescore

    out = rescore(config)
    if process_index() == 0:
        print(out)
