"""The rollout table on disk, and what fills it: prompts, sampling, scoring anew."""

from tailgrad.rollouts.config import SampleConfig
from tailgrad.rollouts.rescore import ScoreConfig, rescore
from tailgrad.rollouts.sample import sample
from tailgrad.rollouts.table import RolloutTable, read_metadata, read_table, write_table

__all__ = [
    "RolloutTable",
    "SampleConfig",
    "ScoreConfig",
    "read_metadata",
    "read_table",
    "rescore",
    "sample",
    "write_table",
]
