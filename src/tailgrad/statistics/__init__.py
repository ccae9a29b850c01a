"""Intervals of means over prompts and training seeds, paired differences, and power."""

from tailgrad.statistics.intervals import Interval, mean_interval
from tailgrad.statistics.jackknife import jackknife_interval
from tailgrad.statistics.paired import paired_difference
from tailgrad.statistics.power import seed_deviation, seeds_needed

__all__ = ["Interval", "jackknife_interval", "mean_interval", "paired_difference", "seed_deviation", "seeds_needed"]
