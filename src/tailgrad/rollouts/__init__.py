"""The rollout table on disk, and the engine that fills it."""

from tailgrad.rollouts.config import SampleConfig
from tailgrad.rollouts.sample import sample
from tailgrad.rollouts.table import RolloutTable, read_metadata, read_table, write_table

__all__ = ["RolloutTable", "SampleConfig", "read_metadata", "read_table", "sample", "write_table"]
