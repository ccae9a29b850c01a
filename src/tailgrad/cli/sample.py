"""`tailgrad sample`: responses to the prompts of a data set, scored, as a rollout table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from tailgrad.options import OptionParser
from tailgrad.processes import process_index

if TYPE_CHECKING:
    from tailgrad.rollouts import SampleConfig

HELP: Final = "sample n responses per prompt, score them, and write a rollout table"
EXTRA: Final = "sample"


def make_parser() -> OptionParser[SampleConfig]:
    """The command's parser."""
    from tailgrad.rollouts import SampleConfig

    description = (
        "Sample n responses per prompt, score them, and write a rollout table: Parquet, one row per response. "
        "If it is interrupted, the same command goes on."
    )
    return OptionParser("sample", description, SampleConfig)


def run(words: Sequence[str]) -> None:
    """Sample, and say where the table is."""
    config = make_parser().read(words)
    from tailgrad.rollouts import sample

    out = sample(config)
    if process_index() == 0:
        print(out)
