"""Rollouts on disk, and what fills a rollout table: prompts, sampling, scoring anew."""

from tailgrad.rollouts.config import SampleConfig
from tailgrad.rollouts.read import read_rollouts
from tailgrad.rollouts.rescore import ScoreConfig, rescore
from tailgrad.rollouts.sample import sample
from tailgrad.rollouts.table import read_metadata, write_table

__all__ = [
    "SampleConfig",
    "ScoreConfig",
    "read_metadata",
    "read_rollouts",
    "rescore",
    "sample",
    "write_table",
]
