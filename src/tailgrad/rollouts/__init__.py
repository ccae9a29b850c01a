"""The rollout table on disk, the engine that fills it, and the gradients of its responses."""

from tailgrad.rollouts.config import SampleConfig
from tailgrad.rollouts.rescore import ScoreConfig, rescore
from tailgrad.rollouts.sample import sample
from tailgrad.rollouts.sketches import GradientConfig, SketchedGradients, sketch_gradients
from tailgrad.rollouts.table import RolloutTable, read_metadata, read_table, write_table

__all__ = [
    "GradientConfig",
    "RolloutTable",
    "SampleConfig",
    "ScoreConfig",
    "SketchedGradients",
    "read_metadata",
    "read_table",
    "rescore",
    "sample",
    "sketch_gradients",
    "write_table",
]
