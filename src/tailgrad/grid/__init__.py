"""Many trainings compared: estimators, budgets, policies, rewards, prompt sets and seeds."""

from tailgrad.grid.config import GridConfig
from tailgrad.grid.reading import read_grid
from tailgrad.grid.report import write_grid_report
from tailgrad.grid.run import run_grid

__all__ = ["GridConfig", "read_grid", "run_grid", "write_grid_report"]
