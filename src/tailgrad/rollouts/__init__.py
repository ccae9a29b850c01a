"""Rollouts on disk, and what fills a rollout table: prompts, sampling, scoring anew."""

from typing import TYPE_CHECKING

from tailgrad.lazy import lazily

if TYPE_CHECKING:
    from tailgrad.rollouts.config import SampleConfig as SampleConfig
    from tailgrad.rollouts.config import ScoreConfig as ScoreConfig
    from tailgrad.rollouts.read import read_rollouts as read_rollouts
    from tailgrad.rollouts.rescoring import rescore as rescore
    from tailgrad.rollouts.sampling import sample as sample
    from tailgrad.rollouts.table import read_metadata as read_metadata
    from tailgrad.rollouts.table import write_table as write_table
else:
    __getattr__, __dir__, __all__ = lazily(
        __name__,
        {
            "config": ["SampleConfig", "ScoreConfig"],
            "read": ["read_rollouts"],
            "rescoring": ["rescore"],
            "sampling": ["sample"],
            "table": ["read_metadata", "write_table"],
        },
    )
